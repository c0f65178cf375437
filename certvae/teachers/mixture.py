"""Gaussian mixtures as plain arrays: fitted by scikit-learn, read as pure functions.

    features  (n, d)   any rows of numbers          points  (n, p)   the same rows, whitened where asked
    posterior (n, K)   component probabilities      K  components

A mixture is four arrays, and with whitening two more: no pickle. On a GPU the fit and the posterior run on
torch tensors through scikit-learn's array API; the host runs k-means, which starts EM, and EM on few points.
"""

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
import torch
from array_api_compat import array_namespace
from jaxtyping import Float
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch.linalg import LinAlgError  # pyright: ignore[reportAttributeAccessIssue]

from certvae.spec.parts import Covariance

Features = Float[np.ndarray, "n d"]
Rows = Float[np.ndarray, "n K"]
FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_")
FEW = 2**19
"""Rows times components times columns of an EM that is the host's: counted kernels say so, and no card has shown it."""
FLAT = 1e-12  # a principal direction with less than this share of the first one's variance does not vary


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture on (whitened) features: a pure function of its arrays."""

    covariance: Covariance
    arrays: dict[str, np.ndarray]
    """The four fitted arrays; with whitening, or behind a basis, also pca_mean (d,) and pca_map (d, p)."""

    @property
    def columns(self) -> int:
        """Of the features that it reads."""
        return len(self.arrays["pca_map"]) if "pca_map" in self.arrays else self.arrays["means_"].shape[1]

    def behind(self, basis: Mapping[str, np.ndarray]) -> "Mixture":
        """The same mixture of the features that a basis, of `principal`, narrowed for it."""
        if not basis:
            return self
        shift, turn = basis["pca_mean"], basis["pca_map"]
        whitened = "pca_map" in self.arrays
        mean = shift + turn @ self.arrays["pca_mean"] if whitened else shift
        map_ = turn @ self.arrays["pca_map"] if whitened else turn
        return Mixture(self.covariance, {**self.arrays, "pca_mean": mean, "pca_map": map_})

    def posterior(self, features: Features, device: str = "cpu") -> Rows:
        """Component posteriors, float64, of one device however many rows: that of a row rests on the row alone."""
        model = _OnceWhitened(len(self.arrays["weights_"]), covariance_type=self.covariance)
        for name in FITTED:
            setattr(model, name, _to(self.arrays[name], device))
        with _dispatch(device):
            return _from(model.predict_proba(_to(whiten(features, self.arrays), device)))

    def teacher(self, features: Features, *, temperature: float, smoothing: float, device: str = "cpu") -> Rows:
        """T of these rows: tempered, then smoothed; float32, because that is what is cached."""
        return smooth(temper(self.posterior(features, device), temperature), smoothing).astype(np.float32)


@dataclass(frozen=True)
class Fit:
    """What EM ended with."""

    mixture: Mixture
    converged: bool
    iterations: int


class _OnceWhitened(GaussianMixture):
    """scikit-learn's, except that a shared covariance whitens the points once per iteration and not once per component.

    For 60,000 points in 128 dimensions and 200 components that is a second instead of twenty.
    """

    def _estimate_log_prob(self, X: Any, xp: Any = None) -> Any:
        if self.covariance_type != "tied":
            return super()._estimate_log_prob(X, xp=xp)
        xp = array_namespace(X)
        map_, dimensions = self.precisions_cholesky_, X.shape[1]
        points, means = X @ map_, self.means_ @ map_
        squares = xp.sum(points**2, axis=1)[:, None] - 2.0 * (points @ means.T) + xp.sum(means**2, axis=1)
        log_volume = xp.sum(xp.log(xp.linalg.diagonal(map_)))
        return log_volume - 0.5 * (dimensions * math.log(2 * math.pi) + squares)


class Start:
    """Where EM starts: k-means clusters. One k-means serves every covariance and regulariser."""

    def __init__(self, points: Features, classes: int, seed: int):
        clusters = KMeans(classes, n_init=1, random_state=seed)  # pyright: ignore[reportArgumentType]
        # Where fewer points differ, clusters are empty: the teacher's quality tells.
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            labels = clusters.fit_predict(points)
        counts = np.bincount(labels, minlength=classes)
        self.weights = counts / counts.sum()
        self.means = clusters.cluster_centers_
        squares = (points - self.means[labels]) ** 2
        sums = np.stack([np.bincount(labels, column, classes) for column in squares.T], axis=1)
        self.variances = sums / np.maximum(counts, 1)[:, None]

    def precisions(self, covariance: Covariance, regulariser: float) -> np.ndarray:
        """Inverse of the within-cluster variances, in the shape scikit-learn keeps this covariance type in."""
        inverse = 1 / (self.variances + regulariser)
        match covariance:
            case "diag":
                return inverse
            case "spherical":
                return 1 / (self.variances.mean(axis=1) + regulariser)
            case "tied":
                return np.diag(1 / (self.weights @ self.variances + regulariser))
            case "full":
                return np.stack([np.diag(row) for row in inverse])


def fit(
    points: Features, start: Start, covariance: Covariance, regulariser: float, max_iterations: int, device: str
) -> Fit:
    """EM from `start`, float64; few points are the host's, whatever the device.

    Raises:
        ValueError: when a covariance is singular.
    """
    device = device if points.size * len(start.means) > FEW else "cpu"
    model = _OnceWhitened(
        len(start.means),
        covariance_type=covariance,
        reg_covar=regulariser,
        max_iter=max_iterations,
        init_params="random_from_data",  # never used: all three starting arrays are given
        weights_init=_to(start.weights, device),
        means_init=_to(start.means, device),
        precisions_init=_to(start.precisions(covariance, regulariser), device),
    )
    # Convergence is reported as a number, and an empty component weighs 0.
    unwarned = warnings.catch_warnings(action="ignore", category=ConvergenceWarning)
    with unwarned, np.errstate(divide="ignore"), _dispatch(device):
        try:
            model.fit(_to(points, device))
        except LinAlgError as error:  # scikit-learn translates it for numpy arrays alone
            raise ValueError(f"Fitting the mixture model failed: {error}.") from error
    arrays = {name: _from(getattr(model, name)) for name in FITTED}
    return Fit(Mixture(covariance, arrays), bool(model.converged_), int(model.n_iter_))


def pca(features: Features, dimensions: int) -> dict[str, np.ndarray]:
    """Mean and whitening map of the first principal components that vary; nothing for 0 dimensions."""
    if dimensions == 0:
        return {}
    found = PCA(min(dimensions, *features.shape), svd_solver="covariance_eigh").fit(features.astype(np.float64))
    variances = np.asarray(found.explained_variance_)
    varying = variances > FLAT * variances[0]
    components = np.asarray(found.components_)[varying]
    return {"pca_mean": found.mean_, "pca_map": components.T / np.sqrt(variances[varying])}


def principal(features: Features, dimensions: int, seed: int) -> dict[str, np.ndarray]:
    """Mean and orthonormal map of the first principal components, by a randomised method: for features of many columns.

    Nothing of it is whitened, so a mixture on them sees the distances of the features, as far as the components do.
    """
    found = PCA(min(dimensions, *features.shape), svd_solver="randomized", random_state=seed).fit(features)
    return {"pca_mean": found.mean_, "pca_map": np.ascontiguousarray(np.asarray(found.components_).T)}


def whiten(features: Features, arrays: Mapping[str, np.ndarray]) -> Features:
    """Features in the space of the mixture, float64."""
    points = features.astype(np.float64)
    return (points - arrays["pca_mean"]) @ arrays["pca_map"] if "pca_map" in arrays else points


def temper(posterior: Rows, temperature: float) -> Rows:
    """softmax(log p / temperature): 1 leaves the rows as they are, larger is softer."""
    if temperature == 1:
        return posterior
    powered = posterior ** (1 / temperature)
    return powered / powered.sum(axis=1, keepdims=True)


def smooth(rows: Rows, eps: float) -> Rows:
    """(1 - eps) T + eps / K. The smoothed rows are the teacher: in training, in search and in every report."""
    return (1 - eps) * rows + eps / rows.shape[1]


def _dispatch(device: str) -> AbstractContextManager[Any]:
    return nullcontext() if device == "cpu" else sklearn.config_context(array_api_dispatch=True)


def _to(array: np.ndarray, device: str) -> Any:
    return array if device == "cpu" else torch.from_numpy(array).to(device)


def _from(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
