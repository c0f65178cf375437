"""Decodes chosen rows of a source, once, into the folder that `dataset` opens.

The folder is published as every result is: whole or absent whenever a process dies, with a manifest of its bytes. Two
processes that decode the same rows at once write the same bytes, and the second finds the work done.
One thread decodes: images of 64 x 64 are so small that threads spend more time waiting for the interpreter's lock than
Pillow works without it (6,700 images a second with one thread, 5,700 with two, 4,800 with four).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt64
from PIL import Image

from certvae.canonical import canonical_json
from certvae.data.dataset import BLOCK, LAYOUT, SPLITS, array_digest, content_digest, sealed
from certvae.data.progress import bar
from certvae.data.source import Contents, Unreadable
from certvae.errors import DataFault
from certvae.store.folders import Cache, Sink, publishing

Sums = UInt64[np.ndarray, " C"] | Float64[np.ndarray, " C"]


@dataclass(frozen=True, kw_only=True)
class View:
    """What to keep of a source.

    rows     (n,) official rows, counted through train and then test
    splits   (n,) the place of each row's split in SPLITS
    classes  how many classes the rows are of; None without labels
    size     side of the images in pixels; None leaves them as they are
    """

    contents: Contents
    rows: Int64[np.ndarray, " n"]
    splits: UInt8[np.ndarray, " n"]
    classes: int | None
    size: int | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.contents.shape
        return len(self.rows), channels, self.size or height, self.size or width

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        labels = self.contents.labels
        return np.empty(0, dtype=np.int64) if labels is None else labels[self.rows]

    def pixels(self, first: int) -> np.ndarray:
        """One block of rows. Raises Unreadable."""
        images = self.contents.read(self.rows[first : first + BLOCK])
        return images if self.size in (None, images.shape[2]) else resized(images, self.size)

    def is_train(self, first: int) -> np.ndarray:
        return self.splits[first : first + BLOCK] == SPLITS.index("train")


@dataclass(frozen=True)
class _Block:
    """What one block leaves behind: its digest, sums over its train rows, and files that could not be read.

    The sums are whole numbers where pixels are bytes, and so the same for blocks of any size.
    """

    digest: str
    total: Sums
    total_of_squares: Sums
    unreadable: tuple[str, ...] = ()


def publish(target: Path, view: View, about: dict[str, Any], *, label: str | None) -> None:
    """Decodes a view into `target`, or leaves nothing there. `about` is kept with it, for tables and messages.

    A label gives the progress bar its name; without one there is no bar.

    Raises:
        DataFault: images that cannot be read: how many, and the first.
        DiskFault: the disk refused.
    """
    body, size = {"name": target.name, "layout": LAYOUT}, math.prod(view.shape)
    with publishing(Cache(target.parent), target, body, f"decode {target.name}", size) as draft:
        with draft.open("images.npy") as file:
            blocks = _write_images(file, view, label)
        for name, array in (("labels.npy", view.labels), ("splits.npy", view.splits)):
            with draft.open(name) as file:
                np.save(file, array, allow_pickle=False)
        draft.write("facts.json", canonical_json(sealed(_facts(view, about, blocks))))


def resized(images: UInt8[np.ndarray, "m C h w"], side: int) -> UInt8[np.ndarray, "m C side side"]:
    """Shrinks by the mean over areas, enlarges bilinearly; each channel alone, rounded to bytes."""
    method = Image.Resampling.BOX if side < images.shape[2] else Image.Resampling.BILINEAR
    planes = images.reshape(-1, *images.shape[2:])
    scaled = [np.asarray(Image.fromarray(plane).resize((side, side), method)) for plane in planes]
    return np.stack(scaled).reshape(*images.shape[:2], side, side)


def _write_images(file: Sink, view: View, label: str | None) -> list[_Block]:
    """Writes block by block with calls: on a full disk a memory-mapped page would end the process instead.

    While one block is decoded, a second thread orders, writes and digests the one before: none needs the interpreter.
    """
    n, blocks, writing = view.shape[0], [], None
    with bar(n, label) as advance, ThreadPoolExecutor(1) as writer:
        header = {"descr": np.dtype(view.contents.dtype).str, "fortran_order": False, "shape": view.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, n, BLOCK):
            pixels = _decoded(view, first)
            blocks += [writing.result()] if writing else []
            writing = writer.submit(_write_block, file, pixels, view.is_train(first))
            advance(min(BLOCK, n - first))
        blocks += [writing.result()] if writing else []
    _require_readable([name for block in blocks for name in block.unreadable], view)
    return blocks


def _decoded(view: View, first: int) -> np.ndarray | Unreadable:
    try:
        return view.pixels(first)
    except Unreadable as reason:
        return reason


def _write_block(file: Sink, pixels: np.ndarray | Unreadable, is_train: np.ndarray) -> _Block:
    if isinstance(pixels, Unreadable):
        nothing = np.zeros(1, dtype=np.uint64)
        return _Block("", nothing, nothing, tuple(pixels.files))
    pixels = np.ascontiguousarray(pixels)
    file.write(pixels.data)
    total, squares = _sums(pixels[is_train])
    return _Block(digest=array_digest(pixels), total=total, total_of_squares=squares)


def _sums(train: np.ndarray) -> tuple[Sums, Sums]:
    """Per channel, of values and of their squares."""
    wide, most = (np.uint64, np.uint16) if train.dtype == np.uint8 else (np.float64, np.float64)
    return train.sum(axis=(0, 2, 3), dtype=wide), np.square(train, dtype=most).sum(axis=(0, 2, 3), dtype=wide)


def _facts(view: View, about: dict[str, Any], blocks: list[_Block]) -> dict[str, Any]:
    n, *shape = view.shape
    mean, std = _moments(blocks, int((view.splits == SPLITS.index("train")).sum()) * shape[1] * shape[2])
    if not any(std):
        raise DataFault(
            f"all pixels of all train images are {', '.join(f'{value:g}' for value in mean)}",
            "bring images that differ",
            where=str(about.get("source", "decoding")),
        )
    facts = about | {
        "layout": LAYOUT,
        "dtype": view.contents.dtype.__name__,
        "n": n,
        "shape": shape,
        "scale": view.contents.scale,
        "classes": view.classes,
        "mean": [view.contents.scale * value for value in mean],
        "std": [view.contents.scale * value for value in std],
        "blocks": [block.digest for block in blocks],
        "labels": array_digest(view.labels),
        "splits": array_digest(view.splits),
    }
    return facts | {"digest": content_digest(facts)}


def _moments(blocks: list[_Block], count: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel; `tolist` makes Python's numbers, whose integers have no bound."""
    totals = [sum(column) for column in zip(*(block.total.tolist() for block in blocks), strict=True)]
    squares = [sum(column) for column in zip(*(block.total_of_squares.tolist() for block in blocks), strict=True)]
    variances = [max(0, count * square - total**2) / count**2 for total, square in zip(totals, squares, strict=True)]
    return [total / count for total in totals], [math.sqrt(variance) for variance in variances]


def _require_readable(unreadable: list[str], view: View) -> None:
    if unreadable:
        raise DataFault(
            f"{len(unreadable):,} of {len(view.rows):,} images are unreadable; first: {unreadable[0]}",
            "bring whole files: from the official archive again, or without these where they are yours",
            where="decoding",
        )
