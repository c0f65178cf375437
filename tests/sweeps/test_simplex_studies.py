"""The studies of the simplex witness: what their configs share and what a search can draw."""

import pytest
from optuna.trial import FixedTrial

from certvae.data.loading import SOURCES
from certvae.engine.study import Study
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.presets import labels, protocol_of, witness
from certvae.spec.simplex import ESCAPES, FOUR
from certvae.spec.teachers import Labels, PcaGmm
from sweeps import mnist_simplex, simplex_escape, simplex_search, simplex_stress

STUDIES = (mnist_simplex.STUDY, simplex_stress.STUDY, simplex_escape.STUDY, simplex_search.STUDY)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@pytest.mark.parametrize("data", SOURCES)
def test_every_study_has_a_preset_for_every_data_set(study: Study, data: str):
    base = study.preset(data)
    assert base.data.name == data
    assert protocol_of(base).teacher.classes - 1 <= base.model.encoder.latent
    assert study.configs(base)


@pytest.mark.parametrize("study", STUDIES[:3], ids=lambda study: study.name)
def test_plain_studies_replicate_over_five_seeds(study: Study):
    assert study.seeds == (0, 1, 2, 3, 4)


class TestTable:
    def test_the_teacher_alone_differs_and_the_plain_vae_is_shared(self):
        printed, declared = mnist_simplex.configs(witness("mnist"))
        assert isinstance(protocol_of(printed).teacher, Labels)
        assert isinstance(protocol_of(declared).teacher, PcaGmm)
        assert protocol_of(printed).modes == FOUR
        first, second = chain.shared(printed), chain.shared(declared)
        assert {step for step in first if first[step] == second[step]} == {"initial", "vae"}

    def test_labels_follow_the_classes_that_are_kept(self):
        base = witness("cifar100")
        assert labels(base).classes == 100


class TestStress:
    def test_four_pressures_share_teacher_and_starts(self):
        base = simplex_stress.preset("mnist")
        found = simplex_stress.configs(base)
        assert [protocol_of(spec).alpha_kl for spec in found] == [1, 2, 4, 8]
        assert found[0].config == base.config
        keys = [chain.shared(spec) for spec in found]
        for step in ("teacher", "initial", "alpha_prefit"):
            assert len({key[step] for key in keys}) == 1
        for step in ("vae", "rst", "rst_alpha_prefit"):
            assert len({key[step] for key in keys}) == 4


def test_an_escape_study_watches_three_starts():
    assert protocol_of(simplex_escape.preset("mnist")).modes == ESCAPES


class TestSearchSpace:
    @staticmethod
    def _drawn(alpha_kl: float, ratio: float, beta: float) -> CellSpec:
        base = simplex_search.preset("mnist")
        return simplex_search.space(FixedTrial({"alpha_kl": alpha_kl, "alignment_ratio": ratio, "beta": beta}), base)

    def test_it_draws_the_three_weights_in_coordinates_that_can_be_told_apart(self):
        spec = self._drawn(2.0, 50.0, 4.0)
        protocol, head = protocol_of(spec), simplex_search.head_of(spec)
        assert (protocol.alpha_kl, head.beta) == (2.0, 4.0)
        assert protocol.lambda_ts * head.beta**2 / protocol.alpha_kl == pytest.approx(50.0)

    def test_it_leaves_teacher_and_data_alone(self):
        base, spec = simplex_search.preset("mnist"), self._drawn(0.5, 100.0, 9.0)
        assert protocol_of(spec).teacher == protocol_of(base).teacher
        assert (spec.data, spec.training, spec.model.encoder) == (base.data, base.training, base.model.encoder)

    def test_another_gain_at_the_same_pressure_shares_the_plain_vae(self):
        first, second = (chain.shared(self._drawn(2.0, 50.0, beta)) for beta in (3.0, 6.0))
        assert first["vae"] == second["vae"]
        assert first["rst_alpha_prefit"] != second["rst_alpha_prefit"]
