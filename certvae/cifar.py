"""CIFAR-10 and CIFAR-100 from the official Python archive, or from the folder extracted from it.

A. Krizhevsky, Learning multiple layers of features from tiny images, 2009. The files are pickles; they are read by
`certvae.pickled`, which runs nothing, so a folder of unknown origin is as safe to read as the official archive.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from certvae.archives import tar_files
from certvae.download import Pinned
from certvae.errors import DataFault
from certvae.pickled import NotPlain, plain_dict
from certvae.sources import Contents, counted, file_digest, files_digest, joined

Name = Literal["cifar10", "cifar100"]


@dataclass(frozen=True)
class Layout:
    """Where the parts of one of the two data sets are."""

    archive: Pinned
    folder: str
    train: tuple[str, ...]
    test: str
    label: str
    classes: int


CIFAR10 = Layout(
    archive=Pinned(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        size=170_498_071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        place="cifar-10-python.tar.gz",
    ),
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    label="labels",
    classes=10,
)
CIFAR100 = Layout(
    archive=Pinned(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        size=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        place="cifar-100-python.tar.gz",
    ),
    folder="cifar-100-python",
    train=("train",),
    test="test",
    label="fine_labels",
    classes=100,
)


def layout(name: Name) -> Layout:
    match name:
        case "cifar10":
            return CIFAR10
        case "cifar100":
            return CIFAR100


def find(name: Name, root: Path) -> "Cifar | None":
    """The archive below root, else the extracted folder, else a folder `<name>.subset`; None when all are absent."""
    parts = layout(name)
    for path in (root / parts.archive.place, root / parts.folder, root / f"{parts.folder}.subset"):
        if path.exists():
            return Cifar(path, parts)
    return None


@dataclass(frozen=True)
class Cifar:
    """The archive (a file) or the extracted folder."""

    path: Path
    layout: Layout

    @cached_property
    def fingerprint(self) -> str:
        return file_digest(self.path) if self.path.is_file() else files_digest(self._files())

    @contextmanager
    def open(self) -> Iterator[Contents]:
        contents = self._contents()
        train = [self._batch(name, contents) for name in self.layout.train]
        test_images, test_labels = self._batch(self.layout.test, contents)
        n_train = sum(len(labels) for _, labels in train)
        yield Contents.of_arrays(
            np.concatenate([*(images for images, _ in train), test_images]),
            np.concatenate([*(labels for _, labels in train), test_labels]),
            n_train=n_train,
            classes=self.layout.classes,
            shortfall=self._shortfall(n_train, len(test_labels)),
        )

    def _names(self) -> tuple[str, ...]:
        return (*self.layout.train, self.layout.test)

    def _files(self) -> list[Path]:
        return [self.path / name for name in self._names() if (self.path / name).is_file()]

    def _contents(self) -> dict[str, bytes]:
        if self.path.is_file():
            members = tar_files(self.path, {f"{self.layout.folder}/{name}" for name in self._names()})
            contents = {name.rsplit("/", 1)[-1]: content for name, content in members.items()}
        else:
            contents = {file.name: file.read_bytes() for file in self._files()}
        absent = [name for name in self._names() if name not in contents]
        if absent:
            raise self._fault(f"{', '.join(absent)} absent from {self.path.name}")
        return contents

    def _batch(
        self, name: str, contents: dict[str, bytes]
    ) -> tuple[UInt8[np.ndarray, "n 3 32 32"], Int64[np.ndarray, " n"]]:
        try:
            batch = plain_dict(contents[name])
            images = batch["data"].reshape(-1, 3, 32, 32)
            labels = np.array(batch[self.layout.label], dtype=np.int64)
        except (NotPlain, KeyError, AttributeError, TypeError, ValueError, OverflowError) as reason:
            raise self._fault(f"{name} is no batch of images: {reason}") from reason
        if labels.shape != images.shape[:1]:
            raise self._fault(f"{name} has {len(images):,} images and labels of shape {labels.shape}")
        return images, labels

    def _shortfall(self, n_train: int, n_test: int) -> str | None:
        short = joined(counted(n_train, 50_000, "train images"), counted(n_test, 10_000, "test images"))
        foreign = self.path.is_file() and self.fingerprint != self.layout.archive.sha256
        return short or ("not the official archive" if foreign else None)

    def _fault(self, what: str) -> DataFault:
        return DataFault(
            3,
            what,
            where=str(self.path),
            cause="the download was cut off, or these are other files",
            remedy=f"remove {self.path} and run the same command: the official archive is downloaded",
        )
