"""The study of collapse: what its configs share, and that something in it must die."""

import pytest

from certvae.data.loading import load
from certvae.evaluation.forecast import spectrum
from certvae.protocols import chain
from sweeps.collapse_and_rescue import STUDY, configs, preset

MODES = ("full", "no_align", "rescue", "guarded_full", "guarded_rescue")


def test_the_configs_share_warm_up_and_teacher_and_differ_in_every_mode():
    keys = [chain.shared(spec) for spec in configs(preset("digits"))]
    assert len(keys) == 5
    assert all(len({one[step] for one in keys}) == 1 for step in ("warm_up", "teacher"))
    assert all(len({one[mode] for one in keys}) == 5 for mode in MODES)


@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10"])
def test_guarded_modes_stand_beside_plain_ones(data):
    for spec in configs(preset(data)):
        assert set(MODES) <= set(chain.modes(spec))
    assert STUDY.seeds == (0, 1, 2)


def test_the_grid_lies_on_both_sides_of_the_collapse_that_the_data_forecasts(tmp_path):
    found = configs(preset("digits"))
    dataset = load(found[0].data, cache=tmp_path, progress=False)
    expected = spectrum(dataset, found[0].model.likelihood, found[0].model.encoder.latent).plain()
    weights = [chain.of(spec).columns("full")["alpha_kl"] for spec in found]
    assert [expected.units(weight) > 0 for weight in weights] == [True, True, False, False, False]
