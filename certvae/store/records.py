"""Records: one small JSON file each, whole or absent, with its own digest inside. Rows and documents are records.

    rows/<study>/<digest>.json      one line of a table; four lines of pandas read a folder of them
    plan/<kind>/<name>.json         a decision that must not change: proposals, censored cells, looks at certify rows

A record is sealed by a field `digest`. A row is named by it: to publish it again is a no-op, and a row that was shown
never changes.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from certvae.canonical import digest
from certvae.errors import StoreFault
from certvae.store.disk import Disk, disk_faults, entries, remove
from certvae.store.folders import ATTEMPTS, Corrupt, quarantine, unsettled
from certvae.store.sealed import seal, unseal

ROWS = "rows"
PLAN = "plan"
EXPECTED, REPLACED = "expected", "replaced"
"""Kinds of documents that speak of others: what must be there, and rows that were made again."""
BUNDLED = "bundled"
"""Kind of the documents that name the networks whose bundles MLflow shall show."""
_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,127}")
LIMIT = 2**24

Record = dict[str, Any]


def put_row(disk: Disk, row: Mapping[str, Any]) -> str:
    """Publishes a row and returns its name; a no-op when it is there already.

    Raises:
        StoreFault: its `study` is missing or no valid name.
        DiskFault: it could not be written.
    """
    disk.failpoints.place("before:row")
    name = digest(row)
    _put(disk, disk.root / ROWS / checked_name(row.get("study")) / f"{name}.json", row)
    remove(_document_path(disk, REPLACED, name))  # it may have been made again, and be what it was before that
    return name


def rows(disk: Disk, study: str | None = None) -> list[Record]:
    """All verified rows, or those of one study, ordered by study and name; corrupt ones are moved to quarantine."""
    below = None if study is None else checked_name(study)
    found = (get_record(disk, path) for path in _shown(disk, below))
    return [row for row in found if row is not None]


def studies(disk: Disk) -> list[str]:
    """Names of the studies that have a folder of rows."""
    return [path.name for path in entries(disk.root / ROWS) if path.is_dir()]


def row_paths(disk: Disk, study: str) -> dict[str, Path]:
    """{name: file} of the rows of a study, without those that were replaced."""
    return {path.stem: path for path in _shown(disk, checked_name(study)) if path.suffix == ".json"}


def put_document(disk: Disk, kind: str, name: str, body: Mapping[str, Any]) -> Record:
    """Publishes a document once and returns it.

    Raises:
        StoreFault: it exists with another body, or a name is not valid.
        DiskFault: it could not be written.
    """
    path = _document_path(disk, kind, name)
    found = _put(disk, path, {"kind": kind, "name": name, "body": dict(body)})["body"]
    if digest(found) != digest(body):
        raise StoreFault(
            f"{kind}/{name} is {digest(found)} already and cannot become {digest(body)}",
            "run the study as it was, or give it another name",
            where=str(path),
        )
    return found


def get_document(disk: Disk, kind: str, name: str) -> Record | None:
    """A verified document, or None; a corrupt one is moved to quarantine and is None."""
    found = get_record(disk, _document_path(disk, kind, name))
    return None if found is None else found["body"]


def documents(disk: Disk, kind: str) -> dict[str, Record]:
    """All verified documents of one kind, by name, ordered by name."""
    found = {path.stem: get_record(disk, path) for path in record_paths(disk.root / PLAN, checked_name(kind))}
    return {name: record["body"] for name, record in found.items() if record is not None}


def replace_row(disk: Disk, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Publishes a row that was made again in the place of another one; returns its name.

    A document `plan/replaced/<old>.json` comes first: from then on the old row is not shown and not missed. Whoever is
    killed before the new one is there makes it again.
    """
    name, gone = digest(new), digest(old)
    if name != gone:
        place = f"{ROWS}/{checked_name(old.get('study'))}/{gone}.json"
        put_document(disk, REPLACED, gone, {"place": place})
        put_row(disk, new)
        remove(disk.root / place)
    return name


def expect(disk: Disk, study: str, named: Mapping[str, Iterable[str]]) -> None:
    """Seals a list of what must be there from now on: the rows of a study that are there, and documents by kind.

    A list holds what no earlier one does; `verify` misses what any of them holds.

    Raises:
        StoreFault: a name is not valid.
        DiskFault: it could not be written.
    """
    paths = [*record_paths(disk.root / ROWS, checked_name(study))]
    paths += [_document_path(disk, kind, name) for kind, names in named.items() for name in names]
    there = {_place(disk, path) for path in paths if path.suffix == ".json" and path.exists()}
    if new := sorted(there - expected(disk).keys()):
        body = {"study": study, "places": new}
        put_document(disk, EXPECTED, digest(body), body)


