"""A frozen teacher that gradients pass through: T of images that a network makes, by the frozen encoder of the warm-up.

x  (n, C, H, W)  in [0, 1]     points (n, p)  whitened features     log T  (n, K)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from certvae.models.nets import Encoder
from certvae.spec.parts import Covariance
from certvae.teachers.kinds import FeatureTeacher


class ReadingTeacher(nn.Module):
    """`FeatureTeacher` on a frozen encoder, in torch; its parameters are constants and its input is not."""

    def __init__(self, encoder: Encoder, teacher: FeatureTeacher):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.covariance: Covariance = teacher.mixture.covariance
        self.temperature, self.smoothing = teacher.temperature, teacher.smoothing
        for name, array in teacher.mixture.arrays.items():
            self.register_buffer(name.rstrip("_"), torch.from_numpy(array.copy()).double())
        self.to(next(encoder.parameters()).device)

    def forward(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n K"]:
        """log T(x), float32."""
        logits = self._log_joint(self._points(self.encoder(x)[0].double())) / self.temperature
        posterior = functional.softmax(logits, dim=1)
        return ((1 - self.smoothing) * posterior + self.smoothing / posterior.shape[1]).log().float()

    def _points(self, features: Tensor) -> Tensor:
        kept = dict(self.named_buffers())
        return (features - kept["pca_mean"]) @ kept["pca_map"] if "pca_map" in kept else features

    def _log_joint(self, points: Tensor) -> Tensor:
        """log of weight times density of each component, up to a constant of all."""
        kept = dict(self.named_buffers())
        root, away = kept["precisions_cholesky"], points[:, None] - kept["means"]
        away, log_volume = self._whitened(away, root)
        return kept["weights"].log() + log_volume - 0.5 * away.square().sum(dim=2)

    def _whitened(self, away: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (n, K, p) under each component's precision, and log of the square root of its determinant."""
        match self.covariance:
            case "diag":
                return away * root, root.log().sum(dim=1)
            case "spherical":
                return away * root[:, None], away.shape[2] * root.log()
            case "tied":
                return away @ root, root.diagonal().log().sum()
            case "full":
                return torch.einsum("nkp,kpq->nkq", away, root), root.diagonal(dim1=1, dim2=2).log().sum(dim=1)
