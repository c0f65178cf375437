"""T(x) of a bundle, in float64: a Gaussian mixture on features or on principal components of pixels; smoothed labels.

A mixture on features is a function of pixels. Labels are not, and neither are the views that a mixture on pixels may
see: they stand in the bundle, and whoever wrote them chose T with them. `stated` names what T so rests on.

points (n, p)   features, whitened where there is a map         T (n, K)  posteriors, tempered and smoothed
precision       (K, p) of a diagonal mixture; (K or 1, p, p) Cholesky factors of precisions of a full or shared one
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from certvae.verifier.programs import Program

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Labels:
    """Smoothed one-hot rows of the labels that the bundle holds."""

    classes: int
    smoothing: float

    def stated(self, rows: Arrays) -> str:  # noqa: ARG002 - whatever they are
        """What of the rows T rests on besides pixels."""
        return "labels"

    def __call__(self, images: np.ndarray, rows: Arrays) -> np.ndarray:  # noqa: ARG002 - it looks at no image
        return _smooth(np.eye(self.classes)[rows["labels"]], self.smoothing)


@dataclass(frozen=True)
class Mixture:
    """Posteriors of a mixture on the features of an encoder, or on pixels where there is none.

    On pixels each image is seen as its own view, moved by a row of `views`.
    """

    arrays: Arrays
    temperature: float
    smoothing: float
    scale: float
    warm: Program | None

    def stated(self, rows: Arrays) -> str:
        """What of the rows T rests on besides pixels: views, unless each is the image itself."""
        return "views" if self.warm is None and rows["views"].any() else ""

    def __call__(self, images: np.ndarray, rows: Arrays) -> np.ndarray:
        features = self.warm(images, self.scale) if self.warm else self._scores(shifted(images, rows["views"]))
        return _smooth(_mixture(features, self.arrays, self.temperature), self.smoothing)

    def _scores(self, images: np.ndarray) -> np.ndarray:
        pixels = images.reshape(len(images), -1).astype(np.float64) * self.scale
        return (pixels - self.arrays["teacher.pixel_mean"]) @ self.arrays["teacher.pixel_components"]


Teacher = Labels | Mixture
"""(images, other arrays by row) -> T."""


def teacher(given: Mapping[str, Any], arrays: Arrays, warm: Program | None, scale: float) -> Teacher:
    """The teacher of a network's document.

    Raises:
        ValueError: it is of no known kind.
    """
    match dict(given):
        case {"kind": "labels", "classes": int(classes), "smoothing": float(eps)}:
            return Labels(classes, eps)
        case {"kind": "features", "temperature": float(temperature), "smoothing": float(eps)} if warm is not None:
            return Mixture(arrays, temperature, eps, scale, warm)
        case {"kind": "pixels", "temperature": float(temperature), "smoothing": float(eps)}:
            return Mixture(arrays, temperature, eps, scale, None)
        case _:
            raise ValueError(f"no teacher is known of {dict(given)}")


def shifted(images: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Each image moved down and right by its own (n, 2) pixels; pixels at the edge are repeated into the gap."""
    height, width = images.shape[2:]
    rows = np.clip(np.arange(height) - views[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - views[:, 1:], 0, width - 1)
    image, channel = np.ogrid[: len(images), : images.shape[1]]
    return images[image[..., None, None], channel[..., None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _mixture(features: np.ndarray, arrays: Arrays, temperature: float) -> np.ndarray:
    """Posteriors of the components, tempered: softmax(log p / temperature)."""
    points = features
    if "teacher.pca_map" in arrays:
        points = (features - arrays["teacher.pca_mean"]) @ arrays["teacher.pca_map"]
    means, precision = arrays["teacher.means"], arrays["teacher.precision"]
    joint = _log_density(points, means, precision) + np.log(arrays["teacher.weights"])
    return _softmax(np.log(_softmax(joint)) / temperature) if temperature != 1 else _softmax(joint)


def _log_density(points: np.ndarray, means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Up to the constant that all components share."""
    columns = []
    for k, mean in enumerate(means):
        factor = precision[k if len(precision) > 1 else 0]
        away = points - mean
        scaled = away * factor if factor.ndim == 1 else away @ factor
        volume = np.log(factor if factor.ndim == 1 else np.diagonal(factor)).sum()
        columns.append(volume - 0.5 * np.square(scaled).sum(axis=1))
    return np.stack(columns, axis=1)


def _softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _smooth(rows: np.ndarray, eps: float) -> np.ndarray:
    return (1 - eps) * rows + eps / rows.shape[1]
