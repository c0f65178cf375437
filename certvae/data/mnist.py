"""MNIST and Fashion-MNIST from idx files, compressed or not.

An idx file is: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a big-endian
32-bit number, then the values. Y. LeCun, C. Cortes, C. Burges; H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
"""

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from certvae.data.archives import DAMAGED, truncated
from certvae.data.download import Pinned
from certvae.data.source import Contents, counted, files_digest, joined
from certvae.errors import DataFault

Name = Literal["mnist", "fashion-mnist"]

LARGEST = 2**28
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


def pins(name: Name) -> tuple[Pinned, ...]:
    """The official files, in the order train images, train labels, test images, test labels."""
    return tuple(
        Pinned(url=f"{_SERVER[name]}/{file}.gz", size=size, sha256=sha256, place=f"{_FOLDER[name]}/{file}.gz")
        for file, size, sha256 in _FILES[name]
    )


def find(name: Name, root: Path) -> "Idx | None":
    """The four files below root, or None when one is absent. The .gz wins: it carries a checksum."""
    folders = (root / _FOLDER[name], root / Path(_FOLDER[name]).parent, root / name)
    for folder in folders:
        found = [_either(folder / file) for file, _, _ in _FILES[name]]
        files = tuple(file for file in found if file is not None)
        if len(files) == len(found):
            return Idx(folder, files)
    return None


@dataclass(frozen=True)
class Idx:
    """Four idx files, in the order of `pins`."""

    path: Path
    files: tuple[Path, ...]

    @cached_property
    def fingerprint(self) -> str:
        return files_digest(self.files)

    @contextmanager
    def open(self) -> Iterator[Contents]:
        train, train_labels, test, test_labels = (read_idx(file) for file in self.files)
        _check_shapes(self.path, train, train_labels, test, test_labels)
        train_note = counted(len(train), 60_000, "train images")
        test_note = counted(len(test), 10_000, "test images")
        yield Contents.of_arrays(
            np.concatenate([train, test])[:, None],
            np.concatenate([train_labels, test_labels]),
            n_train=len(train),
            classes=10,
            shortfall=joined(train_note, test_note),
        )


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """The array in an idx file, with or without .gz.

    Raises:
        DataFault: truncated, or not an idx file of unsigned bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST)
        return _array(content)
    except DAMAGED as reason:
        raise truncated(path, reason) from reason


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
            7,
            f"images {train} with labels {train_labels}, test images {test} with labels {test_labels}",
            where=str(path),
            cause="the four files do not belong together",
            remedy=f"remove {path} and run the same command: the official files are downloaded",
        )


def _either(file: Path) -> Path | None:
    packed = file.with_name(f"{file.name}.gz")
    return packed if packed.is_file() else file if file.is_file() else None
