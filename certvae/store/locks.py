"""Locks that only save work: without them two processes may compute one key twice, and publish the same bytes.

The kernel frees a `flock` when its holder dies, however it dies. So there are no time-outs, no heartbeats, no clocks.
"""

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from certvae.store.disk import Disk, disk_faults

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_log = logging.getLogger(__name__)


class KeyLocks:
    """One lock per stage key, as files in `lock/`.

    Args:
        disk: of the store.
        enabled: False runs without single flight, as on a file system that has no locks.
    """

    def __init__(self, disk: Disk, *, enabled: bool = True):
        self._disk, self._enabled = disk, enabled

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Waits until nobody else holds the key. The body must publish the key's object, or raise."""
        if not self._enabled:
            yield
            return
        with disk_faults("lock"):
            descriptor = self._disk.open_lock(self._path(key))
        try:
            with disk_faults("lock"):
                self._enabled = _lock(descriptor, fcntl.LOCK_EX, self._path(key))
            if not self._enabled:
                _log.warning("%s has no file locks: results stay right, work may be done twice", self._disk.root)
            yield
            # The object is there, so whoever comes now finds it and needs no lock: the file may go.
            self._path(key).unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def busy(self, key: str) -> bool:
        """True when somebody, this process included, holds the key right now. Never waits."""
        with disk_faults("lock"):
            try:
                descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, self._path(key))
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
            return False

    def _path(self, key: str) -> Path:
        return self._disk.root / "lock" / key


def _lock(descriptor: int, operation: int, path: Path) -> bool:
    """False when the file system has no locks."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            error.filename = str(path)
            raise
        return False
    return True
