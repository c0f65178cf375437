"""Intervals and tests for a handful of seeds. The seed is the unit of replication.

t            mean +- t_{n-1} s / sqrt(n): exact for Gaussian seeds at every n >= 2
bootstrap    percentile bootstrap of the mean: it behaves like a normal interval whose s is too small. For Gaussian
             seeds a nominal 95 % interval covers 75 % at n = 3, 89 % at n = 10 and 93 % from n = 25 on; below it is
             refused
sign_flip    exact when the paired differences are symmetric, but its smallest p is 2 / 2^n: 0.25 for three seeds
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from analysis.views import Refused

Method = Literal["t", "bootstrap"]
LEVEL = 0.95
BOOTSTRAP_SEEDS = 25  # below, a nominal 95 % percentile interval covers less than 93 % for Gaussian seeds
EXACT_SEEDS = 16  # up to here all 2^n sign patterns are tried, beyond a fixed draw of 2^16 of them


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval for a mean over seeds."""

    mean: float
    low: float
    high: float
    n: int
    method: Method
    level: float


@dataclass(frozen=True)
class SignFlip:
    """A two-sided p-value with the smallest one that n seeds can give."""

    p: float
    smallest: float
    n: int


def interval(values: Float[np.ndarray, " n"], method: Method = "t", level: float = LEVEL) -> Interval:
    """A confidence interval for the mean of one value per seed.

    Raises:
        Refused: fewer than two seeds, a value that is not finite, or a method that would lie for this many seeds.
    """
    _check(values, method)
    match method:
        case "t":
            low, high = _t_limits(values, level)
        case "bootstrap":
            low, high = _percentile_limits(values, level)
    return Interval(float(values.mean()), float(low), float(high), len(values), method, level)


def sign_flip(differences: Float[np.ndarray, " n"]) -> SignFlip:
    """How often a random choice of signs gives a mean as far from 0 as the differences have.

    Raises:
        Refused: no difference, or one that is not finite.
    """
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        raise _bad_values(differences, 1)
    reached = np.abs(_signs(n) @ differences) >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if n <= EXACT_SEEDS:
        return SignFlip(float(reached.mean()), 2 / 2**n, n)
    return SignFlip((1 + int(reached.sum())) / (1 + len(reached)), 1 / (1 + len(reached)), n)


def _signs(n: int) -> np.ndarray:
    """All 2^n rows of n signs, or a fixed draw of 2^16 of them."""
    if n > EXACT_SEEDS:
        return np.random.default_rng(0).choice((-1.0, 1.0), size=(2**EXACT_SEEDS, n))
    return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def _check(values: np.ndarray, method: Method) -> None:
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        raise _bad_values(values, 2)
    if method == "bootstrap" and n < BOOTSTRAP_SEEDS:
        raise Refused(
            8,
            f"a percentile bootstrap needs at least {BOOTSTRAP_SEEDS} seeds, got {n}",
            where="interval",
            cause="with few seeds it is too short: a nominal 95 % interval covers 75 % at n = 3 and 89 % at n = 10",
            remedy="use method='t' and show every seed, or run more seeds",
        )


def _bad_values(values: np.ndarray, least: int) -> Refused:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return Refused(
        8,
        f"wanted at least {least} seeds with finite values, got {len(values)} of which {bad} are not finite",
        where="interval",
        cause="one seed shows no spread, and a failed seed has no value",
        remedy="show the seeds one by one, or run more",
    )


def _t_limits(values: np.ndarray, level: float) -> tuple[float, float]:
    n = len(values)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return values.mean() - half, values.mean() + half


def _percentile_limits(values: np.ndarray, level: float) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", rng=np.random.default_rng(0)
    )
    return found.confidence_interval
