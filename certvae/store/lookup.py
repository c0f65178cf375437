"""Finds results again: a cell by its first digits, the row that counts of several, the object behind a row."""

from collections.abc import Iterable, Mapping
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
    """One row per network and split: of the latest judgement, of these one of the environment that a study on this
    machine has, stale or not, since its tables show that; of these one that is not stale, and of these the last digest.

    Only where environments differ is that of this machine asked for: on one with GPUs torch tells it.
    """
    places: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row["cell"], row["mode"], row["split"]), []).append(row)
    return [_newest(store, found) for found in places.values()]


def _newest(store: Store, found: list[Row]) -> Row:
    if len(found) == 1:
        return found[0]
    here = digest(expected()) if len({row.get("environment") for row in found}) > 1 else None

    def rank(row: Row) -> tuple[int, bool, bool, str]:
        is_here = row.get("environment") == here
        return row.get("stage_version_judge", 0), is_here, not store.is_stale(row), digest(row)

    return max(found, key=rank)


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
