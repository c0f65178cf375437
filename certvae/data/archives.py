"""Reads archives and folders by name. Nothing is ever extracted: no name from an archive becomes a path.

So what an archive names cannot hurt, and what it unpacks to is bounded where it unpacks: no header is believed.
"""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certvae.errors import DAMAGED, DataFault

LARGEST_FILE = 2**26
"""Bytes of one file of a zip archive; the images of a data set are a thousand times smaller."""
LARGEST_STREAM = 2**28
"""Bytes that a .gz may unpack to; the largest official one, CIFAR, holds 186 million."""
MOST_LINKS = 3
"""To folders that one path may pass: a link to a part whose classes are links passes two."""
_JUNK = ("__MACOSX",)


@dataclass(frozen=True)
class Files:
    """Relative names with `/`, without those that a system leaves behind, and a way to read one."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def zip_files(path: Path) -> Iterator[Files]:
    """The files of a zip archive; every read is checked against the archive's CRC-32.

    Raises:
        DataFault: a truncated archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as reason:
        raise damaged(path, reason) from reason

    def read(name: str) -> bytes:
        with archive.open(name) as file:
            return Bounded(file, LARGEST_FILE).read()

    with archive:
        names = (name for name in archive.namelist() if not name.endswith("/"))
        yield Files(tuple(name for name in names if all(map(is_visible, name.split("/")))), read)


@contextmanager
def folder_files(path: Path) -> Iterator[Files]:
    """The files of a folder and of the folders in it."""
    yield Files(tuple(name for name, _ in entries(path)), lambda name: (path / name).read_bytes())


def entries(
    folder: Path | str, prefix: str = "", above: frozenset[str] = frozenset(), links: int = 0
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every visible file below a folder by its relative name. Links are followed, but not back to a folder above.

    Raises:
        DataFault: a path passes more links than anybody means: folders that link to each other have a name for every
            order of them.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    if links > MOST_LINKS:
        raise _too_many_links(str(folder))
    with os.scandir(folder) as found:
        for entry in found:
            if not is_visible(entry.name):
                continue
            is_link = entry.is_symlink()
            target = Path(entry.path) if is_link else entry  # a path takes a link to itself for nothing
            if target.is_dir():
                yield from entries(entry.path, f"{prefix}{entry.name}/", above | {here}, links + is_link)
            elif target.is_file():
                yield prefix + entry.name, entry


def _too_many_links(path: str) -> DataFault:
    return DataFault(
        f"the path passes more than {MOST_LINKS} links to folders: {path}",
        "take links away, or name a folder that holds the images themselves",
        where=path,
        cause="folders that link to each other have as many names as there are orders of them",
    )


def tar_files(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The wanted members of a gzip-compressed tar archive; it is read to its end, so that its CRC-32 is checked.

    Raises:
        DataFault: a truncated archive, or one that unpacks to more than a data set holds.
    """
    found = {}
    try:
        with gzip.open(path) as packed:
            stream = Bounded(packed, LARGEST_STREAM)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() and member.name in wanted else None
                    if content is not None:
                        found[member.name] = Bounded(content, LARGEST_STREAM).read()
            while stream.read(tarfile.RECORDSIZE):
                pass
    except (*DAMAGED, tarfile.TarError) as reason:
        raise damaged(path, reason) from reason
    return found


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Bounded(io.RawIOBase):
    """A stream that refuses to give more than `most` bytes."""

    def __init__(self, stream: _Readable, most: int):
        self._stream, self._most, self._left = stream, most, most

    def read(self, size: int = -1) -> bytes:
        """Like the stream's own. Raises ValueError when more is in it than allowed."""
        content = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._most:,} bytes")
        return content


def damaged(path: Path, reason: BaseException) -> DataFault:
    """The fault of a file that ends too early, fails its own checksum, or holds too much."""
    return DataFault(
        f"{path.name} cannot be read: {reason or type(reason).__name__}",
        "bring the official file again, or name another folder with --data-root",
        where=str(path),
    )


def is_visible(part: str) -> bool:
    """Whether a file or folder is one of a person, and not what a system left there: .DS_Store, ._a, @eaDir."""
    return not part.startswith((".", "@")) and part not in _JUNK
