"""Downloads the files of a publisher, and keeps them only if their SHA-256 is the pinned one.

They go to this user's cache folder (`downloads()`), never into a folder that somebody else filled. pooch writes beside
the target, compares and renames: a target is whole or absent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from certvae.data.progress import bar
from certvae.errors import DataFault
from certvae.store.disk import disk_faults

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 2**18


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A file of the publisher: its address, its bytes, and where it is kept below a data root."""

    url: str
    size: int
    sha256: str
    place: str


def downloads() -> Path:
    """Where downloaded files are kept: `certvae` in the cache folder of this user (on Linux, of XDG_CACHE_HOME)."""
    return Path(pooch.os_cache("certvae"))


def download(pinned: Pinned, root: Path, *, progress: bool = True) -> Path:
    """Puts the pinned file below root, or leaves nothing there.

    Raises:
        DataFault: no network, or other bytes than the pinned ones.
        DiskFault: root cannot be written.
    """
    target = root / pinned.place
    with bar(pinned.size, target.name if progress else None, of_bytes=True) as advance:
        told: Any = _Limit(pinned, advance)  # pooch takes any object with the methods of a bar; its types do not
        downloader: Any = pooch.HTTPDownloader(progressbar=told, chunk_size=_CHUNK, timeout=TIMEOUT)
        with disk_faults(f"download of {target.name}", pinned.size):
            try:
                pooch.retrieve(pinned.url, f"sha256:{pinned.sha256}", target.name, target.parent, downloader=downloader)
            except requests.RequestException as reason:
                raise _unreachable(pinned, reason) from reason
            except ValueError as reason:
                raise _wrong(pinned, str(reason)) from reason
    return target


class _Limit:
    """What pooch takes for a progress bar: it hears of every chunk, and ends a body that does not end."""

    total = 0

    def __init__(self, pinned: Pinned, advance: Callable[[int], None]):
        self._pinned, self._advance, self._chunks = pinned, advance, 0

    def update(self, size: int) -> None:
        self._advance(size)
        self._chunks += 1
        if (self._chunks - 2) * _CHUNK > self._pinned.size:
            raise ValueError(f"more than {self._pinned.size:,} bytes")

    def reset(self) -> None:
        """The end of a body: pooch now tells the whole size once more."""
        self._advance, self._chunks = lambda _: None, 0

    def close(self) -> None:
        """The bar closes by itself."""


def _unreachable(pinned: Pinned, reason: BaseException) -> DataFault:
    name = Path(pinned.place).name
    return DataFault(
        f"{name} is absent and could not be downloaded: {reason}",
        f"download it elsewhere, put it as {pinned.place} into a folder, and name that with --data-root",
        where=pinned.url,
    )


def _wrong(pinned: Pinned, reason: str) -> DataFault:
    return DataFault(
        f"{Path(pinned.place).name} is not the pinned file of {pinned.size:,} bytes: {reason}",
        f"run the same command again, or bring the file yourself: as {pinned.place} below --data-root",
        where=pinned.url,
    )
