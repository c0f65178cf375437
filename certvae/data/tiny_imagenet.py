"""Tiny-ImageNet-200 from the official zip, or from the folder extracted from it.

    wnids.txt                          the classes, one WordNet number a line
    train/<wnid>/images/*.JPEG         500 images of 64 x 64 a class
    val/images/*.JPEG                  10,000 images, classes in val/val_annotations.txt
    val/<wnid>/*.JPEG                  the same, where somebody sorted them into class folders

Labels count the sorted WordNet numbers, as torchvision's ImageFolder does. Train rows are ordered by class and name,
val rows by name, so the zip, its folder and a folder with sorted val images are one and the same data set.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from certvae.canonical import digest
from certvae.data.archives import Files, entries, folder_files, zip_files
from certvae.data.download import Pinned
from certvae.data.images import UNREADABLE, fill
from certvae.data.source import Contents, Official, counted, file_digest, joined
from certvae.errors import DataFault

NAME = "tiny-imagenet-200"
SIDE = 64
MOST_CLASSES = 200
ARCHIVE = Pinned(
    url="https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    size=248_100_043,
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    place="tiny-imagenet-200.zip",
)

_TRAIN = re.compile(r"train/(n\d{8})/(?:images/)?([^/]+\.jpe?g)", re.IGNORECASE)
_VAL = re.compile(r"val/(?:(n\d{8})/)?(?:images/)?([^/]+\.jpe?g)", re.IGNORECASE)
_CLASSES = "wnids.txt"
_ANNOTATIONS = "val/val_annotations.txt"


def find(root: Path) -> "TinyImageNet | None":
    """The zip below root, else the extracted folder, else root itself, or None. The zip's bytes can be checked."""
    for path in (root / ARCHIVE.place, root / NAME):
        if path.exists():
            return TinyImageNet(path)
    is_inside = (root / _CLASSES).is_file() or (root.is_file() and root.name == ARCHIVE.place)
    return TinyImageNet(root) if is_inside else None


@dataclass(frozen=True)
class TinyImageNet:
    """The archive (a file) or the extracted folder."""

    path: Path

    @cached_property
    def fingerprint(self) -> str:
        """The zip by its bytes; a folder of 100,000 images by names and sizes of what is read of it."""
        if self.path.is_file():
            return file_digest(self.path)
        found = dict(entries(self.path))
        top = _top(found)
        return digest({name: entry.stat().st_size for name, entry in found.items() if _is_read(name, top)})

    @contextmanager
    def open(self) -> Iterator[Contents]:
        with self._files() as everything:
            files = _below_top(everything)
            index = Index.of(files, self.path)
            yield Contents(
                labels=index.labels,
                n=len(index.names),
                n_train=index.n_train,
                shape=(3, SIDE, SIDE),
                classes=len(index.classes),
                read=partial(decoded, files.read, index.names),
                deviation=self._deviation(index),
            )

    def _files(self) -> AbstractContextManager[Files]:
        return zip_files(self.path) if self.path.is_file() else folder_files(self.path)

    def _deviation(self, index: "Index") -> str | None:
        foreign = self.path.is_file() and self.fingerprint != ARCHIVE.sha256
        return index.deviation() or ("not the official archive" if foreign else None)


@dataclass(frozen=True, kw_only=True)
class Index:
    """Which file is which row, found from names alone."""

    names: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]
    n_train: int
    classes: tuple[str, ...]

    @classmethod
    def of(cls, files: Files, path: Path) -> "Index":
        """Raises DataFault when classes, train folders and val labels do not agree."""
        train = sorted((match[1], name) for name in files.names if (match := _TRAIN.fullmatch(name)))
        classes = _classes(files, {wnid for wnid, _ in train}, path)
        val = _val(files, path)
        foreign = sorted({wnid for _, wnid in val.values()} - set(classes))
        if foreign:
            raise _fault(path, f"val images of classes that are not in wnids.txt: {_first(foreign)}")
        rows = [*train, *((wnid, name) for _, (name, wnid) in sorted(val.items()))]
        number = {wnid: label for label, wnid in enumerate(classes)}
        return cls(
            names=tuple(name for _, name in rows),
            labels=np.array([number[wnid] for wnid, _ in rows], dtype=np.int64),
            n_train=len(train),
            classes=classes,
        )

    def deviation(self) -> str | None:
        train = np.bincount(self.labels[: self.n_train], minlength=len(self.classes))
        even = len(set(train.tolist())) == 1
        per_class = counted(int(train[0]), 500, "train images per class") if even else None
        total = counted(self.n_train, 100_000, "train images") if not even else None
        classes = counted(len(self.classes), MOST_CLASSES, "classes")
        return joined(classes, per_class, total, counted(len(self.labels) - self.n_train, 10_000, "val images"))


