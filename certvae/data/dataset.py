"""A data set as stages see it: memory-mapped pixels, labels, and rows by split.

    images   (n, C, H, W)   uint8   images * scale is in [0, 1]; float32 where values are no bytes, with scale 1
    labels   (n,)           int64   in [0, classes)
    rows     (m,)           int64   rows of one split, ascending; train, guard and certify share no row, and cover all

It lives in a folder that `decoding` writes whole or not at all, and that never changes afterwards:

    images.npy  labels.npy  splits.npy (uint8, the place of each row's split in SPLITS)  facts.json (sealed by a digest)

A `Dataset` itself is a path and some numbers. Sent to a worker it takes a kilobyte; the arrays are mapped again there.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from certvae.canonical import digest
from certvae.errors import DataFault
from certvae.store.disk import disk_faults

Split = Literal["train", "guard", "certify"]
SPLITS: tuple[Split, ...] = get_args(Split)

LAYOUT = 2
BLOCK = 256
"""Rows per digest, and per task of the decoder."""
SAMPLED = 8
"""Blocks that are compared with their digests whenever a data set is opened."""


class Damaged(DataFault):
    """A decoded copy that is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The images of one `Data` spec.

    digest      SHA-256 over pixels, labels and splits: what stages of this data set are keyed by
    classes     None where there are no labels
    mean, std   per channel, of the train rows, in [0, 1] pixel space
    files       names the official files as they were when they were decoded
    source      what was read, for messages
    substitute  how the rows differ from the official data set, for table titles; None when they do not
    """

    name: str
    path: Path
    digest: str
    shape: tuple[int, int, int]
    classes: int | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: str
    source: str
    substitute: str | None

    @property
    def images(self) -> UInt8[np.ndarray, "n C H W"] | Float32[np.ndarray, "n C H W"]:
        """All pixels, mapped read-only: index them by `rows`. Raises DataFault when they changed on disk."""
        return self._arrays.images

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class numbers, never seen by training: for probes and tables. Raises DataFault where there are none."""
        if self.classes is None:
            raise DataFault(
                f"{self.name} has no labels, and they are asked for",
                "choose a teacher that reads images, or bring labels: class folders, or an array y",
                where=self.source,
                cause="the images lie in no class folders, or the arrays came without labels",
            )
        return self._arrays.labels

    @property
    def is_decoded(self) -> bool:
        """Whether there are pixels; see `undecoded`."""
        return True

    def rows(self, split: Split) -> Int64[np.ndarray, " m"]:
        """Row numbers of one split, ascending, the same for every run seed."""
        return np.flatnonzero(self._arrays.splits == SPLITS.index(split)).astype(np.int64)

    def identity(self) -> dict[str, str]:
        """What names this data set in content keys."""
        return {"name": self.name, "digest": self.digest}

    @cached_property
    def _arrays(self) -> "Arrays":
        facts, arrays = _read(self.path, every_block=False)
        if facts["digest"] != self.digest:
            raise _corrupt(self.path, f"it holds data set {facts['digest'][:12]}, not {self.digest[:12]}")
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without the mapped arrays."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Arrays:
    """The three arrays of a data set on disk; labels are empty where there are none."""

    images: UInt8[np.ndarray, "n C H W"] | Float32[np.ndarray, "n C H W"]
    labels: Int64[np.ndarray, " n"]
    splits: UInt8[np.ndarray, " n"]


def open_dataset(path: Path, *, verify: bool = False) -> Dataset:
    """Opens what was decoded: labels, splits and some blocks of pixels are verified, with `verify` every block.

    Raises:
        DataFault: absent, written by another version, or not what was written.
    """
    facts, _ = _read(path, every_block=verify)
    named: dict[str, Any] = {field.name: facts[field.name] for field in fields(Dataset) if field.name != "path"}
    named |= {name: tuple(named[name]) for name in ("shape", "mean", "std")}  # JSON made lists of them
    return Dataset(path=path, **named)


def content_digest(facts: dict[str, Any]) -> str:
    """SHA-256 over what a stage can see: pixels (as digests of blocks), their scale, labels, classes and splits."""
    named = ["shape", "scale", "classes", "blocks", "labels", "splits"]
    return digest({key: facts[key] for key in (named if facts["dtype"] == "uint8" else [*named, "dtype"])})


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of the bytes of a contiguous array."""
    return hashlib.sha256(array.data).hexdigest()


def sealed(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with their own digest, as they are written."""
    return {"seal": digest(facts), "facts": facts}


def _read(path: Path, *, every_block: bool) -> tuple[dict[str, Any], Arrays]:
    with disk_faults(f"open {path.name}"):
        try:
            facts = _facts(path)
            arrays = Arrays(
                images=np.load(path / "images.npy", mmap_mode="r"),
                labels=np.load(path / "labels.npy"),
                splits=np.load(path / "splits.npy"),
            )
        except FileNotFoundError as reason:
            raise (_corrupt(path, "a file is gone") if path.is_dir() else _absent(path)) from reason
        except (ValueError, KeyError, TypeError, EOFError) as reason:
            raise _corrupt(path, str(reason)) from reason
    for wrong in _differences(facts, arrays, every_block=every_block):
        raise _corrupt(path, wrong)
    return facts, arrays


def _facts(path: Path) -> dict[str, Any]:
    written = json.loads((path / "facts.json").read_bytes())
    facts = written["facts"]
    if facts["layout"] != LAYOUT:
        raise ValueError(f"layout {facts['layout']} was written by another version; this one reads layout {LAYOUT}")
    if digest(facts) != written["seal"]:
        raise ValueError("facts.json does not match its own digest")
    return facts


def _differences(facts: dict[str, Any], arrays: Arrays, *, every_block: bool) -> Iterator[str]:
    if arrays.images.dtype != facts["dtype"] or list(arrays.images.shape) != [facts["n"], *facts["shape"]]:
        yield f"images.npy holds {arrays.images.dtype} {arrays.images.shape}"
    if array_digest(arrays.labels) != facts["labels"]:
        yield "labels.npy does not match its digest"
    if array_digest(arrays.splits) != facts["splits"]:
        yield "splits.npy does not match its digest"
    for block in _blocks(len(facts["blocks"]), every_block=every_block):
        if array_digest(arrays.images[block * BLOCK : (block + 1) * BLOCK]) != facts["blocks"][block]:
            yield f"images.npy, rows {block * BLOCK} to {(block + 1) * BLOCK - 1}, do not match their digest"


def _blocks(count: int, *, every_block: bool) -> list[int]:
    step = 1 if every_block else max(1, math.ceil(count / (SAMPLED - 1)))
    return sorted({*range(0, count, step), count - 1})


def _absent(path: Path) -> DataFault:
    return DataFault(
        f"the decoded copy {path.name} is not on this machine",
        "keep it on a disk that all workers share",
        where=str(path),
    )


def _corrupt(path: Path, what: str) -> Damaged:
    return Damaged(
        f"the decoded copy {path.name} is not what was written: {what}",
        f"remove the folder (rm -r {path}) and run the same command: it is decoded again",
        where=str(path),
    )
