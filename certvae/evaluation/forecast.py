"""When a code collapses, before anything is trained: thresholds of the KL weight from the spectrum of the data.

The trivial solution of a linear VAE is stable along a mode exactly when the mode's eigenvalue is below alpha_kl. So it
keeps `lambda_i(Cov x) / s_x^2 > alpha_kl`, and dies at `alpha_crit = lambda_1 / s_x^2` (arXiv 2510.01621; a cascade of
thresholds equal to the normalised spectrum, arXiv 2605.22691; linear case: Lucas et al. 2019, Dai et al. 2018).

Gaussian   Cov(x) / s_x^2, exact for a linear VAE and local at the trivial solution of a deep one.
Bernoulli  Cov(y), y = (x - p) / sqrt(p (1 - p)), p the mean image: the curvature of the log-likelihood at p. Local: it
           says nothing of states far from p, and pixels that hardly ever change weigh as much as the others.
Alignment  adds a curvature of its own. With Sigma = diag(Tbar) - Tbar Tbar' (second order of L_TS at the best constant,
           arXiv 2605.05813) the rows y beside sqrt(lambda_ts) Sigma^(-1/2) (T - Tbar) take the place of y: an encoder
           that sees x can form both.
Decoder    one that reads T(x) needs no latent for what T says: what a linear map of T leaves of y takes its place. That
           is a lower end: a deep decoder may read z along another axis in every class, which keeps a unit alive up to
           the largest lambda_1(Cov(y | T)).

A surviving unit of a linear VAE carries 1/2 log(lambda_i / alpha_kl) nats, so a channel is called dead a little before
alpha_crit: a single unit falls below 0.05 nats at 0.905 alpha_crit. Near a threshold growth is slow, and so is death.

    x  (n, D)  train rows in [0, 1]     T  (n, K)  teacher rows of the same rows      eigenvalues in units of alpha_kl
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse.linalg import svds

from certvae.answers import DEAD_RATE
from certvae.data.dataset import Dataset
from certvae.spec.parts import Bernoulli, Gaussian
from certvae.terminal import number_of

DENSE = 4096  # features up to which the covariance is formed
ROWS = 20_000  # train rows that a spectrum is estimated on, at most
ENTRIES = 2**26  # numbers of these rows, at most: 256 MiB
BLOCK = 1024  # rows that are summed at once, in float64
MODES = 64  # coordinates that are kept of every row, or as many as the code has units
NEVER = 1e-6  # a pixel with a smaller variance p (1 - p) never changes: it has no mode
STRONGEST = 1e6  # alignment weight up to which a critical one is looked for
NAMED = 5  # KL weights that a line names
LOCAL = " (local statement: the likelihood is not Gaussian)"


@dataclass(frozen=True)
class Forecast:
    """Thresholds of alpha_kl, largest first: mode i of the code is alive below the i-th.

    thresholds   eigenvalues, no more than the code has units
    is_local     the likelihood is not Gaussian, so that the statement holds near the trivial solution alone
    """

    thresholds: Float[np.ndarray, " modes"]
    is_local: bool

    @property
    def alpha_crit(self) -> float:
        """The KL weight from which on the code is dead."""
        return float(self.thresholds[0])

    def units(self, alpha_kl: float) -> int:
        """Modes that survive this KL weight."""
        return int((self.thresholds > alpha_kl).sum())

    def rate(self, alpha_kl: float) -> float:
        """The KL rate of a linear code, nats: 1/2 log(threshold / alpha_kl) of each unit that survives."""
        alive = self.thresholds[self.thresholds > alpha_kl]
        return 0.5 * float(np.log(alive / alpha_kl).sum()) if alpha_kl > 0 else np.inf

    @property
    def alpha_dead(self) -> float:
        """The KL weight from which on that rate is below what a channel is called dead for; at most alpha_crit."""
        logs = np.log(self.thresholds[self.thresholds > 0])
        levels = (np.cumsum(logs) - 2 * DEAD_RATE) / np.arange(1, 1 + len(logs))  # the largest: water-filling
        return float(np.exp(levels.max())) if len(logs) else 0.0

    def words(self, alpha_kl: float) -> str:
        """Where a KL weight lies, in one line."""
        known, units, crit = LOCAL * self.is_local, self.units(alpha_kl), self.alpha_crit
        if units:
            return f"alpha_kl {alpha_kl:g}: {number_of(units, 'unit')} expected, dead from {crit:.3g} on{known}"
        if not crit:
            return f"alpha_kl {alpha_kl:g}: a dead code expected, as at any weight: train rows do not vary"
        return f"alpha_kl {alpha_kl:g}: a dead code expected, {alpha_kl / crit:.2g} times alpha_crit {crit:.3g}{known}"

    def across(self, weights: Sequence[float]) -> str:
        """Where several KL weights lie, rising, in one line; of many the two ends."""
        shown, joined = (weights, ", ") if len(weights) <= NAMED else ((weights[0], weights[-1]), " to ")
        units = joined.join(f"{self.units(weight)} at {weight:.3g}" for weight in shown)
        return f"dead from alpha_kl {self.alpha_crit:.3g} on, units expected {units}{LOCAL * self.is_local}"


@dataclass(frozen=True)
class Spectrum:
    """Train rows in units in which the likelihood has curvature one, along their leading modes: no pixel is needed
    for what follows.

    scores   coordinates of centred rows        rows     their positions in the train split
    latent   units of the code, where known     is_local see `Forecast`
    """

    scores: Float32[np.ndarray, "n d"]
    rows: Int64[np.ndarray, " n"]
    latent: int | None
    is_local: bool

    def plain(self) -> Forecast:
        """Of a VAE without alignment, whose decoder reads the latent alone."""
        return self._of(self.scores.astype(np.float64))

    def taught(self, T: Float[np.ndarray, "n K"], lambda_ts: float, *, decoder_sees_teacher: bool = False) -> Forecast:
        """Of a VAE beside a teacher, aligned with it by this weight.

        Args:
            T: rows of the whole train split, in its order.
        """
        data, pull = self._beside(T, decoder_sees_teacher=decoder_sees_teacher)
        return self._of(np.concatenate([data, np.sqrt(lambda_ts) * pull], axis=1))

    def critical_weight(
        self, T: Float[np.ndarray, "n K"], alpha_kl: float, *, decoder_sees_teacher: bool = False
    ) -> float:
        """The least alignment weight that keeps one unit alive at this KL weight; 0 where none is needed.

        It is infinite where a million is not enough.
        """
        data, pull = self._beside(T, decoder_sees_teacher=decoder_sees_teacher)
        rows = np.concatenate([data, pull], axis=1)
        covariance = rows.T @ rows / len(rows)

        def excess(lambda_ts: float) -> float:
            weights = np.concatenate([np.ones(data.shape[1]), np.full(pull.shape[1], np.sqrt(lambda_ts))])
            return float(_largest(weights[:, None] * covariance * weights, 1)[0]) - alpha_kl

        if excess(0.0) > 0:
            return 0.0
        return _root(excess, 0.0, STRONGEST) if excess(STRONGEST) > 0 else np.inf

    def _beside(
        self, T: Float[np.ndarray, "n K"], *, decoder_sees_teacher: bool
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n K"]]:
        """What reconstruction and what alignment of weight one ask of a code."""
        scores, taught = self.scores.astype(np.float64), T[self.rows].astype(np.float64)
        told = _told(scores, taught) if decoder_sees_teacher else 0.0
        return scores - told, _whitened(taught)

    def _of(self, rows: Float[np.ndarray, "n d"]) -> Forecast:
        count = rows.shape[1] if self.latent is None else min(self.latent, rows.shape[1])
        return Forecast(_largest(rows.T @ rows / len(rows), count), self.is_local)


def spectrum(dataset: Dataset, likelihood: Gaussian | Bernoulli, latent: int | None) -> Spectrum:
    """Of the train rows, or of as many, evenly spread, as fit into the memory that is granted."""
    rows = dataset.rows("train")
    chosen = _chosen(len(rows), int(np.prod(dataset.shape)))
    scaled = _scaled(_pixels(dataset, rows[chosen]), likelihood)
    return Spectrum(_leading(scaled, max(MODES, latent or 0)), chosen, latent, isinstance(likelihood, Bernoulli))


def of_rows(x: Float[np.ndarray, "n D"], likelihood: Gaussian | Bernoulli, latent: int | None) -> Forecast:
    """Of a VAE of so many units on these rows, values in [0, 1], without alignment."""
    scores = _leading(_scaled(x.astype(np.float32), likelihood), max(MODES, latent or 0))
    return Spectrum(scores, np.arange(len(x)), latent, isinstance(likelihood, Bernoulli)).plain()


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    found: Any = brentq(rising, low, high)
    return float(found)


def _pixels(dataset: Dataset, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n D"]:
    x = dataset.images[rows].reshape(len(rows), -1).astype(np.float32)
    x *= np.float32(dataset.scale)
    return x


def _chosen(n: int, features: int) -> Int64[np.ndarray, " m"]:
    """Positions of at most `ROWS` of n rows, evenly spread, that hold at most `ENTRIES` numbers."""
    most = min(n, ROWS, max(2, ENTRIES // features))
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))


def _scaled(x: Float32[np.ndarray, "n D"], likelihood: Gaussian | Bernoulli) -> Float32[np.ndarray, "n d"]:
    """Centred pixels in units in which the likelihood has curvature one; the rows are used up."""
    mean = x.mean(axis=0, dtype=np.float64)
    match likelihood:
        case Gaussian(variance=variance):
            x -= mean.astype(np.float32)
            x /= np.float32(np.sqrt(variance))
            return x
        case Bernoulli():
            changing = mean * (1 - mean) > NEVER
            x, p = x[:, changing], mean[changing]
            x -= p.astype(np.float32)
            x /= np.sqrt(p * (1 - p)).astype(np.float32)
            return x


def _told(y: Float[np.ndarray, "n d"], T: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n d"]:
    """The part of centred rows that a linear map of the teacher rows gives."""
    centred = T - T.mean(axis=0)
    return centred @ (np.linalg.pinv(centred.T @ centred, rcond=NEVER, hermitian=True) @ (centred.T @ y))


def _whitened(T: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """Sigma^(-1/2) (T - Tbar), where Sigma = diag(Tbar) - Tbar Tbar' has no inverse along constants."""
    mean = T.mean(axis=0)
    values, vectors = np.linalg.eigh(np.diag(mean) - np.outer(mean, mean))
    kept = values > NEVER * values[-1]
    return (T - mean) @ (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T


def _leading(rows: Float32[np.ndarray, "n D"], modes: int) -> Float32[np.ndarray, "n d"]:
    """Coordinates along the leading modes, in no order; of very many features the covariance is never formed."""
    n, features = rows.shape
    if features <= modes:
        return rows
    if features > DENSE:
        found: Any = svds(rows, k=min(modes, n - 1), v0=np.ones(min(n, features), rows.dtype))
        return rows @ found[2].T
    covariance = sum(block.T @ block for block in _blocks(rows))
    vectors = eigh(covariance, subset_by_index=(features - modes, features - 1))[1]
    return np.concatenate([block @ vectors for block in _blocks(rows)]).astype(np.float32)


def _blocks(rows: Float32[np.ndarray, "n D"]) -> Iterator[Float[np.ndarray, "m D"]]:
    return (rows[start : start + BLOCK].astype(np.float64) for start in range(0, len(rows), BLOCK))


def _largest(covariance: Float[np.ndarray, "d d"], count: int) -> Float[np.ndarray, " count"]:
    """The largest eigenvalues, in descending order; a single zero where nothing varies."""
    if not len(covariance):
        return np.zeros(1)
    last = len(covariance) - 1
    found = eigh(covariance, eigvals_only=True, subset_by_index=(last - count + 1, last))
    return np.maximum(found[::-1], 0.0)
