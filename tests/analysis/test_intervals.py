import itertools

import numpy as np
import pytest
from scipy import stats

from analysis.intervals import EXACT_SEEDS, interval, sign_flip
from analysis.views import Refused

WORLDS = 2000


@pytest.mark.parametrize("n", [3, 4, 5, 7, 10, 14, 20])
def test_a_nominal_95_percent_interval_covers_the_mean_of_gaussian_seeds(n):
    """The margin of error of 2000 worlds is 1 %: an interval that covers 92 % would fail."""
    seeds = np.random.default_rng(n).normal(0.7, 0.2, size=(WORLDS, n))
    found = (interval(world) for world in seeds)
    assert np.mean([one.low <= 0.7 <= one.high for one in found]) >= 0.935


def test_the_t_interval_is_that_of_a_paired_t_test():
    values = np.array([0.31, 0.52, 0.18, 0.44])
    known = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = interval(values, level=0.9)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [1.0, np.inf]])
def test_one_seed_or_a_failed_one_has_no_interval(values):
    with pytest.raises(Refused, match="wanted at least 2 seeds with finite values"):
        interval(np.array(values, dtype=float))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_smallest_p_is_reached_when_all_differences_agree(n):
    found = sign_flip(np.linspace(1, 2, n))
    assert found.p == found.smallest == 2 / 2**n


def test_sign_flips_count_all_patterns_that_lie_as_far_out():
    """Of the 8 sums of +-1 +-2 +-3 six are as far from 0 as 2: all but the two with 3 against 1 and 2."""
    assert sign_flip(np.array([-1.0, 2.0, 1.0])).p == pytest.approx(6 / 8)
    assert sign_flip(np.array([3.0, 2.0, 1.0])).p == pytest.approx(2 / 8)
    assert sign_flip(np.zeros(4)).p == 1.0


def test_sign_flips_are_those_of_all_patterns_counted_by_hand():
    values = np.random.default_rng(3).normal(0.4, 1, size=9)
    sums = np.array([np.dot(signs, values) for signs in itertools.product((-1, 1), repeat=9)])
    assert sign_flip(values).p == pytest.approx(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-12))


def test_beyond_16_seeds_a_fixed_draw_of_patterns_is_tried():
    values = np.random.default_rng(0).normal(0.1, 1, size=EXACT_SEEDS + 4)
    first = sign_flip(values)
    assert first == sign_flip(values)
    assert first.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert 0 < first.smallest < 4e-5


def test_a_failed_difference_is_not_flipped():
    with pytest.raises(Refused, match="1 are not finite"):
        sign_flip(np.array([1.0, np.nan]))
