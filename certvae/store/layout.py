"""The folder of a store: how it is laid out, made, recognised, and refused when it is not safe to use.

STORE.json   {layout, id, test_store}, sealed like every record
obj/ ckpt/ plan/ rows/                        truth
data/                                         data sets as they were decoded; not made here
tmp/ lock/ quarantine/ log/ views/            scratch, evidence, or derived
"""

import errno
import os
import shlex
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

from certvae.errors import ConfigFault, StoreFault
from certvae.store.disk import Disk, disk_fault, disk_faults, sweep
from certvae.store.failpoints import Failpoints
from certvae.store.folders import Corrupt, crosses, quarantine
from certvae.store.log import note
from certvae.store.process import owner
from certvae.store.records import LIMIT, publish_file
from certvae.store.sealed import seal, unseal
from certvae.terminal import certvae

LAYOUT = 1
STORE = "STORE.json"
VIEWS = "views"
"""Derived files: they may be deleted whenever no sweep runs."""
FOLDERS = ("tmp", "quarantine", "lock", "log", VIEWS, "obj", "ckpt", "plan", "rows")
DATA = "data"
TRUST = "CERTVAE_TRUST_STORE"
"""The environment variable that, set to 1, lets a store be used which others own or can write. That is noted in the
store's log, and workers and later commands inherit it."""


@dataclass(frozen=True)
class Identity:
    """What STORE.json says."""

    layout: int
    id: str
    test_store: bool


UNMADE = Identity(LAYOUT, "", test_store=False)
"""The identity of a folder that is no store yet and must not become one: it was only asked about."""


def open_root(path: Path, *, test_store: bool = False) -> tuple[Disk, Identity]:
    """Opens the folder of a store, or makes a new one with mode 0700, and sweeps what dead processes left in `tmp/`.

    Args:
        path: the folder.
        test_store: make a store in which failpoints act; a store keeps for ever what it was made as.

    Raises:
        ConfigFault: a file lies there, or above.
        DiskFault: the folder cannot be made or written; told before any work starts.
        StoreFault: not a store, another layout, not safe, or damaged.
    """
    with disk_faults("store"):
        root = _place(path)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = _identity(root)
        disk = Disk(root, _failpoints(identity.test_store if identity else test_store))
        for name in FOLDERS:
            disk.make_folder(root / name, exist_ok=True)
        _check_one_file_system(root)
        identity = identity or _found(disk, test_store)
        if test_store and not identity.test_store:
            raise _no_test_store(root)
        if not is_safe(root, os.geteuid()):
            note(disk, "trusted", {"owner": owner(), "uid": root.stat().st_uid, "mode": oct(root.stat().st_mode)})
        sweep(root / "tmp")
    return disk, identity


def ask_root(path: Path) -> tuple[Disk, Identity]:
    """`open_root` where there is a store. Elsewhere it leaves nothing, and meets what making one would meet."""
    with disk_faults("store"):
        root = _place(path)
        if not root.exists():
            _check_makeable(root)
        elif _identity(root) is not None:
            return open_root(root)
    return Disk(root), UNMADE


def read_root(path: Path) -> tuple[Disk, Identity]:
    """Opens the folder of a store that is there, and perhaps cannot be written: nothing is.

    Raises: as `open_root`, and StoreFault where there is no store.
    """
    with disk_faults("store"):
        root = _place(path)
        if root.exists():
            _check_safe(root)
        identity = _whole_identity(root)
    if identity is None:
        raise no_store(root)
    return Disk(root, reading=True), identity


def _identity(root: Path) -> Identity | None:
    """What STORE.json says of a folder that is safe and can be written; None in an empty one."""
    _check_safe(root)
    _check_writable(root)
    identity = _whole_identity(root)
    if identity is None:
        _check_empty(root)
    return identity


def _whole_identity(root: Path) -> Identity | None:
    try:
        return read_identity(Disk(root))
    except Corrupt as corrupt:
        raise StoreFault(
            f"{STORE} is damaged: {corrupt.reason}",
            f"run `{certvae('store', 'repair', '--store', str(root))}`",
            where=str(root / STORE),
        ) from corrupt


