"""Writes the rows of a study by column as well: segments of Parquet, for pyarrow and DuckDB.

    views/<study>/rows/<SHA-256 of the file>.parquet      at most ROWS rows; `digest` is the name of each

    select seed, mode, margin from read_parquet('STORE/views/STUDY/rows/*.parquet', union_by_name = true)

Rows remain the truth, one JSON file each. A segment is derived: published whole or not at all, and made again when it
is lost, damaged, or holds a row that was replaced. A row as a dictionary takes 23 kB of memory and 0.1 ms, so whoever
asks a million of them for six numbers wants columns. What came after the last `compact` is in no segment, nor are
columns that mean something in a row alone, such as bounds that did not pay for other claims.
"""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certvae.errors import StoreFault
from certvae.store.disk import Disk, disk_fault, disk_faults, remove
from certvae.store.folders import Corrupt, quarantine
from certvae.store.layout import VIEWS
from certvae.store.locks import IDLE, UNSEEN, Held, hold
from certvae.store.records import Record, checked_name, get_record, publish_file, row_paths
from certvae.terminal import certvae

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "rows"
ROWS = 20_000
"""Rows of a segment: half a gigabyte while one is made."""
NAME = "digest"
LIMIT = 2**32


def compact(disk: Disk, study: str, without: Collection[str] = ()) -> tuple[int, int]:
    """Brings the segments of a study up to its rows; returns the rows that they hold, and how many of these are new.

    Killed at any point it has lost nothing: run again, it makes what is missing. Two at once take turns.

    Args:
        without: columns that are left out; a segment that has one is made again.

    Raises:
        DiskFault: a segment could not be written.
        StoreFault: the name of the study is not valid, the file system has no locks, or whoever compacts it now does
            not go on.
    """
    with _alone(disk, checked_name(study)):
        return _compact(disk, study, without)


def _compact(disk: Disk, study: str, without: Collection[str]) -> tuple[int, int]:
    paths = row_paths(disk, study)
    held = _held(disk, study, paths.keys(), without)
    new, made = sorted(paths.keys() - held), 0
    for start in range(0, len(new), ROWS):
        found = {name: get_record(disk, paths[name]) for name in new[start : start + ROWS]}
        if whole := {name: row for name, row in found.items() if row is not None}:
            _publish(disk, study, whole, without)
            held |= whole.keys()
            made += len(whole)
    return len(held), made


def columns(disk: Disk, study: str, names: Sequence[str] | None = None) -> "pa.Table":
    """Some columns of the segments of a study, or all; each segment is compared with its SHA-256.

    Where a row has no such column, or None, there is null. Texts are dictionary-encoded, a category in pandas: most are
    those of many rows, and written out they would double the memory. Only `digest` is another in each.

    Raises:
        Corrupt: a segment is not what was written; `certvae store compact` makes it again.
    """
    import pyarrow as pa  # noqa: PLC0415 - a third of a second

    with _from_the_system():
        tables = [_columns(disk, path, names) for path in segments(disk, study)]
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def segments(disk: Disk, study: str) -> list[Path]:
    """The files of a study's segments, in order of name."""
    with disk_faults("read"):
        return sorted((disk.root / VIEWS / study / FOLDER).glob("*.parquet"))


def all_segments(root: Path) -> list[Path]:
    """The segments of every study of a store."""
    with disk_faults("read"):
        return sorted((root / VIEWS).glob(f"*/{FOLDER}/*.parquet"))


def check(disk: Disk, path: Path) -> bytes:
    """Reads a segment and compares its bytes with its name.

    Raises:
        Corrupt: they are not what its name says.
    """
    with disk_faults("read"):
        data = disk.read(path, LIMIT)
    if hashlib.sha256(data).hexdigest() != path.stem:
        command = certvae("store", "compact", "--store", str(disk.root))
        raise Corrupt(path, "it has another SHA-256", f"run `{command}`, which makes it again")
    return data


@contextlib.contextmanager
def _from_the_system() -> Iterator[None]:
    """Memory of the C library: of gigabytes that are touched once, Arrow's own pool makes three times the work for the
    kernel."""
    import pyarrow as pa  # noqa: PLC0415

    earlier = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(earlier)


@contextlib.contextmanager
def _alone(disk: Disk, study: str) -> Iterator[None]:
    """Nobody else writes these segments. A holder that lives is never passed: rows would be there twice."""
    path, what = disk.root / "lock" / f"segments.{study}", f"the segments of {study}"
    with contextlib.ExitStack() as held:
        try:
            supported = held.enter_context(hold(path, idle=IDLE, unseen=UNSEEN, what=what, disk=disk))
        except Held as waited:
            remedy = "end that process, then run the same command again"
            raise StoreFault(str(waited), remedy, where=str(path)) from waited
        except OSError as error:
            raise disk_fault(error, "lock") from error
        if not supported:
            raise StoreFault(
                "wanted file locks, found a file system that has none",
                "copy the store to a local disk and compact the copy",
                where=str(disk.root),
                cause="of two that compact at once neither would wait, and rows would be in the segments twice",
            )
        yield


def _held(disk: Disk, study: str, there: Collection[str], without: Collection[str]) -> set[str]:
    """Names of rows in segments; one that is damaged, or holds what is no row any more or unwanted, is taken away."""
    held: set[str] = set()
    for path in segments(disk, study):
        try:
            found = _columns(disk, path, [NAME, *without])
        except Corrupt as corrupt:
            quarantine(disk, path, corrupt.reason)
            continue
        names = set(found[NAME].to_pylist())
        if found.column_names == [NAME] and names <= set(there) - held:
            held |= names
        else:
            remove(path)
    return held


def _publish(disk: Disk, study: str, rows: dict[str, Record], without: Collection[str]) -> None:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    parquet.write_table(_table(rows, without), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    place = disk.root / VIEWS / study / FOLDER
    with disk_faults("columns", len(data)):
        disk.make_folder(place.parent, exist_ok=True)
    publish_file(disk, place / f"{hashlib.sha256(data).hexdigest()}.parquet", data)


def _table(rows: dict[str, Record], without: Collection[str]) -> "pa.Table":
    """A column for each name that any row has; without these, and those in which no row has anything."""
    import pyarrow as pa  # noqa: PLC0415

    names = sorted({name for row in rows.values() for name in row}.difference(without))
    named = {name: [row.get(name) for row in rows.values()] for name in names}
    filled = {name: values for name, values in named.items() if any(value is not None for value in values)}
    return pa.table({NAME: list(rows), **{name: _array(values) for name, values in filled.items()}})


def _array(values: list[Any]) -> "pa.Array":
    """Numbers, texts and truths as they are; what has parts, or several kinds, as JSON."""
    import pyarrow as pa  # noqa: PLC0415

    kinds = {type(value) for value in values if value is not None}
    plain = kinds in ({str}, {bool}, {float}, {int}, {int, float})
    if plain and all(abs(value) < 2**63 for value in values if type(value) is int):
        return pa.array(values, pa.float64() if float in kinds else None)
    return pa.array([None if value is None else _text(value) for value in values])


def _text(value: Any) -> str:
    """Canonical JSON of what a record holds: it is plain, and to prove that again takes as long as to read the row."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _columns(disk: Disk, path: Path, names: Sequence[str] | None) -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    data = pa.BufferReader(check(disk, path))
    there = parquet.read_schema(data)
    texts = [column.name for column in there if pa.types.is_string(column.type) and column.name != NAME]
    data.seek(0)
    wanted = there.names if names is None else [name for name in names if name in there.names]
    return parquet.read_table(data, columns=wanted, read_dictionary=texts)
