"""Feeds the training loop: images of one split beside their teacher rows, and where such a row comes from.

    x  (n, C, H, W)  in [0, 1]      T  (n, K)  teacher rows on the simplex, never with a gradient

A frozen teacher is cached: Q, one row per image, is a function of x. A constant teacher is one row for all images.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certvae.data.dataset import Dataset, Split
from certvae.errors import DataFault


@dataclass(frozen=True)
class Batch:
    """x (n, C, H, W) in [0, 1] and, where there is a teacher, its rows (n, K)."""

    x: Tensor
    teacher: Tensor | None

    @property
    def taught(self) -> Tensor:
        """The teacher rows. Raises ValueError for a batch that carries none."""
        if self.teacher is None:
            raise ValueError("teacher rows are needed: give batches that carry them")
        return self.teacher


class Batches:
    """Rows of one split with their teacher rows. Images lie on the device, or stay in their memory map on a CPU.

    Raises:
        DataFault: when there is not one teacher row per image.
    """

    def __init__(self, dataset: Dataset, split: Split, teacher: np.ndarray | None, size: int, device: str):
        rows = dataset.rows(split)
        if teacher is not None and len(teacher) != len(rows):
            raise _unpaired(dataset, split, len(teacher), len(rows))
        on_host = device == "cpu"
        self._images = _as_tensor(dataset.images) if on_host else _uploaded(dataset, split, device)
        self._index = torch.from_numpy(rows) if on_host else torch.arange(len(rows), device=device)
        self._teacher = None if teacher is None else torch.from_numpy(teacher).to(device, torch.float32)
        self._scale = dataset.scale
        self.size = min(size, len(rows))
        self.steps = len(rows) // self.size

    def order(self, seed: int) -> Iterator[Tensor]:
        """The rows of each batch of a training pass; the incomplete last one is left out, another one in every pass."""
        order = torch.randperm(len(self._index), generator=torch.Generator().manual_seed(seed))
        return iter(order[: self.steps * self.size].to(self._index.device).split(self.size))

    def shuffled(self, seed: int) -> Iterator[Batch]:
        """The batches of one training pass."""
        return map(self.at, self.order(seed))

    def in_order(self) -> Iterator[Batch]:
        """The batches of one pass over all rows, in order."""
        return map(self.at, torch.arange(len(self._index), device=self._index.device).split(self.size))

    def at(self, rows: Tensor) -> Batch:
        """The images at these places of the split, and their teacher rows."""
        x = self._images[self._index[rows]].to(torch.float32).mul_(self._scale)
        return Batch(x, None if self._teacher is None else self._teacher[rows])


Targets = Callable[[Batch, Float[Tensor, "n d"]], Tensor | None]
"""Teacher rows of a batch, given its posterior means; None where there is no teacher yet."""


def cached(batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor | None:  # noqa: ARG001 - Q does not look at the encoder
    """The cached teacher rows Q of these images."""
    return batch.teacher


@dataclass(frozen=True)
class Constant:
    """One row for all images: with the mean teacher row a decoder is left with the latent alone."""

    row: Float[np.ndarray, " K"]

    def __call__(self, batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor:  # noqa: ARG002 - the row is fixed
        return torch.as_tensor(self.row, dtype=mu.dtype, device=mu.device).expand(len(mu), -1)


_on_devices: dict[tuple[str, Split, str], Tensor] = {}


def forget_uploads() -> None:
    """Gives the images that lie on a GPU, and what else torch keeps there for later, back to other processes."""
    _on_devices.clear()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _uploaded(dataset: Dataset, split: Split, device: str) -> Tensor:
    """The images of a split on a device: all stages of a process share them, and another data set takes their room."""
    key = (dataset.digest, split, device)
    if key not in _on_devices:
        for other in [other for other in _on_devices if other[0] != dataset.digest]:
            del _on_devices[other]
        _on_devices[key] = _as_tensor(dataset.images[dataset.rows(split)]).to(device)
    return _on_devices[key]


def _unpaired(dataset: Dataset, split: Split, found: int, wanted: int) -> DataFault:
    return DataFault(
        f"{found} teacher rows for {wanted} {split} images",
        "give each data set the teacher that was made from it",
        where=f"data set {dataset.name} {dataset.digest[:12]}",
        cause="the teacher was made for other images",
    )


def _as_tensor(images: np.ndarray) -> Tensor:
    """A tensor over the same memory; a read-only memory map is only ever read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images)
