"""Locks the keys of a store so that no work is done twice; without them results would be the same.

The kernel frees a `flock` when its holder dies, however it dies. A holder that lives is named once it was waited for a
while; one that does nothing (stopped, frozen, stuck) or cannot be seen (on another host) is passed after a limit, and
the work is done twice: results are immutable and equal, so that is safe.
"""

import contextlib
import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from certvae.store.disk import Disk, disk_faults, remove
from certvae.store.process import owner, running

TOLD = 10.0
"""Seconds of waiting after which the holder is named."""
IDLE, UNSEEN = 60.0, 600.0
"""Seconds that the store waits for a holder that uses no processor time, and for one that cannot be seen from here."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_log = logging.getLogger(__name__)


class Held(TimeoutError):
    """The lock was not got: somebody else held it for longer than the caller would wait."""


@contextlib.contextmanager
def hold(
    path: Path,
    patience: float = math.inf,
    *,
    idle: float = math.inf,
    unseen: float = math.inf,
    what: str = "",
    disk: Disk | None = None,
) -> Iterator[bool]:
    """Holds a lock file, which is made when it is not there; gives False where the file system has no locks.

    Args:
        patience: seconds that any holder is waited for.
        idle: seconds that a holder of this host is waited for while it uses no processor time.
        unseen: seconds that a holder of another host, or one without a name, is waited for.
        what: what is waited for, for messages.
        disk: whose failpoints act.

    Raises:
        Held: the wait was in vain; it names the holder, its state, and for how long it has held the lock.
        OSError: the file cannot be made or locked; it names the path.
    """
    disk, wait = disk or Disk(path.parent), _Wait(path, what or path.name, patience, idle, unseen)
    while (descriptor := _taken(disk.open_lock(path), wait)) is None:
        pass  # whoever held it is done and has removed the file: the next one is another
    try:
        with contextlib.suppress(OSError):  # a lock without a name is a lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner().encode(), 0)
        yield wait.supported
    finally:
        os.close(descriptor)


class KeyLocks:
    """One lock per stage key, as files in `lock/`.

    Args:
        disk: of the store.
        enabled: False runs without single flight, as on a file system that has no locks.
    """

    def __init__(self, disk: Disk, *, enabled: bool = True):
        self._disk, self._enabled = disk, enabled

    @contextlib.contextmanager
    def hold(self, key: str, what: str = "") -> Iterator[None]:
        """Waits until nobody else holds the key, or is passed. The body must publish the key's object, or raise."""
        with contextlib.ExitStack() as held:
            if self._enabled:
                with disk_faults("lock"):
                    self._enabled = self._enter(held, key, what)
            if not self._enabled:
                yield
                return
            yield
            # The object is there, so whoever comes now finds it and needs no lock: the file may go.
            remove(self._path(key))

    def _enter(self, held: contextlib.ExitStack, key: str, what: str) -> bool:
        """False when the file system has no locks."""
        lock = hold(self._path(key), idle=IDLE, unseen=UNSEEN, what=what, disk=self._disk)
        try:
            supported = held.enter_context(lock)
        except Held as reason:
            _log.warning("%s; it is computed here as well, which is safe", reason)
            return True
        if not supported:
            _log.warning("%s has no file locks: results stay right, work may be done twice", self._disk.root)
        return supported

    def _path(self, key: str) -> Path:
        return self._disk.root / "lock" / key


class _Wait:
    """One wait for a lock: looks at the holder between two tries, names it once, and ends with the patience."""

    def __init__(self, path: Path, what: str, patience: float, idle: float, unseen: float):
        self.path, self.supported = path, True
        self._what, self._patience, self._idle, self._unseen = what, patience, idle, unseen
        self._began = self._worked = time.monotonic()
        self._used: float | None = None
        self._told = False

    def look(self) -> None:
        """Raises Held when the patience with this holder is at its end."""
        now, (holder, used) = time.monotonic(), _holder(self.path)
        if used != self._used:
            self._worked, self._used = now, used
        if now - self._began > TOLD and not self._told:
            self._told = True
            _log.warning("waiting for %s: %s", self._what, holder)
        still = self._unseen if used is None else self._idle
        if now - self._began > self._patience or now - self._worked > still:
            raise Held(f"waited {now - self._began:.0f} s for {self._what}: {holder}")


def _taken(descriptor: int, wait: _Wait) -> int | None:
    """The descriptor once its lock is ours; None, and closed, once its file was removed."""
    pause = _FIRST_PAUSE
    try:
        while os.fstat(descriptor).st_nlink:
            with contextlib.suppress(BlockingIOError):
                wait.supported = _lock(descriptor, wait.path)
                return descriptor
            wait.look()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _holder(path: Path) -> tuple[str, float | None]:
    """Who holds a lock, in words, and the processor time that it has used; None for one that cannot be seen."""
    try:
        name, age = path.read_text(), time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return "a process without a name holds it", None
    process, who = running(name), f"process {name.split('-')[1]}" if "-" in name else "a process without a name"
    try:
        if process is not None:
            return f"{who} ({process.status()}) has held it for {age:.0f} s", sum(process.cpu_times()[:2])
    except psutil.Error:
        pass  # it has just ended, or is hidden
    return f"{who}, which cannot be seen from this host, has held it for {age:.0f} s", None


def _lock(descriptor: int, path: Path) -> bool:
    """False when the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            error.filename = str(path)
            raise
        return False
    return True
