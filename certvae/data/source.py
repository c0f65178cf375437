"""What a reader of official data promises to the one who decodes them.

    labels   (n,)           int64   in [0, classes); all official train rows first, then all official test rows
    images   (m, C, H, W)   uint8   images * scale is in [0, 1]

Every source has a `path` (for messages), a `fingerprint` that names the files as they are without decoding a pixel,
and a context manager `open()` that gives its `Contents`: labels at once, pixels block by block.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from certvae.canonical import digest


class Unreadable(Exception):
    """Some images of a block cannot be decoded: `files` names each with the reason."""

    def __init__(self, files: list[str]):
        self.files = files
        super().__init__(f"{len(files)} unreadable images, first: {files[0]}")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """An opened source.

    read       pixels of official rows, counted through train and then test; raises Unreadable
    shortfall  how the files fall short of the official data set, for table titles; None for the official one
    """

    labels: Int64[np.ndarray, " n"]
    n_train: int
    shape: tuple[int, int, int]
    classes: int
    read: Callable[[Int64[np.ndarray, " m"]], UInt8[np.ndarray, "m C H W"]]
    scale: float = 1 / 255
    shortfall: str | None = None

    @classmethod
    def of_arrays(
        cls,
        images: UInt8[np.ndarray, "n C H W"],
        labels: Integer[np.ndarray, " n"],
        *,
        n_train: int,
        classes: int,
        scale: float = 1 / 255,
        shortfall: str | None = None,
    ) -> "Contents":
        """Contents that fit in memory."""
        return cls(
            labels=labels.astype(np.int64),
            n_train=n_train,
            shape=images.shape[1:],
            classes=classes,
            read=images.__getitem__,
            scale=scale,
            shortfall=shortfall,
        )


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Names a handful of files by their names and bytes."""
    return digest({path.name: file_digest(path) for path in paths})


def counted(found: int, official: int, what: str) -> str | None:
    """`1,117 of 50,000 train images`, or None when all are there."""
    return None if found == official else f"{found:,} of {official:,} {what}"


def joined(*notes: str | None) -> str | None:
    """The notes that say something, in one line."""
    return ", ".join(note for note in notes if note) or None
