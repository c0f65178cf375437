"""Words of the three answers: each follows from its own bound, and only a dead channel is a collapse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae import answers

HEALTHY = {
    "population_bound": 1.8,
    "affine_population_bound": 1.7,
    "affine_margin": 1.9,
    "affine_gain": 2.2,
    "posterior_std": 0.44,
    "sampled_affine_population_bound": 1.6,
    "sampled_population_bound": 1.5,
    "kl_rate": 23.0,
}
DROWNED = {  # digits, seed 0, no_align at alpha_kl = 2: the means move by thousandths, and the posterior by one
    "population_bound": -0.3,
    "affine_population_bound": 1.36,
    "affine_margin": 1.54,
    "affine_gain": 464.0,
    "posterior_std": 0.999,
    "sampled_affine_population_bound": -0.18,
    "sampled_population_bound": -0.2,
    "kl_rate": 0.0022,
}


def test_a_healthy_network():
    words = (answers.head(HEALTHY), answers.mean(HEALTHY), answers.channel(HEALTHY))
    assert words == ("certified", "varies", "alive")
    assert not answers.collapsed(HEALTHY)


def test_a_dead_channel_under_means_that_a_large_gain_can_read():
    words = (answers.head(DROWNED), answers.mean(DROWNED), answers.channel(DROWNED))
    assert words == ("not certified", "below the noise", "dead")
    assert answers.collapsed(DROWNED)


def test_a_head_that_nobody_trained_on_a_live_code_is_no_collapse():
    row = {**HEALTHY, "population_bound": -0.1}
    assert (answers.head(row), answers.channel(row)) == ("not certified", "alive")
    assert not answers.collapsed(row)


def test_a_live_channel_shows_that_means_rise_above_the_noise_where_the_gain_alone_would_not():
    row = {**HEALTHY, "affine_gain": 18.0, "posterior_std": 0.6}
    assert answers.spread_bound(row) < row["posterior_std"]
    assert answers.mean(row) == "varies"
    assert answers.mean({**row, "sampled_affine_population_bound": -1.0, "sampled_population_bound": -1.0}) != "varies"


def test_means_are_below_no_noise_where_nobody_knows_the_gain():
    assert answers.mean({**DROWNED, "affine_gain": None}) == "not shown"
    assert answers.mean({**HEALTHY, "affine_gain": None}) == "varies"


def test_units_are_said_as_what_is_at_least_there():
    row = {"certified_units": 7, "latent_units": 16}
    assert answers.units(row) == "at least 7 of 16 certified, 9 not shown"
    assert answers.units({**row, "certified_units": 0}) == "none of 16 certified"
    assert answers.units({**row, "certified_units": None}) is answers.units({}) is None


def test_the_spread_is_that_of_the_margin_at_its_gain():
    assert answers.spread_bound(HEALTHY) == pytest.approx(1.9 / (2**0.5 * 2.2), rel=1e-12)


@pytest.mark.parametrize("say", [answers.head, answers.mean, answers.channel])
def test_a_row_without_the_numbers_has_no_answer(say):
    assert say({}) is None
    assert say(dict.fromkeys(HEALTHY)) is None


def test_not_known_is_never_dead():
    assert answers.channel({"kl_rate": 3.0, "sampled_population_bound": -1.0}) == "open"
    assert answers.channel({"sampled_population_bound": -1.0}) == "open"


@given(st.dictionaries(st.sampled_from(sorted(HEALTHY)), st.floats(-10, 10) | st.none()))
def test_only_a_small_rate_and_no_bound_on_draws_is_a_collapse(row):
    bounds = [row.get("sampled_affine_population_bound"), row.get("sampled_population_bound")]
    shown = any(bound is not None and bound > 0 for bound in bounds)
    small = row.get("kl_rate") is not None and row["kl_rate"] < answers.DEAD_RATE
    assert answers.collapsed(row) == (small and not shown)
