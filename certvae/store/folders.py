"""Atomic publishing: a folder is whole and verified, or it is not there.

    tmp/<name>.<owner>.<random>/   every file new, written, synced      MANIFEST last      one rename to <parent>/<name>

The MANIFEST starts with the SHA-256 of its own rest, which is canonical JSON: the body that names the folder (the
folder's name is the body's digest) and {file: [size, SHA-256]}. A lost race is a no-op when the winner holds the same
bytes; a corrupt winner goes to quarantine/; other bytes are a `DeterminismFault`. Nothing is ever overwritten.

What reading costs: opening a folder verifies the MANIFEST, the listing and all sizes (0.1 to 0.2 ms, however large the
arrays are). The digest of a file is verified when its bytes are read, and exactly those bytes are parsed. So every byte
that is used was verified, and a hit on 100 MB of cached targets that nobody reads costs no second.
"""

import contextlib
import errno
import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from certvae.canonical import SCHEMA, digest
from certvae.errors import DeterminismFault, StoreFault
from certvae.store.disk import Disk, disk_faults, entries, sweep, temporary
from certvae.store.sealed import stamp, unstamp
from certvae.terminal import certvae

MANIFEST = "MANIFEST"
ATTEMPTS = 3
_MANIFEST_LIMIT = 2**24
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
MOVED = "it is moved to quarantine/; run the same command again, it is computed again"
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Corrupt(StoreFault):
    """A published entry is not what was published. Whoever meets it moves it to quarantine and computes it again.

    Args:
        remedy: another one, where nobody does.
    """

    def __init__(self, path: Path, reason: str, remedy: str = MOVED):
        self.path, self.reason = path, reason
        super().__init__(f"{path.parent.name}/{path.name} does not match its digest: {reason}", remedy, where=str(path))

    def __reduce__(self) -> tuple:
        return Corrupt, (self.path, self.reason, self.remedy)


@dataclass(frozen=True)
class Folder:
    """A published folder with a verified manifest, listing and sizes."""

    disk: Disk
    path: Path
    body: dict[str, Any]
    files: dict[str, tuple[int, str]]
    """{name: (size in bytes, SHA-256)}."""
    programs: tuple[str, ...] = ()
    """Digests of the texts of the program that had a part in it; no part of what it is."""

    @property
    def digest(self) -> str:
        """Content digest: equal for equal bytes, whatever the key."""
        return digest(self.files)

    def read(self, name: str) -> bytes:
        """The bytes of one file, verified.

        Raises:
            Corrupt: when they are not the published ones.
            DiskFault: when they could not be read; that is no corruption.
        """
        size, wanted = self.files[name]
        data = _read(self.disk.read, self.path, name, size)
        if hashlib.sha256(data).hexdigest() != wanted:
            raise Corrupt(self.path, f"{name} has another SHA-256")
        return data

    def verify(self) -> "Folder":
        """Reads and verifies every byte; of large files a part at a time is in memory."""
        for name, (size, wanted) in self.files.items():
            if _read(self.disk.sha256, self.path, name, size) != wanted:
                raise Corrupt(self.path, f"{name} has another SHA-256")
        return self


class Draft:
    """A folder that is being written: its files are new, synced, and digested while their bytes go by."""

    folder: Folder
    """What was published, once it was."""

    def __init__(self, disk: Disk, path: Path):
        self._disk, self._path = disk, path
        self.files: dict[str, tuple[int, str]] = {}

    def write(self, name: str, data: bytes) -> None:
        """Writes a file."""
        self._disk.write(self._path / name, data)
        self.files[name] = len(data), hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator["Sink"]:
        """A file that is written in parts: what `np.save` needs of one."""
        with self._disk.create(self._path / name) as put:
            sink = Sink(put)
            yield sink
        self.files[name] = sink.size, sink.sha256.hexdigest()


