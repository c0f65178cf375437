"""Downloads over https, and keeps a file only if its size and SHA-256 are the pinned ones.

The bytes go to a hidden file beside the target, are checked, and are renamed once: a target is whole or absent. Plain
http is refused, as the first address and as the target of a redirect.
"""

import hashlib
import http.client
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from certvae.errors import DataFault
from certvae.store.disk import disk_faults, remove, sweep, temporary
from certvae.terminal import bar

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 2**18
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A file of the publisher: its address, its bytes, and where it is kept below the data root."""

    url: str
    size: int
    sha256: str
    place: str


def download(pinned: Pinned, root: Path, *, progress: bool = True, loopback: bool = False) -> Path:
    """Puts the pinned file below root, or leaves nothing there. `loopback` allows http from this machine.

    Raises:
        DataFault: no network, an address that is not https, or other bytes than the pinned ones.
        DiskFault: root cannot be written.
    """
    target = root / pinned.place
    with disk_faults(f"download of {target.name}", pinned.size):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, f".{target.name}")
        draft = temporary(target.parent, f".{target.name}")
        try:
            with draft.open("xb") as file:
                _receive(pinned, file, target, progress=progress, loopback=loopback)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            remove(draft)
    return target


def _receive(pinned: Pinned, file: BinaryIO, target: Path, *, progress: bool, loopback: bool) -> None:
    sha256, received = hashlib.sha256(), 0
    label = target.name if progress else None
    with bar(pinned.size, label, unit="B", unit_scale=True) as shown:
        for chunk in _chunks(pinned.url, target, loopback):
            received += len(chunk)
            if received > pinned.size:
                raise _wrong(pinned, target, f"more than {pinned.size:,} bytes")
            file.write(chunk)
            sha256.update(chunk)
            shown.update(len(chunk))
    if received != pinned.size:
        raise _wrong(pinned, target, f"{received:,} bytes")
    if sha256.hexdigest() != pinned.sha256:
        raise _wrong(pinned, target, f"SHA-256 {sha256.hexdigest()}")


def _chunks(url: str, target: Path, loopback: bool) -> Iterator[bytes]:
    """The body as it comes. Its errors are those of the network; errors of the disk arise in the caller."""
    _require_https(url, loopback)
    try:
        opener = urllib.request.build_opener(_Redirects(loopback))
        with opener.open(url, timeout=TIMEOUT) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except (OSError, http.client.HTTPException) as reason:
        raise DataFault(
            1,
            f"{target.name} is absent and could not be downloaded: {reason}",
            where=url,
            cause="no network here, or the server is down",
            remedy=f"download it on another machine and give its folder with --data-root, or put it at {target}",
        ) from reason


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def __init__(self, loopback: bool):
        self.loopback = loopback

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _require_https(newurl, self.loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(url: str, loopback: bool) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise DataFault(
        2,
        f"only https is trusted, not {url}",
        where=url,
        cause="the server sends to an address that anybody on the way can change",
        remedy="download the file by hand from a place you trust, and put it below the data root",
    )


def _wrong(pinned: Pinned, target: Path, got: str) -> DataFault:
    return DataFault(
        2,
        f"{target.name} is not the pinned file: want {pinned.size:,} bytes with SHA-256 {pinned.sha256}, got {got}",
        where=pinned.url,
        cause="the download was cut off, or the server holds another file",
        remedy=f"run the same command again, or put the right file at {target}; nothing was kept",
    )
