"""Reads archives and folders by name. Nothing is ever extracted: no name from an archive becomes a path.

Even so, an archive that names files outside itself, links, devices or one file twice was not made by the publisher of
a data set, and is refused as a whole; so is one that would unpack to much more than a data set holds.
"""

import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certvae.errors import DataFault

MOST_FILES = 400_000
MOST_BYTES = 4 * 2**30
LARGEST_RATIO = 200
DAMAGED = (
    *(OSError, EOFError, ValueError, ArithmeticError, RuntimeError, NotImplementedError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
"""What the standard library raises for archives that were cut, changed or encrypted."""


@dataclass(frozen=True)
class Files:
    """Relative names with `/`, hidden ones left out, and a way to read one."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def zip_files(path: Path) -> Iterator[Files]:
    """The files of a zip archive; every read is checked against the archive's CRC-32.

    Raises:
        DataFault: a truncated or unsafe archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as reason:
        raise truncated(path, reason) from reason
    with archive:
        gate = _Gate(path)
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            gate.admit(member.orig_filename, member.file_size, plain=plain, packed=member.compress_size)
        yield Files(tuple(name for name in archive.namelist() if _is_visible_file(name)), archive.read)


@contextmanager
def folder_files(path: Path) -> Iterator[Files]:
    """The files of a folder and of the folders in it."""
    yield Files(tuple(name for name, _ in _entries(str(path))), lambda name: (path / name).read_bytes())


def folder_sizes(path: Path) -> dict[str, int]:
    """{name: bytes} of the files of a folder: what can be known of 100,000 files without reading them."""
    return {name: entry.stat().st_size for name, entry in _entries(str(path))}


def _entries(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _is_visible(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name, entry


def tar_files(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """The wanted members of a gzip-compressed tar archive; it is read to its end, so that its CRC-32 is checked.

    Raises:
        DataFault: a truncated or unsafe archive.
    """
    gate, found = _Gate(path), {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                gate.admit(member.name, member.size, plain=member.isfile() or member.isdir())
                content = archive.extractfile(member) if member.name in wanted else None
                if content is not None:
                    found[member.name] = content.read()
            stream.seek(0, os.SEEK_END)
    except DAMAGED as reason:
        raise truncated(path, reason) from reason
    return found


def truncated(path: Path, reason: BaseException) -> DataFault:
    """The fault of an archive that ends too early or fails its own checksum."""
    return DataFault(
        3,
        f"{path.name} cannot be read: {reason or type(reason).__name__}",
        where=str(path),
        cause="the download was cut off, or the file was changed",
        remedy=f"remove {path} and run the same command: it is downloaded again",
    )


def _is_visible_file(name: str) -> bool:
    return not name.endswith("/") and all(map(_is_visible, name.split("/")))


def _is_visible(part: str) -> bool:
    return not part.startswith(".") and part != "__MACOSX"


class _Gate:
    """Lets the members of one archive in, one by one, before anything of them is read."""

    def __init__(self, path: Path):
        self.path, self.seen, self.bytes = path, set[str](), 0

    def admit(self, name: str, size: int, *, plain: bool, packed: int | None = None) -> None:
        self.seen_before(name)
        self.bytes += size
        if _leaves_its_folder(name):
            raise self.refuse(f"it names a file outside itself: {name!r}")
        if not plain:
            raise self.refuse(f"it holds a link or a device: {name!r}")
        if packed is not None and size > LARGEST_RATIO * max(packed, 1):
            raise self.refuse(f"{name!r} unpacks to over {LARGEST_RATIO} times its size")
        if self.bytes > MOST_BYTES or len(self.seen) > MOST_FILES:
            raise self.refuse(f"it holds more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes")

    def seen_before(self, name: str) -> None:
        """Names that differ by case only are one file on some file systems."""
        if name.casefold() in self.seen:
            raise self.refuse(f"it names one file twice: {name!r}")
        self.seen.add(name.casefold())

    def refuse(self, what: str) -> DataFault:
        return DataFault(
            9,
            f"{self.path.name} is refused: {what}",
            where=str(self.path),
            cause="this is not an archive of the publisher",
            remedy=f"remove {self.path} and run the same command: the official archive is downloaded",
        )


def _leaves_its_folder(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return parts[0] == "" or re.match(r"[A-Za-z]:", name) is not None or ".." in parts or "\0" in name