def read_identity(disk: Disk) -> Identity | None:
    """What STORE.json says, or None when there is none.

    Raises:
        Corrupt: it is damaged.
        StoreFault: it speaks of another layout.
        DiskFault: it could not be read.
    """
    with disk_faults("store"):
        try:
            record, _ = unseal(disk.read(disk.root / STORE, LIMIT))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Corrupt(disk.root / STORE, str(error)) from error
    if record.get("layout") != LAYOUT:
        raise StoreFault(
            f"store layout {record.get('layout')}, this program reads layout {LAYOUT}",
            "use that version, or another folder",
            where=str(disk.root / STORE),
            cause="another version of certvae made the store",
        )
    return Identity(**record)


def repair_identity(disk: Disk) -> None:
    """Puts a new STORE.json in the place of a damaged one, which goes to quarantine. The results keep their names."""
    quarantine(disk, disk.root / STORE, "damaged")
    _found(disk, test_store=False)


def is_safe(path: Path, uid: int) -> bool:
    """True when the entry belongs to this user and nobody else can write it."""
    status = path.lstat()
    return status.st_uid == uid and not (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _failpoints(armed: bool) -> Failpoints | None:
    return Failpoints.from_environment(os.environ) if armed else None


def _found(disk: Disk, test_store: bool) -> Identity:
    """Makes this folder a store, unless somebody did so a moment ago; returns what the folder now is."""
    identity = Identity(LAYOUT, uuid.uuid4().hex, test_store)
    publish_file(disk, disk.root / STORE, seal(vars(identity)))
    return read_identity(disk) or identity


def _place(path: Path) -> Path:
    """Where it lies, with nothing but folders on the way."""
    root = Path(os.path.realpath(path))  # `resolve` raises an error of its own for a link to itself
    there = next(place for place in (root, *root.parents) if os.path.lexists(place))
    if not there.is_dir():
        kind = "a link to itself" if there.is_symlink() else "a file"
        raise ConfigFault(
            f"the store must be a folder, and {there} is {kind}",
            "name another --store, or move that away",
            where=str(root),
        )
    return root


def _check_safe(root: Path) -> None:
    if not is_safe(root, os.geteuid()) and os.environ.get(TRUST) != "1":
        status = root.stat()
        ours = f"choose another folder, or set {TRUST}=1 to use this one all the same; that is noted in its log"
        private = (
            f"run `{shlex.join(['chmod', 'go-w', str(root)])}`; where that changes nothing, as on a disk of Windows"
        )
        raise StoreFault(
            f"the store must belong to this user (uid {os.geteuid()}) and be writable by nobody else, "
            f"found uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
            f"{private}, {ours}" if status.st_uid == os.geteuid() else ours,
            where=str(root),
            cause="whoever can write a store can change results",
        )


def _check_makeable(root: Path) -> None:
    """What `mkdir` would say of a folder that is not there."""
    there = next(folder for folder in root.parents if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root))


def _check_writable(root: Path) -> None:
    for path in (root, *(root / name for name in FOLDERS)):
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise disk_fault(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)), "store")


def _check_empty(root: Path) -> None:
    # STORE.json is ours too: another process may found the store at this moment.
    foreign = sorted(path.name for path in root.iterdir() if path.name not in (*FOLDERS, DATA, STORE))
    if foreign:
        raise StoreFault(
            f"the folder is no store and not empty: it holds {', '.join(foreign[:3])}",
            "choose an empty or new folder",
            where=str(root),
        )


def _check_one_file_system(root: Path) -> None:
    if len({(root / name).stat().st_dev for name in FOLDERS}) > 1:
        raise crosses(root)


def existing(root: Path) -> Disk:
    """The folder of a store that is there; none is made.

    Raises:
        StoreFault: there is no store, or one that is damaged, or of another layout.
    """
    if _whole_identity(root) is None:
        raise no_store(root)
    return Disk(root)


def check_made(root: Path) -> None:
    """Looks for a store in a folder, be it whole or not.

    Raises:
        DiskFault: nobody can tell.
        StoreFault: there is none.
    """
    with disk_faults("store"):
        try:
            (root / STORE).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise no_store(root) from error


def no_store(root: Path) -> StoreFault:
    """The fault for a folder that was never made a store."""
    return StoreFault(
        f"wanted a store, found no {STORE}", "give --store the folder that the study was run with", where=str(root)
    )


def _no_test_store(root: Path) -> StoreFault:
    return StoreFault(
        "a store with results must not be used as a test store",
        "choose a new folder",
        where=str(root),
        cause="failpoints would act in it",
    )