def _below_top(files: Files) -> Files:
    """Names as seen from the folder of wnids.txt: archives put everything below one folder."""
    top = _top(files.names)
    inside = tuple(name.removeprefix(top) for name in files.names if name.startswith(top))
    return Files(inside, lambda name: files.read(top + name))


def _top(names: Iterable[str]) -> str:
    tops = [name.removesuffix(_CLASSES) for name in names if name.split("/")[-1] == _CLASSES]
    return min(tops, key=len, default="")


def _is_read(name: str, top: str) -> bool:
    inside = name.removeprefix(top)
    return inside in (_CLASSES, _ANNOTATIONS) or bool(_TRAIN.fullmatch(inside) or _VAL.fullmatch(inside))


def _classes(files: Files, folders: set[str], path: Path) -> tuple[str, ...]:
    listed = _text(files, _CLASSES, path).split()
    empty, unlisted = sorted(set(listed) - folders), sorted(folders - set(listed))
    if empty:
        raise _fault(path, f"wnids.txt names {len(listed)} classes, without train images: {_first(empty)}")
    if unlisted:
        raise _fault(path, f"train folders that wnids.txt does not name: {_first(unlisted)}")
    if len(listed) != len(set(listed)) or len(listed) > MOST_CLASSES:
        raise _fault(path, f"wnids.txt names {len(listed)} classes, {len(set(listed))} of them distinct")
    return tuple(sorted(listed))


def _val(files: Files, path: Path) -> dict[str, tuple[str, str]]:
    """{name of the image: (file, class)}: the class is that of its folder, or the annotated one."""
    found = {match[2]: (name, match[1]) for name in files.names if (match := _VAL.fullmatch(name))}
    count = sum(_VAL.fullmatch(name) is not None for name in files.names)
    if not found or len(found) < count:
        raise _fault(path, f"val holds {count:,} images, {len(found):,} distinct")
    annotated = _annotated(files, path, needed=any(wnid is None for _, wnid in found.values()))
    unlabelled = sorted(image for image, (_, wnid) in found.items() if wnid is None and image not in annotated)
    if unlabelled:
        raise _fault(path, f"val images without annotation: {_first(unlabelled)}")
    if absent := sorted(annotated.keys() - found.keys()):
        raise _fault(path, f"annotated val images that are absent: {_first(absent)}")
    labelled = {image: (name, wnid or annotated[image]) for image, (name, wnid) in found.items()}
    if misplaced := sorted(image for image, wnid in annotated.items() if labelled[image][1] != wnid):
        raise _fault(path, f"val images in another folder than annotated: {_first(misplaced)}")
    return labelled


def _annotated(files: Files, path: Path, *, needed: bool) -> dict[str, str]:
    """{name of the image: class}; where images were sorted into class folders the file may be gone."""
    if not needed and _ANNOTATIONS not in files.names:
        return {}
    lines = (line.split("\t") for line in _text(files, _ANNOTATIONS, path).splitlines())
    return {line[0]: line[1] for line in lines if len(line) > 1}


def _text(files: Files, name: str, path: Path) -> str:
    if name not in files.names:
        raise _fault(path, f"{name} is absent")
    try:
        return files.read(name).decode()
    except UNREADABLE as reason:
        raise _fault(path, f"{name} cannot be read: {reason}") from reason


def decoded(
    read: Callable[[str], bytes], names: tuple[str, ...], rows: Int64[np.ndarray, " m"]
) -> UInt8[np.ndarray, "m 3 64 64"]:
    images = np.empty((len(rows), 3, SIDE, SIDE), dtype=np.uint8)
    fill(images, [names[row] for row in rows], lambda name: decode(read(name)))
    return images


def decode(content: bytes) -> UInt8[np.ndarray, "3 64 64"]:
    """One JPEG of 64 x 64, grey or colour, as RGB. The size is read from the header before a pixel is decoded.

    Raises:
        ValueError: other than 64 x 64 pixels: what Pillow's own pixel limit is for, and much tighter.
        OSError: not a JPEG, or a broken one.
    """
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"{image.width} x {image.height} pixels instead of {SIDE} x {SIDE}")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


TINY_IMAGENET = Official(
    shape=(3, SIDE, SIDE), classes=MOST_CLASSES, rows=(100_000, 10_000), find=find, pins=(ARCHIVE,)
)


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _fault(path: Path, what: str) -> DataFault:
    return DataFault(
        what,
        f"bring the official archive again; images of your own, of any classes, are --data folder:{path}",
        where=str(path),
    )
