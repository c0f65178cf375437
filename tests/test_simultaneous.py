"""Claims that share an error probability hold together, beside each other and in an order."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom

from certvae.simultaneous import holm, in_sequence


def exact(seen: float):
    """The exact bound of the mean of a normal variable with deviation 1 that was seen once."""
    return lambda delta: seen + ndtri(delta)


def held(bounds, delta: float) -> set[int]:
    return {claim for claim, bound in enumerate(holm(bounds, delta)) if bound > 0}


@pytest.mark.parametrize("true", [0, 1, 3, 5])
def test_claims_that_share_a_delta_hold_together(true):
    """Five claims that depend on each other, of which some are true: any wrong one among them counts as an error."""
    generator, wrong, repeats = np.random.default_rng(true), 0, 4000
    for _ in range(repeats):
        shared = generator.normal()
        seen = 0.6 * shared + 0.8 * generator.normal(size=5) + np.array([3.0] * true + [0.0] * (5 - true))
        wrong += any(claim >= true for claim in held([exact(value) for value in seen], 0.1))
    assert wrong <= binom.ppf(0.999, repeats, 0.1 if true < 5 else 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5), st.floats(0.1, 1))
def test_claims_are_those_of_the_definition_and_fall_with_delta(p_values, delta, share):
    """Holm (1979): sorted p-values against delta / k, delta / (k - 1), ..., up to the first that is too large."""

    def bound(p: float):
        return lambda level: 1.0 if p <= level else -1.0

    found = held([bound(p) for p in p_values], delta)
    order, kept = sorted(range(len(p_values)), key=p_values.__getitem__), set()
    for place, claim in enumerate(order):
        if p_values[claim] > delta / (len(order) - place):
            break
        kept.add(claim)
    assert found == kept
    assert held([bound(p) for p in p_values], share * delta) <= found
    alone = {claim for claim, p in enumerate(p_values) if p <= delta / len(p_values)}
    assert alone <= found <= {claim for claim, p in enumerate(p_values) if p <= delta}


def test_a_claim_more_costs_and_none_is_no_claim():
    alone, beside = holm([exact(2.0)], 0.05), holm([exact(2.0), exact(-5.0)], 0.05)
    assert alone == [exact(2.0)(0.05)]
    assert beside == [exact(2.0)(0.025), exact(-5.0)(0.05)]
    assert holm([], 0.05) == []


def test_claims_in_an_order_end_at_the_first_that_fails():
    enough = -math.log(0.05)
    assert in_sequence(np.array([9.0, enough, 2.9, 9.0]), 0.05) == 2
    assert (in_sequence(np.array([]), 0.05), in_sequence(np.array([9.0, 9.0]), 0.05)) == (0, 2)
