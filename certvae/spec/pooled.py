"""Estimates a constraint at each config from all configs: means over seeds, smoothed over what was drawn.

The best of many configs is one whose own mean was lucky. Its neighbours were not chosen, and they know better: the mean
violations are observations, with the known noise of their seeds, of one smooth function of what the sampler drew, a
Gaussian process, and its posterior stands for a config's own mean (Rasmussen and Williams 2006, 2.2 and 2.7; a Bayesian
posterior needs no correction for choosing, Senn 2008). No neighbour knows what a seed adds to all configs alike, the
same warm-up and teacher: that part of the noise, two thirds of the variance of PSNR on digits, stays in the error.

The process has a constant mean and a Matern 5/2 kernel, one length for all coordinates; length and variance maximise
the restricted likelihood on a grid, with no optimiser and no draw: a function of the outcomes alone.
"""

import math
from collections.abc import Sequence

import numpy as np

LENGTHS = (0.1, 0.2, 0.35, 0.6, 1.0, 1.8)
SIGNALS = (0.5, 2.0, 8.0, 32.0)
"""The grid: lengths in the unit cube, variances of the process in those of the means."""
LEAST, MOST = 10, 2000
"""Fewer configs know no neighbourhood, and of more each goes by itself: the time grows with the third power."""
LEARNED = 200
"""So many configs, evenly among all, choose length and variance."""


def components(values: np.ndarray) -> tuple[float, float]:
    """The variance that a seed has in common to all configs, and that of a config and seed, of (configs, seeds).

    Two-way analysis of variance without replication (Searle, Casella and McCulloch 1992, 4.7).
    """
    count, seeds = values.shape
    rest = values - values.mean(axis=1, keepdims=True)
    common = rest.mean(axis=0)
    own = float(((rest - common) ** 2).sum()) / ((count - 1) * (seeds - 1))
    return max(0.0, float((common**2).sum()) / (seeds - 1) - own / count), own


def smoothed(points: np.ndarray, means: Sequence[float], noise: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The posterior means and variances at the configs, (configs,) each; None where nothing can be pooled.

    Args:
        points: what was drawn, (configs, coordinates), each coordinate in [0, 1].
        means: of each config over its seeds.
        noise: variance of such a mean, given the function.
    """
    values = np.array(means, dtype=float)
    if not (LEAST <= len(values) <= MOST and points.size and noise > 0 and np.ptp(values) > 0):
        return None
    distances = np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2))
    some = np.arange(0, len(values), math.ceil(len(values) / LEARNED))
    near = distances[np.ix_(some, some)]
    grid = [(length, signal * float(values.var())) for length in LENGTHS for signal in SIGNALS]
    length, signal = max(grid, key=lambda one: _Process(near, values[some], noise, *one).likelihood)
    return _Process(distances, values, noise, length, signal).posterior


class _Process:
    """A Gaussian process of given length and variance, its constant mean estimated."""

    def __init__(self, distances: np.ndarray, values: np.ndarray, noise: float, length: float, signal: float):
        scaled = math.sqrt(5) * distances / length
        self._signal, self._kernel = signal, signal * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        self._root = np.linalg.cholesky(self._kernel + noise * np.eye(len(values)))
        self._ones, seen = np.linalg.solve(self._root, np.column_stack([np.ones_like(values), values])).T
        self._mean = (self._ones @ seen) / (self._ones @ self._ones)
        self._rest = seen - self._mean * self._ones

    @property
    def likelihood(self) -> float:
        """The logarithm of the restricted likelihood, up to a constant."""
        logs = np.log(np.diag(self._root)).sum() + np.log(self._ones @ self._ones) / 2
        return -float(self._rest @ self._rest) / 2 - float(logs)

    @property
    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance at the configs, the error of the constant mean with them."""
        seen = np.linalg.solve(self._root, self._kernel)
        unseen = 1 - self._ones @ seen
        spread = self._signal - (seen**2).sum(axis=0) + unseen**2 / (self._ones @ self._ones)
        return self._mean + self._rest @ seen, np.maximum(spread, 0.0)
