"""Looks after a store: verifies every byte, moves bad entries away, counts, and collects what nothing refers to.

Exit codes of `verify` are a sum of bits and part of the public interface:

    0 every entry verified      1 corrupt, incomplete or surplus entry      2 wrong owner or mode, or unknown schema
    4 something could not be read         8 what a study has published and listed is gone
"""

import contextlib
import itertools
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certvae.canonical import canonical_json
from certvae.errors import DiskFault, StoreFault
from certvae.store.disk import Disk, disk_faults, entries, is_folder, parts, remove, sweep
from certvae.store.folders import Corrupt, Folder, discard, folders, open_folder, quarantine
from certvae.store.layout import (
    DATA,
    STORE,
    VIEWS,
    check_made,
    existing,
    is_safe,
    no_store,
    read_identity,
    repair_identity,
)
from certvae.store.process import running
from certvae.store.records import PLAN, ROWS, expected, read_record, record_paths
from certvae.store.segments import all_segments, check
from certvae.terminal import number_of

CORRUPT, FOREIGN, UNREADABLE, MISSING = 1, 2, 4, 8
FOLDERS = ("obj", "ckpt", DATA)
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """One entry that is not as it should be."""

    path: Path
    bit: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What `verify` found."""

    verified: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """Sum of the bits of all findings."""
        code = 0
        for finding in self.findings:
            code |= finding.bit
        return code

    def __str__(self) -> str:
        lines = [f"{finding.path}: {finding.reason}" for finding in self.findings]
        return "\n".join([*lines, f"{self.verified} entries verified, {number_of(len(self.findings), 'finding')}"])


@dataclass(frozen=True)
class Status:
    """What a store holds."""

    objects: dict[tuple[str, int], int]
    """{(stage, version): objects}."""
    rows: dict[str, int]
    """{study: rows}."""
    entries: dict[str, int]
    """{folder: entries} of everything else."""
    size: int
    """Bytes of everything."""

    @property
    def older(self) -> int:
        """Objects of a stage version that a later version replaced: kept, and not used by later code."""
        newest: dict[str, int] = {}
        for stage, version in self.objects:
            newest[stage] = max(version, newest.get(stage, version))
        return sum(count for (stage, version), count in self.objects.items() if version < newest[stage])

    def __str__(self) -> str:
        lines = [f"{count:8d} {stage}, version {version}" for (stage, version), count in sorted(self.objects.items())]
        lines += [f"{count:8d} rows of {study}" for study, count in sorted(self.rows.items())]
        lines += [f"{count:8d} in {folder}/" for folder, count in sorted(self.entries.items())]
        note = [f"{self.older} results from older code, not used"] if self.older else []
        return "\n".join([*lines, *note, f"{self.size / 1e9:.3f} GB"])


def verify(root: Path) -> Report:
    """Reads and verifies every byte of truth; changes nothing, and does not raise for what it finds.

    Raises:
        DiskFault: nobody can tell what there is.
    """
    with disk_faults("store"):
        disk, entries = Disk(root), list(_entries(root))
    findings = (*(finding for path in entries for finding in _findings(disk, path)), *_missing(disk))
    return Report(len({*entries} - {finding.path for finding in findings}), findings)


def repair(root: Path) -> Report:
    """Moves every corrupt entry to quarantine, sweeps `tmp/`, and returns what `verify` finds after that.

    What is gone cannot be moved: it stays a finding until a run, or a copy, brings it back.

    Raises:
        DiskFault: an entry could not be moved.
        StoreFault: there is no store.
    """
    disk = Disk(root)
    check_made(root)
    _make_scratch(disk)
    for finding in verify(root).findings:
        if finding.bit == CORRUPT and finding.path == root / STORE:
            repair_identity(disk)
        elif finding.bit == CORRUPT:
            quarantine(disk, finding.path, finding.reason)
    sweep(root / "tmp")
    return verify(root)


def status(root: Path) -> Status:
    """Counts entries by their manifests; no array is read.

    Raises:
        StoreFault: there is no store.
    """
    disk = existing(root)
    stages = Counter((folder.body["stage"], folder.body["version"]) for folder in folders(disk, "obj"))
    studies = Counter(path.parent.name for path in record_paths(root / ROWS))
    counts = {name: len(entries(root / name)) for name in ("ckpt", "tmp", "quarantine")}
    counts[PLAN] = len(list(record_paths(root / PLAN)))
    return Status(dict(stages), dict(studies), counts, _size(root))


def gc(root: Path, *, dry_run: bool = True, older_than_days: float = 7.0) -> list[Path]:
    """Removes, or with `dry_run` only names, old entries that nothing refers to.

    Kept: objects whose key or content a row or document names, and all inputs of those. Age is the one thing here
    that is read from a clock: a wrong one costs computing again, never a result.

    Args:
        root: folder of the store.
        dry_run: change nothing.
        older_than_days: younger entries may belong to a sweep that runs now; they stay, and so does the scratch of any
            process that runs.

    Raises:
        StoreFault: there is no store.
    """
    disk = existing(root)
    horizon = time.time() - older_than_days * 86_400
    objects = list(folders(disk, "obj"))
    kept = _reachable(objects, _named_by_records(root))
    published = {folder.path.name for folder in objects}
    unused = [folder.path for folder in objects if folder.path.name not in kept]
    unused += [ckpt.path for ckpt in folders(disk, "ckpt") if ckpt.body["stage_key"] not in kept - published]
    old = [path for path in unused if _changed(path) < horizon] + list(_left_behind(root / "tmp", horizon))
    if not dry_run:
        _make_scratch(disk)
    for path in () if dry_run else old:
        if path.parent.name == "tmp":
            remove(path)
        else:
            discard(disk, path)
    return old


def _make_scratch(disk: Disk) -> None:
    """What is moved passes through `tmp/`, which a copy without empty folders lacks."""
    with disk_faults("store"):
        disk.make_folder(disk.root / "tmp", exist_ok=True)


def _left_behind(scratch: Path, horizon: float) -> Iterator[Path]:
    """Entries of those who do not run here and have changed none since: a driver that runs touches its probe file."""
    owned: dict[str, list[Path]] = {}
    for path in entries(scratch):
        owned.setdefault(parts(path.name)[1] or path.name, []).append(path)
    for owner, paths in owned.items():
        if running(owner) is None and max(map(_changed, paths)) < horizon:
            yield from paths


def _entries(root: Path) -> Iterator[Path]:
    """The root, what makes it a store, everything that is truth, and rows by column."""
    yield from (root, root / STORE)
    for folder in (root / name for name in FOLDERS):
        # Hidden is what somebody writes at this moment.
        yield from (path for path in entries(folder) if path.name[0] != ".") if is_folder(folder) else ()
    for folder in (root / PLAN, root / ROWS):
        yield from record_paths(folder) if is_folder(folder) else ()
    yield from all_segments(root)


def _findings(disk: Disk, path: Path) -> Iterator[Finding]:
    try:
        _check(disk, path)
        owner = disk.root.stat().st_uid
        inner = path.iterdir() if path.parent.name in FOLDERS else ()
        if not all(is_safe(part, owner) for part in (path, *inner)):
            yield Finding(path, FOREIGN, "it belongs to somebody else, or others can write it")
    except FileNotFoundError:
        pass  # taken away by a running sweep; what must be there is looked for by name
    except Corrupt as corrupt:
        yield Finding(path, CORRUPT, corrupt.reason)
    except StoreFault as fault:
        yield Finding(path, FOREIGN, fault.what)
    except (DiskFault, OSError) as fault:
        yield Finding(path, UNREADABLE, str(fault))


def _missing(disk: Disk) -> Iterator[Finding]:
    """What a sealed list says must be there, and is not."""
    wanted: dict[str, str] = {}
    with contextlib.suppress(DiskFault):  # a list that cannot be read was found as an entry already
        wanted = expected(disk)
    for place, study in wanted.items():
        if not (path := disk.root / place).exists():
            yield Finding(path, MISSING, f"it is gone; run study {study} again, or bring it back from a copy")


def _check(disk: Disk, path: Path) -> None:
    match path.relative_to(disk.root).parts:
        case ():
            pass
        case (name,) if name == STORE:
            if read_identity(disk) is None:
                raise no_store(disk.root)
        case (parent, _) if parent in FOLDERS:
            folder = open_folder(disk, path)
            if folder is not None:
                folder.verify()
        case (parent, *_) if parent == VIEWS:
            check(disk, path)
        case _:
            read_record(disk, path)


def _reachable(objects: list[Folder], roots: set[str]) -> set[str]:
    """Keys of all objects that a root names, by key or content, and of their inputs, and the roots themselves."""
    keys: dict[str, list[str]] = {}
    for folder in objects:
        keys.setdefault(folder.digest, []).append(folder.path.name)
    inputs = {folder.path.name: _digests(canonical_json(folder.body["inputs"])) for folder in objects}
    kept: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += [*keys.get(name, ()), *inputs.get(name, ())]
    return kept


def _named_by_records(root: Path) -> set[str]:
    """Digests in all rows and documents: in those, too, that came in the place of others while these were read."""
    named: set[str] = set()
    read: set[Path] = set()
    while new := {path for parent in (PLAN, ROWS) for path in record_paths(root / parent)} - read:
        for path in new:
            with contextlib.suppress(FileNotFoundError):
                named.update(_digests(path.read_bytes()))
        read |= new
    return named


def _digests(text: bytes) -> list[str]:
    return [found.decode() for found in _DIGEST.findall(text)]


def _changed(path: Path) -> float:
    """When it was changed, as a time of the clock; for what is gone meanwhile, later than anything."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_mtime
    return math.inf


def _size(root: Path) -> int:
    """Bytes of all files and folders; some may go while they are counted."""
    total = 0
    for folder, *names in os.walk(root):
        for name in itertools.chain(*names):
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_size
    return total
