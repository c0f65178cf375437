"""Two networks of one's own, a residual one and a vision transformer, for images of any size that their strides divide.

    PYTHONPATH=.github/examples certvae run sweeps/tiny_fixed_q.py --data digits --model.decoder-sees-teacher \
      --model.network mynets:ResNetVae width=16 --teacher labels

Both normalise each image by itself (GroupNorm, LayerNorm) and drop nothing out: rows must not influence each other, and
a run that resumes must end with the same bytes. `certvae.testing.NetworkLaws` tests that, and so does every run.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, int, int]


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*(layer for _ in range(2) for layer in self._half(width)))

    @staticmethod
    def _half(width: int) -> list[nn.Module]:
        return [nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNetVae(nn.Module):
    """A stride for every halving of the image, and a residual block behind it; the decoder is its mirror."""

    def __init__(self, shape: Shape, classes: int, width: int = 32, halvings: int = 2, latent: int = 32):
        super().__init__()
        channels, height, wide = shape
        self.small = (width, height >> halvings, wide >> halvings)
        flat = width * self.small[1] * self.small[2]
        strides = [layer for _ in range(halvings) for layer in (Block(width), nn.Conv2d(width, width, 2, 2))]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), *strides, nn.SiLU(), nn.Flatten(), nn.Linear(flat, 2 * latent)
        )
        strides = [layer for _ in range(halvings) for layer in (nn.ConvTranspose2d(width, width, 2, 2), Block(width))]
        self.start = nn.Linear(latent + classes, flat)
        self.decoder = nn.Sequential(*strides, nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor, teacher: Tensor) -> Tensor:
        """This decoder reads the teacher row as well: Model.decoder_sees_teacher is true."""
        return self.decoder(self.start(torch.cat([z, teacher], dim=1)).view(-1, *self.small))


class VitVae(nn.Module):
    """Patches as tokens; mu and logvar are read from their mean, and the decoder begins with z in every place."""

    def __init__(self, shape: Shape, classes: int, patch: int = 8, width: int = 64, depth: int = 2, latent: int = 32):
        super().__init__()
        channels, height, wide = shape
        self.size, self.patch = (height, wide), patch
        places, pixels = (height // patch) * (wide // patch), channels * patch * patch
        self.into, self.out = nn.Linear(pixels, width), nn.Linear(width, pixels)
        self.seen, self.drawn = (nn.Parameter(0.02 * torch.randn(places, width)) for _ in range(2))
        self.reads, self.draws = self._layers(width, depth), self._layers(width, depth)
        self.code, self.start = nn.Linear(width, 2 * latent), nn.Linear(latent + classes, width)

    @staticmethod
    def _layers(width: int, depth: int) -> nn.Sequential:
        how = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        return nn.Sequential(
            *(nn.TransformerEncoderLayer(width, 4, 2 * width, **how) for _ in range(depth)), nn.LayerNorm(width)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patches = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        mu, logvar = self.code(self.reads(self.into(patches) + self.seen).mean(dim=1)).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor, teacher: Tensor) -> Tensor:
        tokens = self.start(torch.cat([z, teacher], dim=1))[:, None] + self.drawn
        patches = self.out(self.draws(tokens)).transpose(1, 2)
        return functional.fold(patches, self.size, self.patch, stride=self.patch)
