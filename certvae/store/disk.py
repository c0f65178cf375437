"""Makes the durable I/O calls of a store, and turns what the operating system refuses into faults.

Every call is one failpoint step (a write is several) and raises OSError with the path it was about. `disk_faults`
turns that into a `DiskFault` at the border of an operation, never deeper: publishing must tell EEXIST from ENOSPC.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path

from certvae.errors import DiskFault
from certvae.store.failpoints import Failpoints
from certvae.store.process import is_dead, owner

_log = logging.getLogger(__name__)
_RERUN = "run the same command again"
_REFUSALS = {
    errno.ENOSPC: ("disk full", f"free space, then {_RERUN}"),
    errno.EDQUOT: ("disk quota exceeded", f"free space within the quota, then {_RERUN}"),
    errno.EROFS: ("read-only file system", f"check the disk, mount it writable, then {_RERUN}"),
    errno.EACCES: ("no permission", "make the folder writable for this user, or choose another --store"),
    errno.EPERM: ("no permission", "make the folder writable for this user, or choose another --store"),
    errno.EIO: ("input/output error", f"check the disk, copy the store to a good one, then {_RERUN}"),
    errno.EFBIG: ("file larger than allowed", f"raise the limit (ulimit -f), then {_RERUN}"),
    errno.EMFILE: ("too many open files", f"raise the limit (ulimit -n), then {_RERUN}"),
    errno.ENAMETOOLONG: ("path too long", "choose another --store, or --out of a report, with a shorter path"),
}
_LINKLESS = ("no hard links", "choose another --store, on a disk that has them, such as ext4 or xfs")
_NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that has no hard links: FAT, shares of Windows, FUSE."""
_NOT_A_FILE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
_PART = 2**20
_NAME_OF = attrgetter("name")  # paths compared whole are a tenth of what a row takes to be read
_OTHER = ("refused by the operating system", f"read the cause, then {_RERUN}")


class NoLinks(OSError):
    """A file that was just written here got no second name: the file system has no hard links."""


class Disk:
    """Durable I/O below one store root.

    Args:
        root: the store's folder; its `tmp/` lies on the same file system as everything that is published.
        failpoints: where to die or fail; by default nowhere.
        reading: it may be one that cannot be written: what is corrupt stays where it is.
    """

    def __init__(self, root: Path, failpoints: Failpoints | None = None, *, reading: bool = False):
        self.root, self.reading = root, reading
        self.failpoints = failpoints or Failpoints()

    def temporary(self, name: str) -> Path:
        """A fresh path in `tmp/` that says whose it is."""
        return temporary(self.root / "tmp", name)

    def make_folder(self, path: Path, *, exist_ok: bool = False) -> None:
        """Makes one folder with mode 0700 and makes its name durable when it is to stay."""
        if exist_ok and path.is_dir():
            return
        with self._step("make", path):
            path.mkdir(mode=0o700, exist_ok=exist_ok)
        if exist_ok:
            self.sync_folder(path.parent)

    @contextlib.contextmanager
    def create(self, path: Path) -> Iterator[Callable[[memoryview], None]]:
        """A new file, as the call that writes its next bytes: no link is followed, nothing overwritten, all synced."""
        with self._step("open", path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)

        def put(part: memoryview) -> None:
            with self._step("write", path):
                _write_all(descriptor, part)

        try:
            yield put
            with self._step("sync", path):
                os.fsync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        with self._step("close", path):
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Writes a new file with these bytes."""
        view = memoryview(data)
        with self.create(path) as put:
            put(view[: len(data) // 2])
            put(view[len(data) // 2 :])

    def append(self, path: Path, line: bytes) -> None:
        """Adds one line to a log in one call, so that lines of several processes do not mix. Logs are not synced."""
        with self._step("append", path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, memoryview(line + b"\n"))
            finally:
                os.close(descriptor)

    def open_lock(self, path: Path) -> int:
        """A descriptor of a lock file, which is made when it is not there."""
        with self._step("lock", path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def sync_folder(self, path: Path) -> None:
        """Makes the names inside a folder durable."""
        with self._step("sync", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno != errno.EINVAL:  # what some servers say, and disks of Windows: they sync no folder
                    raise
            finally:
                os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Moves a file or folder in one step; a folder never replaces one that has entries."""
        with self._step("rename", target):
            source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Gives a file its final name in one step, or raises FileExistsError: unlike rename it never overwrites.

        Raises:
            NoLinks: the file system has none.
        """
        with self._step("link", target):
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_LINK:
                    raise NoLinks(error.errno, error.strerror, str(target)) from error
                raise

    def clear(self, path: Path) -> None:
        """Removes a temporary file or folder if it is there. What cannot be removed is swept at a later start."""
        with contextlib.suppress(OSError), self._step("clear", path):
            remove(path)

    def read(self, path: Path, limit: int) -> bytes:
        """The bytes of a regular file of at most `limit` bytes; its size is looked at before memory is taken.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is larger, or no regular file.
            OSError: when it could not be read.
        """
        return b"".join(self._parts(path, limit, limit))

    def sha256(self, path: Path, limit: int) -> str:
        """The digest of such a file, of which a part at a time is in memory; raises as `read` does."""
        found = hashlib.sha256()
        for part in self._parts(path, limit, _PART):
            found.update(part)
        return found.hexdigest()

    def _parts(self, path: Path, limit: int, part: int) -> Iterator[bytes]:
        """A file that was cut meanwhile gives fewer bytes, and its digest then tells."""
        with self._at(path):
            self.failpoints.place(f"read:{path.name}")
            try:
                # O_NONBLOCK: a pipe that lies where a file should be must not hang the reader.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in _NOT_A_FILE:
                    raise
                raise ValueError("is no regular file") from error
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ValueError("is no regular file")
                if status.st_size > limit:
                    raise ValueError(f"has {status.st_size} bytes instead of {limit}")
                left = status.st_size
                while left > 0 and (data := os.read(descriptor, min(left, part))):
                    left -= len(data)
                    yield data
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _step(self, call: str, path: Path) -> Iterator[None]:
        with self._at(path):
            self.failpoints.step(f"{call}:{path.name}")
            yield

    @contextlib.contextmanager
    def _at(self, path: Path) -> Iterator[None]:
        """Calls on a descriptor raise an OSError that names no file: it is added here."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(path)
            raise


