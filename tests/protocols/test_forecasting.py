"""The forecast in rows: which modes have one, and that it is that of the data and the teacher of the cell."""

import dataclasses
from typing import Any

from certvae.evaluation.forecast import spectrum
from certvae.protocols import chain, forecasting
from certvae.protocols.forecasting import Pressure
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.control import Guard
from certvae.spec.parts import Bernoulli
from certvae.spec.presets import rescue, witness
from certvae.store.artifact import Artifact
from certvae.store.store import Store
from tests.laws import StageLaws
from tests.small_cells import MODEL, small_cell, small_digits, with_noise_in

CONTROLS = ("head_only", "untrained", "full_long", "permuted")


def forecast_modes(spec: CellSpec) -> dict[str, float]:
    found = {mode: chain.of(spec).pressure(mode) for mode in chain.modes(spec)}
    return {mode: pressure.lambda_ts for mode, pressure in found.items() if pressure is not None}


class TestSpectrum(StageLaws):
    stage = forecasting.spectrum

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": small_digits(store.path / "data"), "likelihood": MODEL.likelihood, "latent": 6}

    def others(self, store: Store) -> dict[str, Any]:
        noisy = with_noise_in(small_digits(store.path / "data"), ("train",), store.path / "data" / "noise")
        return {"dataset": noisy, "likelihood": Bernoulli(), "latent": 7}


class TestModes:
    def test_modes_whose_weights_move_have_none(self):
        protocol = dataclasses.replace(rescue("digits").protocol, controls=CONTROLS, controller=Guard())
        spec = dataclasses.replace(rescue("digits"), protocol=protocol)
        plain, aligned = dict.fromkeys(("no_align", "head_only"), 0.0), dict.fromkeys(("full", "rescue"), 5.0)
        assert forecast_modes(spec) == {**plain, **aligned, "full_long": 5.0}

    def test_a_baseline_with_another_prior_or_price_has_none(self):
        spec = dataclasses.replace(rescue("digits"), protocol=Baselines(lambda_ts=2.0))
        plain = ("vanilla", "beta_vae_low", "beta_vae_high", "kl_annealing")
        assert forecast_modes(spec) == {**dict.fromkeys(plain, 0.0), **{f"aligned_{name}": 2.0 for name in plain}}

    def test_of_the_witness_the_plain_vae_alone(self):
        assert forecast_modes(witness("mnist")) == {"vae": 0.0}


class TestRows:
    def test_rows_show_the_forecast_of_their_own_teacher(self, digits, tmp_path):
        store, spec = Store(tmp_path / "store"), small_cell(controls=("head_only", "untrained"))
        trained = chain.train(spec, digits, store)
        rows = {row["mode"]: row for row in chain.judge(trained, digits, store, "guard")}
        known = spectrum(digits, MODEL.likelihood, MODEL.encoder.latent)
        assert isinstance(trained.teacher, Artifact)
        taught = known.taught(trained.teacher.arrays["targets_train"], 5.0)
        assert rows["no_align"]["alpha_crit"] == rows["head_only"]["alpha_crit"] == known.plain().alpha_crit
        assert rows["full"]["alpha_crit"] == rows["rescue"]["alpha_crit"] == taught.alpha_crit
        assert taught.alpha_crit > known.plain().alpha_crit
        assert rows["full"]["forecast_units"] == taught.units(0.05) == MODEL.encoder.latent
        assert "alpha_crit" not in rows["untrained"]
        assert [event["stage"] for event in store.executions()].count("spectrum") == 1
        assert rows["full"]["stage_version_spectrum"] == forecasting.spectrum.version
        assert "stage_version_spectrum" not in rows["untrained"]

    def test_a_decoder_that_sees_the_teacher_dies_earlier_once_the_teacher_is_known(self, digits, tmp_path):
        model = dataclasses.replace(MODEL, decoder_sees_teacher=True)
        store, spec = Store(tmp_path / "store"), small_cell(model)
        trained = chain.train(spec, digits, store, only=("no_align",))
        known, pressure = forecasting.spectrum_of(model, digits, store), Pressure(0.05, decoder_sees_teacher=True)
        assert isinstance(trained.teacher, Artifact)
        before, after = (forecasting.ahead(known, pressure, one) for one in (None, trained.teacher))
        assert after.alpha_crit < before.alpha_crit
