"""Drift near a collapse: the bound, a simulation at the same drift, and where nothing can be said."""

import math

import numpy as np
import pytest

from certvae.drift import hitting_bound, risk


def test_drift_near_the_boundary():
    """dG = m dt + s dW: the bound, and a simulation at the same drift."""
    assert hitting_bound(0.5, 0.6, 0.4) == pytest.approx(0.3292, abs=1e-4)
    assert hitting_bound(0.0, 0.6, 0.4) == hitting_bound(0.5, 0.6, 0.0) == 1.0
    generator = np.random.default_rng(0)
    margin, alive = np.full(4000, 0.4), np.ones(4000, bool)
    for _ in range(4000):
        margin += 0.5 * 2e-3 + 0.6 * math.sqrt(2e-3) * generator.standard_normal(4000)
        alive &= margin > 0
    assert 1 - alive.mean() <= 0.3292 + 0.02


def test_the_risk_of_a_margin_that_falls_is_one_and_of_few_decisions_unknown():
    assert risk([0.1, 0.2], 0.4) is None
    assert risk([0.1, 0.1, 0.1], 0.4) is None
    assert risk([-0.1, -0.2, 0.1], 0.4) == 1.0
    rising = risk([0.1, 0.2, 0.1, 0.0], 0.4)
    assert rising is not None
    assert rising < 1e-3
