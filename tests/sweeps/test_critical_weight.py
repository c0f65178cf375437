"""The study of the critical weight: a fine bracket around the base, and both likelihoods."""

from itertools import pairwise

import pytest

from certvae.errors import ConfigFault
from certvae.protocols import chain
from certvae.spec.parts import Bernoulli
from sweeps.critical_weight import BERNOULLI, STUDY, configs


@pytest.mark.parametrize("study", [STUDY, BERNOULLI])
def test_weights_lie_closely_on_both_sides_of_the_base_and_share_their_start(study):
    found = configs(study.preset("digits"))
    alphas = [chain.of(spec).columns("no_align")["alpha_kl"] for spec in found]
    assert alphas[0] < 1.4 / 1.15 < 1.4 < alphas[-1]
    assert 1.4 in alphas
    assert all(after / before < 1.15 for before, after in pairwise(alphas))
    assert len({chain.shared(spec)["warm_up"] for spec in found}) == 1


def test_the_other_likelihood_is_the_only_difference():
    mine, other = STUDY.preset("mnist"), BERNOULLI.preset("mnist")
    assert other.model.likelihood == Bernoulli()
    assert (mine.protocol, mine.training, mine.data) == (other.protocol, other.training, other.data)


def test_modes_that_are_asked_for_alone_are_planned_alone(tmp_path):
    found = STUDY.plan(store=tmp_path, workers=0, only=("no_align",), seeds=(0,), fields={"data.limit": 200})
    assert "no_align" in str(found)
    assert "rescue" not in str(found).split("plan")[-1]


def test_a_mode_that_no_cell_has_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigFault, match="did you mean 'full'"):
        STUDY.plan(store=tmp_path, workers=0, only=("ful",), fields={"data.limit": 200})
    assert STUDY.plan(store=tmp_path, workers=0, only=("full",), fields={"data.limit": 200})
