"""Specs: what cannot be built, what names a result, and what does not."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.canonical import canonical_json, digest, plain, stage_seed
from certvae.errors import ConfigFault
from certvae.spec.cell import CellSpec
from certvae.spec.control import Fixed, Guard
from certvae.spec.parts import Data, Training, check_tau
from certvae.spec.presets import rescue
from certvae.spec.rescue import Objective, Rescue, Unaligned
from certvae.spec.teachers import WarmUpGmm


class TestRefusals:
    @pytest.mark.parametrize(
        ("build", "said"),
        [
            (lambda: Objective(lambda_ts=0), "for no alignment read mode 'no_align'"),
            (lambda: Objective(alpha_kl=-1e-9), "alpha_kl must be >= 0"),
            (lambda: Objective(alpha_kl=math.nan), "alpha_kl must be a finite number"),
            (lambda: rescue("mnits"), "did you mean 'mnist'?"),
            (lambda: Data(name="folder:images"), "take the name of certvae.data.describe('folder:images')"),
            (lambda: Data(name="Folder@0123456789abcdef"), "a spec holds no place"),
            (lambda: Data(limit="3"), "limit must be a whole number, got '3' (str)"),  # pyright: ignore[reportArgumentType]
            (lambda: Data(guard_fraction=1.0), "guard_fraction must be > 0 and < 1"),
            (lambda: Training(epochs=True), "epochs must be a whole number, got True (bool)"),
            (lambda: Training(epochs=0), "epochs must be >= 1"),
            (lambda: WarmUpGmm(temperature=()), "at least one value"),
            (
                lambda: WarmUpGmm(temperature=(1.0, 0.0)),
                "temperature[1] must be > 0, got 0.0 | WarmUpGmm.temperature[1]",
            ),
            (lambda: CellSpec(seed=-1), "seed must be >= 0"),
            (lambda: CellSpec(seed=2**32), "seed must be"),
            (lambda: CellSpec(study="../up"), "a name of a-z"),
            (lambda: CellSpec(data=Training()), "data must be a Data"),  # pyright: ignore[reportArgumentType]
        ],
    )
    def test_says_what_was_wanted_what_was_found_and_what_to_do(self, build, said):
        with pytest.raises(ConfigFault) as caught:
            build()
        assert said in str(caught.value)
        assert str(caught.value).count(" | ") == 2

    @pytest.mark.parametrize("tau", [-1e-12, math.log(10), 2.5, math.nan, math.inf, True, "0.5"])
    def test_tau_outside_its_interval(self, tau):
        with pytest.raises(ConfigFault, match=r"inside \[0, log K\)"):
            check_tau(tau, 10)

    @pytest.mark.parametrize("tau", [0, 0.1, math.nextafter(math.log(10), 0)])
    def test_tau_inside_its_interval(self, tau):
        assert check_tau(tau, 10) == tau


class TestDigest:
    def test_a_whole_number_in_a_float_field_is_the_same_spec(self):
        assert digest(Objective(alpha_kl=1)) == digest(Objective(alpha_kl=1.0))

    def test_lists_and_tuples_are_the_same_spec(self):
        assert digest(WarmUpGmm(whitening=[0, 16])) == digest(WarmUpGmm(whitening=(0, 16)))  # pyright: ignore[reportArgumentType]

    def test_config_ignores_the_seed_and_cell_does_not(self):
        first, second = CellSpec(seed=1), CellSpec(seed=2)
        assert first.config == second.config
        assert first.cell != second.cell

    def test_every_field_changes_the_cell(self):
        base = CellSpec()
        changed = [
            dataclasses.replace(base, study="other"),
            dataclasses.replace(base, protocol=Rescue(objective=Objective(lambda_ts=6))),
            dataclasses.replace(base, training=Training(epochs=61)),
            dataclasses.replace(base, data=Data(limit=100)),
        ]
        assert len({spec.cell for spec in [base, *changed]}) == 5

    def test_a_controller_names_a_cell_and_its_absence_does_not(self):
        assert "controller" not in plain(Rescue())
        cells = {CellSpec(protocol=Rescue(controller=one)).cell for one in (None, Fixed(), Guard(), Guard(kappa=0.2))}
        assert len(cells) == 4

    def test_no_align_does_not_see_lambda_ts(self):
        assert digest(Objective(lambda_ts=1).unaligned()) == digest(Objective(lambda_ts=9).unaligned())
        assert not hasattr(Unaligned(), "lambda_ts")

    @given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none()))
    def test_key_order_does_not_matter(self, fields):
        assert canonical_json(fields) == canonical_json(dict(reversed(fields.items())))

    @pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, {1, 2}, object()])
    def test_values_without_a_canonical_text(self, value):
        with pytest.raises(ConfigFault):
            canonical_json({"field": value} if not isinstance(value, dict) else value)

    def test_negative_zero_is_zero(self):
        assert canonical_json(-0.0) == canonical_json(0.0)

    @given(st.integers(0, 2**32 - 1))
    def test_purposes_do_not_share_a_seed(self, seed):
        seeds = {stage_seed(seed, purpose) for purpose in ("warm_up", "teacher", "init", "order", "noise")}
        assert len(seeds) == 5
        assert all(0 <= value < 2**32 for value in seeds)
