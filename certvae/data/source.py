"""Defines what every reader of a data set gives to the code that decodes it.

    labels   (n,)           int64     in [0, classes); all train rows first, then all test rows
    images   (m, C, H, W)   uint8     images * scale is in [0, 1]
                            float32   where values are no bytes; the scale is 1

Every source has a `path` (for messages), a `fingerprint` that names the files as they are without decoding a pixel,
and a context manager `open()` that gives its `Contents`: labels at once, pixels block by block. A data set is one file
with one `Official` and one line in `loading.SOURCES`.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from certvae.canonical import digest
from certvae.data.download import Pinned


class Unreadable(Exception):
    """Some images of a block cannot be decoded: `files` names each with the reason."""

    def __init__(self, files: list[str]):
        self.files = files
        super().__init__(f"{len(files)} unreadable images, first: {files[0]}")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The rows of an opened source: labels at once, pixels block by block.

    labels     None where there are none
    n_train    so many rows come first: of them are train and guard drawn
    n_guard    the last so many of these are the guard split, where the source has one of its own
    classes    None without labels
    read       pixels of rows, counted through train and then test; raises Unreadable
    deviation  how the files differ from the official data set, for table titles; None where they do not
    """

    labels: Int64[np.ndarray, " n"] | None
    n: int
    n_train: int
    n_guard: int = 0
    shape: tuple[int, int, int]
    classes: int | None
    read: Callable[[Int64[np.ndarray, " m"]], np.ndarray]
    dtype: type[np.uint8] | type[np.float32] = np.uint8
    scale: float = 1 / 255
    deviation: str | None = None

    @classmethod
    def of_arrays(
        cls,
        images: UInt8[np.ndarray, "n C H W"],
        labels: Integer[np.ndarray, " n"],
        *,
        n_train: int,
        classes: int,
        scale: float = 1 / 255,
        deviation: str | None = None,
    ) -> "Contents":
        """Contents that fit in memory."""
        return cls(
            labels=labels.astype(np.int64),
            n=len(labels),
            n_train=n_train,
            shape=images.shape[1:],
            classes=classes,
            read=images.__getitem__,
            scale=scale,
            deviation=deviation,
        )


class Source(Protocol):
    """The files of a data set, found and not yet opened."""

    @property
    def path(self) -> Path: ...

    @cached_property
    def fingerprint(self) -> str: ...

    def open(self) -> AbstractContextManager[Contents]: ...


@dataclass(frozen=True, kw_only=True)
class Official:
    """A data set as its publisher describes it.

    rows   train and test rows
    find   the files below a root, or at it; None where they are absent
    pins   what is downloaded then
    """

    shape: tuple[int, int, int]
    classes: int
    rows: tuple[int, int]
    find: Callable[[Path], Source | None]
    pins: tuple[Pinned, ...] = ()


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
    """The notes that say something, in one line; of a name in another encoding what cannot be written is escaped."""
    return ", ".join(note for note in notes if note).encode(errors="backslashreplace").decode() or None
