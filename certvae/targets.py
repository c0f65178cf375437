"""Where the teacher row of an image comes from: the cache Q, one row for all, or a mixture read on features.

A frozen teacher is a mixture on the features of a frozen encoder: T is a function of x, and Q caches it. A live teacher
is the same mixture on the features of the encoder that is being trained: it drifts with it (arXiv 2605.05813).

    features  (n, d)  posterior means of an encoder       T  (n, K)  teacher rows on the simplex, never with a gradient
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certvae.mixture import FITTED, Features, Mixture, Rows
from certvae.store import Artifact
from certvae.training import Batch

Targets = Callable[[Batch, Float[Tensor, "n d"]], Tensor | None]
"""Teacher rows of a batch, given its posterior means; None where there is no teacher yet."""


def cached(batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor | None:  # noqa: ARG001 - Q does not look at the encoder
    """Q of these images."""
    return batch.teacher


@dataclass(frozen=True)
class Constant:
    """One row for all images: with the mean teacher row a decoder is left with the latent alone."""

    row: Float[np.ndarray, " K"]

    def __call__(self, batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor:  # noqa: ARG002 - the row is fixed
        return torch.as_tensor(self.row, dtype=mu.dtype, device=mu.device).expand(len(mu), -1)


@dataclass(frozen=True)
class FeatureTeacher:
    """The chosen mixture of a teacher search, tempered and smoothed: T as a function of features."""

    mixture: Mixture
    temperature: float
    smoothing: float
    device: str

    @classmethod
    def of(cls, teacher: Artifact, device: str) -> Self:
        """From the artifact of a search."""
        chosen, arrays = teacher.facts["chosen"], teacher.arrays
        fitted = {name: arrays[name] for name in (*FITTED, "pca_mean", "pca_map") if name in arrays}
        mixture = Mixture(chosen["covariance"], fitted)
        return cls(mixture, chosen["temperature"], teacher.facts["smoothing"], device)

    def rows(self, features: Features) -> Rows:
        """T of these features, float32."""
        return self.mixture.teacher(
            features, temperature=self.temperature, smoothing=self.smoothing, device=self.device
        )

    def __call__(self, batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor:  # noqa: ARG002 - live: only the features count
        return torch.from_numpy(self.rows(mu.detach().cpu().numpy())).to(mu.device)
