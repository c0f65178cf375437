"""CIFAR-10 and CIFAR-100 from the official Python archive, or from the folder extracted from it.

A. Krizhevsky, Learning multiple layers of features from tiny images, 2009. The files are pickles; they are unpickled by
a reader that knows numpy's array constructor and nothing else, so that a folder of unknown origin runs nothing.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from certvae.data.archives import tar_files
from certvae.data.download import Pinned
from certvae.data.pickled import plain_dict
from certvae.data.source import Contents, Official, counted, file_digest, files_digest, joined
from certvae.errors import DataFault

_ROWS = (50_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of one of the two data sets are, each with the MD5 that its publisher gives."""

    archive: Pinned
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    label: str
    classes: int

    @property
    def names(self) -> tuple[str, ...]:
        """The files of train and test images."""
        return (*self.train, *self.test)


TEN = Layout(
    archive=Pinned(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        size=170_498_071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        place="cifar-10-python.tar.gz",
    ),
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    label="labels",
    classes=10,
)
HUNDRED = Layout(
    archive=Pinned(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        size=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        place="cifar-100-python.tar.gz",
    ),
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    label="fine_labels",
    classes=100,
)


def find(parts: Layout, root: Path) -> "Cifar | None":
    """The archive below root, else the extracted folder, else a folder `<name>.subset`, else root itself, or None."""
    for path in (root / parts.archive.place, root / parts.folder, root / f"{parts.folder}.subset"):
        if path.exists():
            return Cifar(path, parts)
    is_inside = root.name == parts.archive.place or all((root / name).is_file() for name in parts.names)
    return Cifar(root, parts) if is_inside and root.exists() else None


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
        ((test_images, test_labels),) = [self._batch(name, contents) for name in self.layout.test]
        n_train = sum(len(labels) for _, labels in train)
        yield Contents.of_arrays(
            np.concatenate([*(images for images, _ in train), test_images]),
            np.concatenate([*(labels for _, labels in train), test_labels]),
            n_train=n_train,
            classes=self.layout.classes,
            deviation=self._deviation(contents, n_train, len(test_labels)),
        )

    def _files(self) -> list[Path]:
        return [self.path / name for name in self.layout.names if (self.path / name).is_file()]

    def _contents(self) -> dict[str, bytes]:
        if self.path.is_file():
            members = tar_files(self.path, {f"{self.layout.folder}/{name}" for name in self.layout.names})
            contents = {name.rsplit("/", 1)[-1]: content for name, content in members.items()}
        else:
            contents = {file.name: file.read_bytes() for file in self._files()}
        absent = [name for name in self.layout.names if name not in contents]
        if absent:
            raise self._fault(f"{', '.join(absent)} absent from {self.path.name}")
        return contents

    def _batch(
        self, name: str, contents: dict[str, bytes]
    ) -> tuple[UInt8[np.ndarray, "n 3 32 32"], Int64[np.ndarray, " n"]]:
        try:
            batch = plain_dict(contents[name])
            images = _of_kind(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
            labels = _of_kind(np.array(batch[self.layout.label]), np.integer).astype(np.int64)
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as reason:
            raise self._fault(f"{name} is no batch of images: {reason}") from reason
        if labels.shape != images.shape[:1]:
            raise self._fault(f"{name} has {len(images):,} images and labels of shape {labels.shape}")
        return images, labels

    def _deviation(self, contents: dict[str, bytes], n_train: int, n_test: int) -> str | None:
        short = joined(counted(n_train, _ROWS[0], "train images"), counted(n_test, _ROWS[1], "test images"))
        found = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
        return short or (None if found == self.layout.train | self.layout.test else "not the official files")

    def _fault(self, what: str) -> DataFault:
        return DataFault(
            what, "bring the official archive again, or name another folder with --data-root", where=str(self.path)
        )


def _official(parts: Layout) -> Official:
    return Official(
        shape=(3, 32, 32), classes=parts.classes, rows=_ROWS, find=partial(find, parts), pins=(parts.archive,)
    )


CIFAR10, CIFAR100 = _official(TEN), _official(HUNDRED)


def _of_kind(array: np.ndarray, kind: type[np.integer]) -> np.ndarray:
    if not np.issubdtype(array.dtype, kind):
        raise ValueError(f"an array of {array.dtype} instead of {kind.__name__}")
    return array