def expected(disk: Disk) -> dict[str, str]:
    """{place in the store of a row or document: the study that listed it}, without rows that were replaced."""
    gone, lists = _replaced(disk), _bodies(disk, EXPECTED)
    return {place: body["study"] for body in lists for place in body.get("places", ()) if place not in gone}


def publish_file(disk: Disk, path: Path, data: bytes) -> None:
    """Publishes one file; a no-op when there is one already: the first wins, whatever it holds."""
    staged = disk.temporary(path.name)
    with disk_faults("record", len(data)):
        try:
            disk.make_folder(path.parent, exist_ok=True)
            disk.write(staged, data)
            disk.link(staged, path)
        except FileExistsError:
            pass
        finally:
            disk.clear(staged)
        disk.sync_folder(path.parent)


def read_record(disk: Disk, path: Path) -> Record | None:
    """One verified record, or None when there is none.

    Raises:
        Corrupt: when it is not what was published, or not here.
        DiskFault: when it could not be read.
    """
    with disk_faults("read"):
        try:
            record, sha = unseal(disk.read(path, LIMIT))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Corrupt(path, str(error)) from error
    if path.name != f"{_own_name(path, record, sha)}.json":
        raise Corrupt(path, "it belongs elsewhere")
    return record


def get_record(disk: Disk, path: Path) -> Record | None:
    """The verified record of a file, or None when there is none; a corrupt one goes to quarantine and is None."""
    try:
        return read_record(disk, path)
    except Corrupt as corrupt:
        quarantine(disk, path, corrupt.reason)
        return None


def record_paths(folder: Path, below: str | None = None) -> Iterator[Path]:
    """All paths in the folders of `rows/` or `plan/`, or in one of them, in order of name; strays among them."""
    with disk_faults("read"):
        for parent in entries(folder) if below is None else (folder / below,):
            yield from entries(parent) if parent.is_dir() else (parent,)


def checked_name(name: Any) -> str:
    """Returns a name, if it is a harmless file name everywhere.

    Raises:
        StoreFault: for any other.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise StoreFault(
        f"a name must be 1 to 128 of a-z, 0-9, '.', '_' and '-' and not begin with '.', got {name!r}",
        "choose such a name",
        where="store",
        cause="the name becomes a file name",
    )


def _shown(disk: Disk, study: str | None) -> list[Path]:
    """The files of rows that were not replaced; whatever comes later is not looked at."""
    paths = list(record_paths(disk.root / ROWS, study))
    gone = _replaced(disk)
    return [path for path in paths if _place(disk, path) not in gone] if gone else paths


def _bodies(disk: Disk, kind: str) -> Iterator[Record]:
    """Documents of one kind; corrupt ones are left out, and left where they are."""
    for path in record_paths(disk.root / PLAN, kind):
        with contextlib.suppress(Corrupt):
            if record := read_record(disk, path):
                yield record["body"]


def _replaced(disk: Disk) -> set[Any]:
    """Places of rows that were made again and are others now."""
    return {body.get("place") for body in _bodies(disk, REPLACED)}


def _place(disk: Disk, path: Path) -> str:
    """Where something lies within the store, wherever the store lies."""
    return path.relative_to(disk.root).as_posix()


def _put(disk: Disk, path: Path, record: Mapping[str, Any]) -> Record:
    """Whoever was first: ours, or the one that was there."""
    data = seal(record)
    for _ in range(ATTEMPTS):
        found = get_record(disk, path)
        if found is not None:
            return found
        publish_file(disk, path, data)
    raise unsettled(path)


def _own_name(path: Path, record: Record, sha: str) -> Any:
    """What this record must be called in this folder, or None: a good record under another name is a bad one."""
    folder = path.parent.name
    if path.parent.parent.name == PLAN:
        return record.get("name") if record.get("kind") == folder else None
    return sha if record.get("study") == folder else None


def _document_path(disk: Disk, kind: str, name: str) -> Path:
    return disk.root / PLAN / checked_name(kind) / f"{checked_name(name)}.json"
