"""How many units carry information: held against latents whose number of living units is known by construction."""

from collections import Counter

import numpy as np
import pytest
from scipy.special import log_softmax

from certvae.evaluation import diagnostics, units
from certvae.evaluation.units import Drawn
from certvae.simultaneous import in_sequence

D, DELTA = 8, 0.05


def planted(rng: np.random.Generator, centres: np.ndarray, rows: int, softness: float = 1.0) -> Drawn:
    """As many living units as centres have dimensions, each a noisy view of one that the teacher needs; then noise."""
    classes, alive = centres.shape
    s = centres[rng.integers(classes, size=rows)] + rng.standard_normal((rows, alive))
    T = np.exp(log_softmax((s @ centres.T - np.square(centres).sum(axis=1) / 2) / softness, axis=1))
    z = np.concatenate([s + 0.5 * rng.standard_normal(s.shape), rng.standard_normal((rows, D - alive))], axis=1)
    return Drawn(z, 0.99 * T + 0.01 / classes)


def world(seed: int, alive: int, train: int, certify: int) -> tuple[Drawn, Drawn, Drawn]:
    rng = np.random.default_rng(seed)
    centres, softness = 2 * rng.standard_normal((int(rng.choice([3, 10])), alive)), float(rng.choice([1.0, 3.0]))
    return tuple(planted(rng, centres, rows, softness) for rows in (train, max(50, train // 5), certify))


def counted(train: Drawn, guard: Drawn, held: Drawn, order: np.ndarray | None = None) -> int:
    order = np.arange(train.z.shape[1]) if order is None else order
    return in_sequence(units.evidence(order, train, guard, held, largest_delta=DELTA), DELTA)


def test_the_planted_number_is_found():
    found = Counter((alive, counted(*world(seed, alive, 2000, 2000))) for alive in (1, 3, 6) for seed in range(4))
    assert all(n <= alive for alive, n in found)
    assert sum(many for (alive, n), many in found.items() if n == alive) >= 10


def test_a_unit_without_information_is_hardly_ever_counted_however_few_rows_heads_are_fitted_to():
    """Each head is also fitted for longer than the one before it: with many certify rows that alone would show."""
    worlds = [(seed, alive, rows) for seed in range(6) for alive in (1, 3) for rows in (100, 300)]
    wrong = sum(counted(*world(seed, alive, rows, 5000)) > alive for seed, alive, rows in worlds)
    assert wrong <= 24 * DELTA * 2  # two standard deviations and more above what is allowed


def test_the_case_that_a_longer_fit_once_won_is_no_unit():
    rng = np.random.default_rng(104)
    centres = 2 * rng.standard_normal((10, 6))
    assert counted(*(planted(rng, centres, rows) for rows in (300, 60, 10_000))) <= 6


def test_a_dead_latent_has_no_unit():
    train, guard, held = (Drawn(rows.z[:, 3:], rows.T) for rows in world(0, 3, 500, 500))
    assert counted(train, guard, held) == 0


def test_a_copy_of_a_unit_is_not_another_one():
    one = world(1, 1, 2000, 2000)
    assert counted(*one) == 1
    assert counted(*(Drawn(rows.z[:, [0, 0]], rows.T) for rows in one)) == 1


def test_a_unit_that_fails_ends_the_count():
    """Whoever stands behind it is not tested: this is why the count is "at least"."""
    three = world(2, 3, 2000, 2000)
    assert counted(*three, order=np.arange(D)) == 3
    assert counted(*three, order=np.array([0, 7, 1, 2])) == 1


def test_what_is_said_at_one_delta_is_a_view_of_what_was_kept_for_a_larger_one():
    train, guard, held = world(3, 6, 2000, 200)
    kept = units.evidence(np.arange(D), train, guard, held, largest_delta=DELTA)
    for delta in (DELTA / 3, DELTA / 100, 1e-9):
        fresh = units.evidence(np.arange(D), train, guard, held, largest_delta=delta)
        assert in_sequence(kept, delta) == in_sequence(fresh, delta)


def test_units_stand_in_the_order_of_their_rate():
    mu = np.random.default_rng(0).standard_normal((500, 3)) * [0.1, 3.0, 1.0]
    seen = diagnostics.Passage(mu, np.full(mu.shape, -2.0), np.zeros(1))
    assert units.by_rate(seen).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("rows", "kept"), [(7, 7), (10_000, 10_000), (10_001, 5_001), (25_000, 8_334)])
def test_a_large_train_split_is_thinned(rows, kept):
    assert len(Drawn(np.zeros((rows, 1)), np.zeros((rows, 2))).thinned(units.FIT_ROWS).z) == kept
