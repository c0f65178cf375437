"""A small network of somebody's own that breaks one law at a time."""

import time

import torch
from torch import Tensor, nn


class Planted(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, flaw: str = "none"):
        super().__init__()
        self.shape, self.flaw = shape, flaw
        self.reads = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), self._norm(), nn.SiLU())
        self.code, self.draws = nn.Linear(16, 8), nn.Linear(4, 64)
        if flaw == "unused":
            self.never = nn.Linear(2, 2)
        if flaw == "attention":
            self.gate = nn.Parameter(torch.zeros(()))  # closed at the start, as such gates often are
        if flaw == "clock":
            nn.init.constant_(self.code.bias, time.perf_counter_ns() % 2**24)  # what float32 tells apart
        if flaw == "hidden":
            self.shift = (torch.randn(4),)
        if flaw == "no_decode":
            self.decode = None

    def _norm(self) -> nn.Module:
        match self.flaw:
            case "batch_norm":
                return nn.BatchNorm1d(16)
            case "dropout":
                return nn.Dropout(0.5)
            case _:
                return nn.LayerNorm(16)

    def encode(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.flaw == "error":
            raise ValueError("as planted")
        features = self.reads(x)
        if self.flaw == "attention":
            features = features + self.gate * (features @ features.T).softmax(dim=1) @ features
        mu, logvar = self.code(features).chunk(2, dim=1)
        if self.flaw == "hidden":
            mu = mu + self.shift[0].to(mu)
        if self.flaw == "one_output":
            return mu
        return mu, logvar[:, :3] if self.flaw == "short_logvar" else logvar

    def decode(self, z: Tensor) -> Tensor:
        drawn = self.draws(z)
        if self.flaw == "batch_mean":
            drawn = drawn - drawn.detach().mean(dim=0)  # no gradient tells of it
        if self.flaw == "sigmoid":
            drawn = drawn.sigmoid()
        return drawn if self.flaw == "flat" else drawn.view(-1, *self.shape)
