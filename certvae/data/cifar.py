"""CIFAR-10 and CIFAR-100 from the official Python archive, or from the folder extracted from it.

A. Krizhevsky, Learning multiple layers of features from tiny images, 2009. The files are pickles; they are read by
`certvae.pickled`, which runs nothing, so a folder of unknown origin is as safe to read as the official archive.
"""

import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from certvae.data.archives import tar_files
from certvae.data.download import Pinned
from certvae.data.source import Contents, counted, file_digest, files_digest, joined
from certvae.errors import DataFault

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


_ARRAY = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
_NAMES = _ARRAY | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_UINT8 = ("u1", "|u1")
_MARK = object()
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES"}
    | {"BINBYTES", "BINBYTES8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class NotPlain(Exception):
    """A pickle that is broken, or holds more than plain data."""


@dataclass(frozen=True)
class _Name:
    text: str


class _Built:
    """A numpy object between the call that makes it and the state that fills it."""

    value: np.ndarray | None = None


def plain_dict(content: bytes) -> dict[str, Any]:
    """The dict that a pickle holds, with uint8 arrays as arrays.

    Raises:
        NotPlain: not a pickle of a dict, cut off, or one that asks for anything but numpy's array constructor.
    """
    reader = _Reader()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            reader.step(opcode.name, argument)
        (value,) = reader.stack
        return {_text(key): item.value if isinstance(item, _Built) else item for key, item in value.items()}
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as reason:
        raise NotPlain(f"not a pickle of plain data: {reason}") from reason


class _Reader:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append(_CONSTANTS[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                self.stack.append(_EMPTY[name]())
            case "MARK":
                self.stack.append(_MARK)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case _:
                self.combine(name, argument)

    def combine(self, name: str, argument: Any) -> None:
        match name:
            case "APPEND" | "APPENDS":
                items = self.popped(1 if name == "APPEND" else None)
                self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.popped(2 if name == "SETITEM" else None)
                self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = self.popped(None if name == "TUPLE" else int(name[-1]))
                self.stack.append(tuple(items))
            case "GLOBAL":
                self.stack.append(_allowed(argument))
            case "STACK_GLOBAL":
                self.stack.append(_allowed(" ".join(self.popped(2))))
            case "REDUCE":
                called, arguments = self.popped(2)
                self.stack.append(_called(called, arguments))
            case "BUILD":
                (state,) = self.popped(1)
                _fill(self.stack[-1], state)
            case _ if name in _LITERALS:
                self.stack.append(argument)
            case _:
                raise NotPlain(f"opcode {name} is not one of plain data")

    def popped(self, count: int | None) -> list[Any]:
        """The last `count` values, or those above the last mark."""
        if count is None:
            count = self.stack[::-1].index(_MARK)
            del self.stack[-count - 1]
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def _allowed(name: str) -> _Name:
    if name not in _NAMES:
        raise NotPlain(f"it asks to run {name.replace(' ', '.', 1)!r}")
    return _Name(name)


def _called(called: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(called, _Name) and called.text in _ARRAY:
        return _Built()
    if called == _Name("numpy dtype"):
        if arguments[0] not in _UINT8:
            raise NotPlain(f"an array of {arguments[0]!r} instead of bytes")
        return _Built()
    if called == _Name("_codecs encode"):
        return arguments[0].encode("latin-1")
    raise NotPlain(f"it calls {called!r}")


def _fill(built: Any, state: tuple[Any, ...]) -> None:
    """The state of an array: (version, shape, dtype, is Fortran order, bytes); that of uint8 says nothing new."""
    if not isinstance(built, _Built):
        raise NotPlain(f"it sets the state of {built!r}")
    if len(state) == 5:
        _, shape, _, fortran, content = state
        raw = content.encode("latin-1") if isinstance(content, str) else content
        built.value = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key
