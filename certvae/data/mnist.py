"""MNIST and Fashion-MNIST from idx files, compressed or not.

An idx file is: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a big-endian
32-bit number, then the values. Y. LeCun, C. Cortes, C. Burges; H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
"""

import gzip
import hashlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from certvae.data.archives import LARGEST_STREAM, Bounded, damaged
from certvae.data.download import Pinned
from certvae.data.source import Contents, Official, counted, file_digest, files_digest, joined
from certvae.errors import DAMAGED, DataFault

Name = Literal["mnist", "fashion-mnist"]

_ROWS = (60_000, 10_000)
_UNSIGNED_BYTES = bytes([0, 0, 8])
_SERVER = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion-mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
}
_FOLDER = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}

# File name, bytes and SHA-256 of the official .gz, in the order train images, train labels, test images, test labels.
_FILES = {
    "mnist": (
        ("train-images-idx3-ubyte", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion-mnist": (
        ("train-images-idx3-ubyte", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1-ubyte", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3-ubyte", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1-ubyte", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
}
# SHA-256 of what the official files unpack to, where it is known: a mirror may have packed them anew.
_UNPACKED = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )
}


def find(name: Name, root: Path) -> "Idx | None":
    """The four files below root, or in it, or None when all are absent. The .gz wins: it carries a checksum.

    Raises:
        DataFault: some of the four are there, or they are those of the other data set.
    """
    for folder in (root / _FOLDER[name], root / Path(_FOLDER[name]).parent, root / name, root):
        found = {file: _spelled(folder, file) for file, _, _ in _FILES[name]}
        files = tuple(file for file in found.values() if file is not None)
        if 0 < len(files) < len(found):
            raise _partly(folder, [file for file, there in found.items() if there is None])
        if files:
            _require(name, files[-1])
            return Idx(name, folder, files)
    return None


@dataclass(frozen=True)
class Idx:
    """Four idx files, in the order train images, train labels, test images, test labels."""

    name: Name
    path: Path
    files: tuple[Path, ...]

    @cached_property
    def fingerprint(self) -> str:
        return files_digest(self.files)

    @contextmanager
    def open(self) -> Iterator[Contents]:
        contents = [unpacked(file) for file in self.files]
        train, train_labels, test, test_labels = map(parsed, self.files, contents)
        _check_shapes(self.path, train, train_labels, test, test_labels)
        train_note = counted(len(train), _ROWS[0], "train images")
        test_note = counted(len(test), _ROWS[1], "test images")
        yield Contents.of_arrays(
            np.concatenate([train, test])[:, None],
            np.concatenate([train_labels, test_labels]),
            n_train=len(train),
            classes=10,
            deviation=joined(train_note, test_note) or self._deviation(contents),
        )

    def _deviation(self, contents: list[bytes]) -> str | None:
        """Whether the right number of images are the right ones."""
        if tuple(hashlib.sha256(content).hexdigest() for content in contents) == _UNPACKED.get(self.name):
            return None
        pinned = [sha256 for _, _, sha256 in _FILES[self.name]]
        return None if [file_digest(file) for file in self.files] == pinned else "not the official files"


def _official(name: Name) -> Official:
    pins = (
        Pinned(url=f"{_SERVER[name]}/{file}.gz", size=size, sha256=sha256, place=f"{_FOLDER[name]}/{file}.gz")
        for file, size, sha256 in _FILES[name]
    )
    return Official(shape=(1, 28, 28), classes=10, rows=_ROWS, find=partial(find, name), pins=tuple(pins))


MNIST, FASHION_MNIST = _official("mnist"), _official("fashion-mnist")


def unpacked(path: Path) -> bytes:
    """The bytes of a file, with or without .gz. Raises DataFault where it is truncated."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return Bounded(file, LARGEST_STREAM).read()
    except DAMAGED as reason:
        raise damaged(path, reason) from reason


def parsed(path: Path, content: bytes) -> UInt8[np.ndarray, "..."]:
    """The array in an idx file. Raises DataFault where it is truncated, or holds no unsigned bytes."""
    try:
        return _array(content)
    except DAMAGED as reason:
        raise damaged(path, reason) from reason


def _array(content: bytes) -> UInt8[np.ndarray, "..."]:
    if content[:3] != _UNSIGNED_BYTES or len(content) < 4 or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"it starts with {content[:4].hex()}; an idx file of bytes starts with 000008 and its shape")
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    values = np.frombuffer(content, dtype=np.uint8)[4 + 4 * dimensions :]
    if math.prod(shape) != values.size:
        raise ValueError(f"it announces {math.prod(shape):,} values and holds {values.size:,}")
    return values.reshape(shape)


def _check_shapes(path: Path, *arrays: UInt8[np.ndarray, "..."]) -> None:
    train, train_labels, test, test_labels = (array.shape for array in arrays)
    wanted = (train_labels[0], 28, 28), (train_labels[0],), (test_labels[0], 28, 28), (test_labels[0],)
    if (train, train_labels, test, test_labels) != wanted:
        raise DataFault(
            f"images {train} with labels {train_labels}, test images {test} with labels {test_labels}",
            "bring all four from one place, or name another folder with --data-root",
            where=str(path),
            cause="the four files do not belong together",
        )


def _spelled(folder: Path, file: str) -> Path | None:
    """The file under one of the names that mirrors give it: `train-images.idx3-ubyte` is one of them."""
    spellings = (file, file.replace("-idx", ".idx"))
    paths = [folder / f"{spelling}{packed}" for packed in (".gz", "") for spelling in spellings]
    return next((path for path in paths if path.is_file()), None)


def _require(name: Name, test_labels: Path) -> None:
    """The files of both data sets have the same names: the smallest one tells them apart."""
    found = file_digest(test_labels)
    for other, files in _FILES.items():
        if other != name and found in (files[-1][2], *_UNPACKED.get(other, ())[-1:]):
            raise DataFault(
                f"these are the files of {other}, and {name} is wanted",
                f"say --data {other}, or name another folder with --data-root",
                where=str(test_labels.parent),
                cause="the folder, or the name of the data set, is another one than meant",
            )


def _partly(folder: Path, absent: list[str]) -> DataFault:
    return DataFault(
        f"{4 - len(absent)} of 4 files are there; absent: {', '.join(absent)}",
        "put the absent files beside the others, or name a folder without them with --data-root",
        where=str(folder),
        cause="a download that was cut off, or files of another name",
    )
