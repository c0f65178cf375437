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

From a random start a channel dies somewhat earlier, because growth is slow near a threshold.

    x  (n, D)  train rows in [0, 1]     T  (n, K)  teacher rows of the same rows      eigenvalues in units of alpha_kl
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse.linalg import svds

from certvae.data.dataset import Dataset
from certvae.spec.parts import Bernoulli, Gaussian, Model

DENSE = 4096  # features up to which all eigenvalues are computed
ROWS = 20_000  # train rows that a spectrum is estimated on, at most
MODES = 64  # eigenvalues of more features than `DENSE`
NEVER = 1e-6  # a pixel with a smaller variance p (1 - p) never changes: it has no mode
STRONGEST = 1e6  # alignment weight up to which a critical one is looked for


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

    def words(self, alpha_kl: float) -> str:
        """Where a KL weight lies, in one line."""
        known = " (local statement: the likelihood is not Gaussian)" if self.is_local else ""
        units, crit = self.units(alpha_kl), self.alpha_crit
        if units:
            return f"alpha_kl {alpha_kl:g}: {units} units expected, dead from {crit:.3g} on{known}"
        return f"alpha_kl {alpha_kl:g}: a dead code expected, {alpha_kl / crit:.2g} times alpha_crit {crit:.3g}{known}"


def forecast(dataset: Dataset, model: Model) -> Forecast:
    """Of a VAE of this model without alignment, from the train rows."""
    return of_rows(_pixels(dataset), model.likelihood, model.latent)


def of_rows(x: Float[np.ndarray, "n D"], likelihood: Gaussian | Bernoulli, latent: int | None) -> Forecast:
    """Of a VAE of so many units on these rows, values in [0, 1]."""
    return Forecast(_thresholds(_scaled(x, likelihood), latent), isinstance(likelihood, Bernoulli))


def aligned(dataset: Dataset, model: Model, teacher: Float[np.ndarray, "n K"], lambda_ts: float) -> Forecast:
    """Of a VAE that is aligned with a teacher by this weight.

    Args:
        teacher: rows of the train split, in its order.
    """
    scaled = _scaled(_pixels(dataset), model.likelihood)
    pulled = np.sqrt(lambda_ts) * _whitened(teacher[_chosen(len(teacher))].astype(np.float64))
    found = _thresholds(np.concatenate([scaled, pulled], axis=1), model.latent)
    return Forecast(found, isinstance(model.likelihood, Bernoulli))


def critical_weight(dataset: Dataset, model: Model, teacher: Float[np.ndarray, "n K"], alpha_kl: float) -> float:
    """The least alignment weight that keeps one unit alive at this KL weight; 0 where none is needed.

    It is infinite where a million is not enough.
    """
    data = _leading(_scaled(_pixels(dataset), model.likelihood))
    pull = _whitened(teacher[_chosen(len(teacher))].astype(np.float64))
    rows = np.concatenate([data, pull], axis=1)
    covariance = rows.T @ rows / len(rows)

    def excess(lambda_ts: float) -> float:
        weights = np.concatenate([np.ones(data.shape[1]), np.full(pull.shape[1], np.sqrt(lambda_ts))])
        return float(_largest(weights[:, None] * covariance * weights, 1)[0]) - alpha_kl

    if excess(0.0) > 0:
        return 0.0
    return _root(excess, 0.0, STRONGEST) if excess(STRONGEST) > 0 else np.inf


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    found: Any = brentq(rising, low, high)
    return float(found)


def _pixels(dataset: Dataset) -> Float[np.ndarray, "n D"]:
    rows = dataset.rows("train")
    images = dataset.images[rows[_chosen(len(rows))]]
    return images.reshape(len(images), -1).astype(np.float32) * np.float32(dataset.scale)


def _chosen(n: int) -> np.ndarray:
    """Positions of at most `ROWS` of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, ROWS)).round().astype(np.int64))


def _scaled(x: Float[np.ndarray, "n D"], likelihood: Gaussian | Bernoulli) -> Float[np.ndarray, "n d"]:
    """Centred pixels in units in which the likelihood has curvature one."""
    mean = x.mean(axis=0, dtype=np.float64)
    match likelihood:
        case Gaussian(variance=variance):
            return (x - mean) / np.sqrt(variance)
        case Bernoulli():
            changing = mean * (1 - mean) > NEVER
            p = mean[changing]
            return (x[:, changing] - p) / np.sqrt(p * (1 - p))


def _whitened(T: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """Sigma^(-1/2) (T - Tbar), where Sigma = diag(Tbar) - Tbar Tbar' has no inverse along constants."""
    mean = T.mean(axis=0)
    values, vectors = np.linalg.eigh(np.diag(mean) - np.outer(mean, mean))
    kept = values > NEVER * values[-1]
    return (T - mean) @ (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T


def _thresholds(rows: Float[np.ndarray, "n D"], latent: int | None) -> Float[np.ndarray, " modes"]:
    """Of as many modes as a latent has units, or as there are where that is not known."""
    leading = _leading(rows)
    most = leading.shape[1]
    return _largest(leading.T @ leading / len(leading), most if latent is None else min(latent, most))


def _leading(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n d"]:
    """The same rows; of very many features, their coordinates along the leading `MODES`."""
    n, features = rows.shape
    if features <= DENSE:
        return rows.astype(np.float64)
    found: Any = svds(rows, k=min(MODES, n - 1), v0=np.ones(min(n, features), rows.dtype))
    return (rows @ found[2].T).astype(np.float64)


def _largest(covariance: Float[np.ndarray, "d d"], count: int) -> Float[np.ndarray, " count"]:
    """The largest eigenvalues, in descending order."""
    last = len(covariance) - 1
    found = eigh(covariance, eigvals_only=True, subset_by_index=(last - count + 1, last))
    return np.maximum(found[::-1], 0.0)
