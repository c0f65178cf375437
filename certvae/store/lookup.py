"""Finds results again: a cell by its first digits, the row that counts of several, the object behind a row."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from certvae.canonical import digest
from certvae.errors import ConfigFault, StoreFault
from certvae.fingerprint import expected
from certvae.store.artifact import Artifact
from certvae.store.store import Store

Row = Mapping[str, Any]


def cell_of(store: Store, rows: Iterable[Row], prefix: str) -> str:
    """The digest of the one cell among these rows that begins with `prefix`.

    Raises:
        ConfigFault: none begins so, or several do.
    """
    cells = {row["cell"] for row in rows if row["cell"].startswith(prefix)}
    if len(cells) != 1:
        raise ConfigFault(
            f"{len(cells)} cells with rows have a digest that begins with {prefix!r}",
            "take one from the column `cell` of --status, with as many digits as it takes",
            where=str(store.path),
        )
    return cells.pop()


def newest(store: Store, rows: Iterable[Row]) -> list[Row]:
    """One row per network and split: of the latest judgement, of these the one made in the environment of this process,
    and of these the one that is not stale."""
    places: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row["cell"], row["mode"], row["split"]), []).append(row)
    return [sorted(found, key=partial(_rank, store))[-1] if len(found) > 1 else found[0] for found in places.values()]


def _rank(store: Store, row: Row) -> tuple[int, bool, bool]:
    return row.get("stage_version_judge", 0), row.get("environment") == digest(expected()), not store.is_stale(row)


def object_of(store: Store, row: Row, name: str) -> Artifact:
    """The object that a row was made from, such as `teacher` or `trained`.

    Raises:
        StoreFault: it is gone.
    """
    key = row.get(f"key_{name}")
    found = store.artifact(key) if key else None
    if found is None:
        raise StoreFault(
            f"the {name} object of {row['mode']}, seed {row['seed']}, is not in the store",
            "run the study again on this store: it computes only what is missing",
            where=str(store.path),
        )
    return found