def put_view(path: Path, data: bytes) -> bool:
    """Writes a file that can be made again, such as a view: whole or not at all, over what was there.

    False, and one line in the log that says what the disk refused, where it cannot be written: no run ends for it.
    """
    draft = temporary(path.parent, f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        remove(draft)
        _log.warning("%s", disk_fault(error, "view"))
        return False
    return True


@contextlib.contextmanager
def disk_faults(label: str = "", needed: int = 0) -> Iterator[None]:
    """Turns an OSError inside into a DiskFault that names errno, path, free space, and what to do.

    Args:
        label: what was going on, such as `stage warm_up`.
        needed: bytes that the operation wanted to write.
    """
    try:
        yield
    except OSError as error:
        raise disk_fault(error, label, needed) from error


def disk_fault(error: OSError, label: str = "", needed: int = 0) -> DiskFault:
    """The fault for one refused call."""
    what, remedy = _LINKLESS if isinstance(error, NoLinks) else _REFUSALS.get(error.errno or 0, _OTHER)
    path = Path(os.fsdecode(error.filename or "."))
    name = errno.errorcode.get(error.errno or 0, "unknown errno")
    return DiskFault(
        f"{what}{_space(path, needed)}",
        f"what was published before is kept; {remedy}",
        where=" ".join(part for part in (label, str(path)) if part),
        cause=f"{name}: {error.strerror}",
    )


def _space(path: Path, needed: int) -> str:
    """` on DIR (0.2 of 40.0 GB free, need 1.3 GB)`, asked of the nearest folder that is there; empty on a sick disk."""
    try:
        folder = next(parent for parent in (path, *path.parents) if is_folder(parent))
        usage = shutil.disk_usage(folder)
    except OSError:
        return ""
    need = f", need {needed / 1e9:.1f} GB" if needed else ""
    return f" on {folder} ({usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free{need})"


def _write_all(descriptor: int, data: memoryview) -> None:
    """Writes to the end: the kernel may take less than it was given."""
    while data:
        data = data[os.write(descriptor, data) :]


def temporary(folder: Path, name: str) -> Path:
    """A fresh path that says whose it is: `<name>.<owner>.<random>`."""
    return folder / f"{name}.{owner()}.{uuid.uuid4().hex}"


def parts(name: str) -> tuple[str, str]:
    """What a temporary path of this name is of, and whose; empty where it does not say."""
    stem, _, made_by = name.rpartition(".")[0].rpartition(".")
    return stem, made_by


def is_folder(path: Path) -> bool:
    """Whether a folder lies there.

    Raises:
        OSError: nobody can tell, which `Path.is_dir` takes for a no from Python 3.14 on.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order of name: nothing where it is absent, for copies often leave empty folders out."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(folder.iterdir(), key=_NAME_OF)
    return []


def sweep(folder: Path) -> int:
    """Removes what dead processes of this host left in a folder; returns how much.

    What processes of other hosts left is not judged: `gc` removes it once it is old.
    """
    dead, removed = functools.cache(is_dead), 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            _, made_by = parts(entry.name)
            if dead(made_by):
                remove(Path(entry.path))
                removed += 1
    return removed


def remove(path: Path) -> None:
    """Removes a file or folder that may be gone; what cannot be removed stays for the next who tries."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
