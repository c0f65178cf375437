"""The table of modes: what the protocols train has a row, and the rows refer to each other."""

from typing import get_args

import pytest

from certvae.spec import modes
from certvae.spec.baselines import SEVEN
from certvae.spec.modes import BY_NAME, MODES, contrasts, expected_sign, named, ordered, searched
from certvae.spec.simplex import ESCAPES, FOUR, WitnessMode


def test_names_are_distinct_and_refer_to_rows():
    assert len(BY_NAME) == len(MODES)
    for mode in MODES:
        assert {*mode.against, mode.continues or mode.name, mode.reference or mode.name} <= BY_NAME.keys()
        assert mode.twin is None or BY_NAME[mode.twin].sign == mode.sign


def test_every_mode_of_a_protocol_has_a_row():
    assert named("witness", "escape") == get_args(WitnessMode) == (*FOUR, *ESCAPES)
    assert set(named("baseline")) == {baseline.name for baseline in SEVEN}


def test_modes_that_nobody_knows_come_last_and_promise_nothing():
    assert ordered(["mine", "rescue", "full"]) == ["full", "rescue", "mine"]
    assert expected_sign("mine") is None


def test_contrasts_need_both_modes():
    assert contrasts(["full", "no_align", "rescue"]) == [("full", "no_align"), ("rescue", "full")]
    assert contrasts(["rescue", "no_align"]) == []


def test_a_row_is_enough_for_a_new_mode(monkeypatch):
    control = modes.Mode("control", "rescue", against=("no_align",))
    monkeypatch.setattr(modes, "MODES", (*MODES, control))
    assert contrasts(["control", "no_align"]) == [("control", "no_align")]
    assert "control" in named("rescue")


@pytest.mark.parametrize(
    ("trained", "about"),
    [
        (["full", "no_align", "rescue"], ("full", "no_align")),
        (["no_align", "rescue"], ("rescue", "no_align")),
        (["vae", "rst", "rst_prefit", "rst_alpha_prefit"], ("rst_alpha_prefit", "vae")),
        (["vae", "rst", "rst_prefit"], ("rst_prefit", "vae")),
        (["full"], None),
        (["vanilla", "gmvae"], None),
    ],
)
def test_a_search_is_about_a_mode_with_its_reference(trained, about):
    assert searched(("c", mode) for mode in trained) == about
