"""Programs: functions of rows, each a list of layers of a closed set that reads one named thing. All of it in float64.

    body   x -> h        mu, logvar   h -> (n, d)        head, affine_means, affine_draws   z -> (n, K)
    warm   x -> (n, f)   what a teacher reads that looks at an encoder's features

There is no logvar where mu is one of some codes.

A head is cut at z because there is no way to write one that is not: a program is called with the one thing that it
reads, and every layer treats each row by itself. There is no BatchNorm in the set, no operation over rows, no
constant with a row of its own. What is not in the set is refused by its name, and never looked up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from certvae.errors import BundleFault

READS = {
    "body": "x",
    "mu": "body",
    "logvar": "body",
    "warm": "x",
    **dict.fromkeys(("head", "affine_means", "affine_draws"), "z"),
}
"""Program -> the one thing that it reads."""
NEEDED = ("body", "mu", "head")
POINT = "nearest"
"""The layer after which a latent is one of some codes, and has no variance: mu ends with it, or there is a logvar."""
KNOWN = f"flatten, relu, silu, clamp, linear, conv, group_norm, {POINT}"
CHUNK = 512  # rows at a time
Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Program:
    """A function of rows."""

    layers: Sequence[Layer]

    @torch.inference_mode()
    def __call__(self, rows: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Its output for every row, float64.

        Args:
            scale: what rows are multiplied by first: pixels are bytes.
        """
        return np.concatenate([self._on(rows[start : start + CHUNK], scale) for start in range(0, len(rows), CHUNK)])

    def _on(self, rows: np.ndarray, scale: float) -> np.ndarray:
        found = torch.from_numpy(rows.astype(np.float64) * scale)
        for layer in self.layers:
            found = layer(found)
        if len(found) != len(rows):
            raise ValueError("a layer changed the number of rows")
        return found.numpy()


def programs(given: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> dict[str, Program]:
    """The programs of a network.

    Raises:
        BundleFault: a program that reads anything but what it must, or a layer that is not in the set.
        ValueError, KeyError, TypeError: what a foreign hand can get wrong besides.
    """
    if missing := [name for name in NEEDED if name not in given]:
        raise KeyError(f"no program {missing[0]}")
    if "logvar" not in given and given["mu"]["layers"][-1][0] != POINT:
        raise KeyError("no program logvar")
    return {name: _program(name, one, weights) for name, one in given.items()}


def _program(name: str, given: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Program:
    if given["reads"] != READS.get(name):
        raise BundleFault(
            f"the program {name!r} reads {given['reads']!r}, and may read {READS.get(name)!r} alone",
            "do not use it: such a head can follow the teacher after the latent has collapsed",
            where="network.json",
        )
    return Program([_layer(layer, weights) for layer in given["layers"]])


def _layer(layer: Any, weights: Mapping[str, np.ndarray]) -> Layer:
    match layer:
        case ["flatten"]:
            return partial(torch.flatten, start_dim=1)
        case ["relu"]:
            return functional.relu
        case ["silu"]:
            return functional.silu
        case ["clamp", float(low), float(high)]:
            return partial(torch.clamp, min=low, max=high)
        case ["linear", str(weight), bias]:
            matrix = _array(weights, weight, 2)
            return partial(functional.linear, weight=matrix, bias=_bias(weights, bias, len(matrix)))
        case ["conv", str(weight), bias, int(stride), int(padding)]:
            kernel = _array(weights, weight, 4)
            given = {"bias": _bias(weights, bias, len(kernel)), "stride": stride, "padding": padding}
            return partial(functional.conv2d, weight=kernel, **given)
        case ["nearest", str(codes)]:
            return partial(_nearest, _array(weights, codes, 2))
        case ["group_norm", int(groups), float(eps), str(weight), str(bias)]:
            scale, shift = _array(weights, weight, 1), _array(weights, bias, 1)
            return partial(functional.group_norm, num_groups=groups, weight=scale, bias=shift, eps=eps)
        case _:
            raise BundleFault(
                f"{str(layer)[:60]!r} is no layer of a bundle",
                f"the layers are {KNOWN}: all others may mix rows, as BatchNorm does, or read more than they are given",
                where="network.json",
            )


def _nearest(codes: Tensor, rows: Tensor) -> Tensor:
    """The code (M, d) that lies nearest to each row."""
    return codes[(codes.square().sum(dim=1) - 2 * rows @ codes.T).argmin(dim=1)]


def _array(weights: Mapping[str, np.ndarray], name: str, dimensions: int) -> Tensor:
    found = weights[name]
    if found.ndim != dimensions:  # a bias with a row for every image would be a teacher learned by heart
        raise ValueError(f"{name} must have {dimensions} dimensions, got shape {found.shape}")
    return torch.from_numpy(found.astype(np.float64))


def _bias(weights: Mapping[str, np.ndarray], name: str | None, width: int) -> Tensor | None:
    found = None if name is None else _array(weights, name, 1)
    if found is not None and len(found) != width:
        raise ValueError(f"{name} must have {width} entries, got {len(found)}")
    return found