class Sink:
    """Takes the bytes of one file."""

    def __init__(self, put: Callable[[memoryview], None]):
        self._put, self.size, self.sha256 = put, 0, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Writes the bytes of a contiguous buffer; returns how many."""
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        self._put(view)
        self.sha256.update(view)
        self.size += view.nbytes
        return view.nbytes


def open_folder(disk: Disk, path: Path) -> Folder | None:
    """Opens a published folder, or None when there is none.

    Raises:
        Corrupt: when manifest, name, listing or a size is not as published.
        DiskFault: when something could not be read.
    """
    try:
        return _open(disk, path)
    except Corrupt:
        if not os.path.lexists(path):
            return None
    return _open(disk, path)  # published between two of our calls, it looked cut; now it is whole, or corrupt


def publish(
    disk: Disk,
    parent: str,
    body: Mapping[str, Any],
    files: Mapping[str, bytes],
    label: str = "",
    programs: Iterable[str] = (),
) -> Folder:
    """Publishes files as `<parent>/<digest of body>`; a no-op when the same bytes are there already.

    Args:
        parent: `obj` or `ckpt`.
        body: JSON that names the folder.
        files: name -> bytes.
        label: what is being published, for faults.
        programs: who had a part in it.

    Raises:
        DeterminismFault: other bytes were published under the same body; both are kept.
        DiskFault: the operating system refused; nothing half-written can be seen.
        StoreFault: store and `tmp/` lie on different file systems, or entries keep turning corrupt.
    """
    target = disk.root / parent / digest(body)
    with publishing(disk, target, body, label, sum(map(len, files.values())), programs) as draft:
        for name in sorted(files):
            draft.write(name, files[name])
    return draft.folder


@contextlib.contextmanager
def publishing(
    disk: Disk,
    target: Path,
    body: Mapping[str, Any],
    label: str = "",
    needed: int = 0,
    programs: Iterable[str] = (),
) -> Iterator[Draft]:
    """Publishes a folder that is too large for memory: written file by file, then renamed once.

        with publishing(disk, target, body, "decode digits", needed=size) as draft:
            with draft.open("images.npy") as file:
                np.save(file, images)
            draft.write("facts.json", text)
        draft.folder

    Args:
        disk: of a store, or a `Cache`.
        target: named by the digest of body, or by its field `name`.
        needed: bytes that will be written, for faults.

    Raises: as `publish` does; what the caller raises leaves nothing behind.
    """
    staged = disk.temporary(target.name)
    with disk_faults(label, needed):
        try:
            disk.make_folder(staged)
            draft = Draft(disk, staged)
            yield draft
            ours = Folder(disk, target, dict(body), dict(draft.files), tuple(sorted(programs)))
            draft.write(MANIFEST, _manifest(ours))
            disk.sync_folder(staged)
            draft.folder = _move(disk, staged, target, ours)
        finally:
            if staged.exists():
                disk.clear(staged)
        disk.sync_folder(target.parent)


class Cache(Disk):
    """A folder outside of `obj/` that large folders are published in; until then they are hidden entries of it.

    Made when it is not there, and swept of what dead processes left.

    Raises:
        DiskFault: it cannot be made or written.
    """

    def __init__(self, root: Path):
        super().__init__(root)
        with disk_faults("cache"):
            root.mkdir(parents=True, exist_ok=True)
            sweep(root)

    def temporary(self, name: str) -> Path:
        return temporary(self.root, f".{name}")


def quarantine(disk: Disk, path: Path, reason: str) -> None:
    """Moves a bad entry out of the way and says so; harmless when somebody else did so at the same time.

    On a disk that is only read it says so, and no more.
    """
    if disk.reading:
        _log.warning("%s: %s; it is left out, and left where it is", path, reason)
        return
    _log.warning("%s: %s; it is moved to quarantine", path, reason)
    with disk_faults("quarantine"), contextlib.suppress(FileNotFoundError):
        disk.make_folder(disk.root / "quarantine", exist_ok=True)
        disk.rename(path, disk.root / "quarantine" / f"{path.name}.{uuid.uuid4().hex}")
        disk.sync_folder(path.parent)


def give_up(disk: Disk, corrupt: Corrupt) -> NoReturn:
    """Raises what is corrupt: after it was moved out of the way, or, on a disk that is only read, with another remedy.

    Raises:
        Corrupt: always.
    """
    if disk.reading:
        repair = certvae("store", "repair", "--store", str(disk.root))
        raise Corrupt(corrupt.path, corrupt.reason, f"run `{repair}` where the store can be written") from corrupt
    quarantine(disk, corrupt.path, corrupt.reason)
    raise corrupt


def discard(disk: Disk, path: Path) -> None:
    """Takes a published folder away in one step, so that no reader ever sees half of it."""
    removed = disk.temporary(path.name)
    with disk_faults("remove"), contextlib.suppress(FileNotFoundError):
        disk.rename(path, removed)
        disk.clear(removed)


def folders(disk: Disk, parent: str) -> Iterator[Folder]:
    """Every folder below `<parent>/` that can be opened, in order of name; corrupt ones are left to `repair`."""
    with disk_faults("read"):
        paths = entries(disk.root / parent)
    for path in paths:
        with contextlib.suppress(Corrupt):
            folder = open_folder(disk, path)
            if folder is not None:
                yield folder


def _open(disk: Disk, path: Path) -> Folder:
    folder = _parse(disk, path, _read(disk.read, path, MANIFEST, _MANIFEST_LIMIT))
    _check_listing(folder)
    return folder


def unsettled(path: Path) -> StoreFault:
    """The fault for an entry that could not be published because a corrupt one was in the way each time."""
    return StoreFault(
        f"could not publish in {ATTEMPTS} attempts: each time a corrupt entry was in the way",
        f"check the disk, then run `{certvae('store', 'verify', '--store', str(path.parents[1]))}`",
        where=str(path),
    )


def _move(disk: Disk, staged: Path, target: Path, ours: Folder) -> Folder:
    for _ in range(ATTEMPTS):
        try:
            disk.rename(staged, target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise crosses(target) from error
            if error.errno not in _TAKEN:
                raise
        else:
            return ours
        winner = _winner(disk, target)
        if winner is not None and winner.digest == ours.digest:
            return winner
        if winner is not None:
            quarantine(disk, staged, "its key was published with other bytes")
            raise other_bytes(target, winner.digest, ours.digest)
    raise unsettled(target)


def _winner(disk: Disk, target: Path) -> Folder | None:
    """Who was first, every byte verified; None when that was corrupt, and moved away, or is gone again."""
    try:
        folder = open_folder(disk, target)
        return None if folder is None else folder.verify()
    except Corrupt as corrupt:
        quarantine(disk, target, corrupt.reason)
        return None


def _manifest(folder: Folder) -> bytes:
    told = {"programs": folder.programs} if folder.programs else {}
    return stamp({"schema": SCHEMA, "key": digest(folder.body), "body": folder.body, "files": folder.files, **told})


def _parse(disk: Disk, path: Path, data: bytes) -> Folder:
    try:
        manifest = unstamp(data)
    except ValueError as error:
        raise Corrupt(path, f"{MANIFEST} {error}") from error
    try:
        schema, key, body = manifest["schema"], manifest["key"], manifest["body"]
        names, programs = (key, body.get("name")), tuple(map(str, manifest.get("programs", ())))
        files = {name: (int(size), str(sha)) for name, (size, sha) in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, f"{MANIFEST} has another form") from error
    if schema != SCHEMA:
        raise _other_schema(path, schema)
    if key != digest(body) or path.name not in names:
        raise Corrupt(path, "the folder's name is not the digest of its body")
    return Folder(disk, path, body, files, programs)


def _check_listing(folder: Folder) -> None:
    found = _listing(folder.path)
    if found.keys() - {MANIFEST} != folder.files.keys():
        difference = sorted((found.keys() - {MANIFEST}) ^ folder.files.keys())
        raise Corrupt(folder.path, f"missing or surplus: {', '.join(difference)}")
    for name, (size, _) in folder.files.items():
        if found[name] != size:
            raise Corrupt(folder.path, f"{name} has {found[name]} bytes instead of {size}")


def _listing(path: Path) -> dict[str, int | None]:
    """{name: size, None for what is no regular file}; a link to a folder is no folder of ours."""
    with disk_faults("read"):
        try:
            if path.is_symlink():
                raise Corrupt(path, "it is a link")
            with os.scandir(path) as found:
                return {entry.name: _size(entry) for entry in found}
        except FileNotFoundError as error:
            raise Corrupt(path, "it is gone") from error


def _size(entry: os.DirEntry) -> int | None:
    return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else None


def _read(how: Callable[[Path, int], T], path: Path, name: str, limit: int) -> T:
    with disk_faults("read"):
        try:
            return how(path / name, limit)
        except FileNotFoundError as error:
            raise Corrupt(path, f"{name} is missing") from error
        except ValueError as error:
            raise Corrupt(path, f"{name} {error}") from error


def crosses(target: Path) -> StoreFault:
    """The fault for a store that one rename cannot cross."""
    return StoreFault(
        "tmp/ and the rest of the store lie on different file systems",
        "keep the whole store on one file system",
        where=str(target),
        cause="a folder inside the store is a mount point or a link",
    )


def _other_schema(path: Path, schema: Any) -> StoreFault:
    return StoreFault(
        f"the manifest has schema {schema}, this program reads schema {SCHEMA}",
        "use that version, or another --store",
        where=str(path),
        cause="another version of certvae wrote it",
    )


def other_bytes(target: Path, first: str, second: str) -> DeterminismFault:
    """The fault for one key that gave two contents."""
    return DeterminismFault(
        f"one key, two contents: {first} was published first, now came {second}",
        "compare the folder with its namesake in quarantine/, then repair the stage or bump its version",
        where=str(target),
        cause="the stage is not deterministic, or its code changed and its version did not",
    )
