"""How far the ledger came: rows that a whole sync has shown, and the database as it was left then.

To compare ten thousand rows with MLflow, run by run, takes half a minute. While neither the rows nor the database
changed there is nothing to compare: the resume of a finished study does not even import MLflow. A database that anyone
else wrote to, that was moved, or that lies on a server is compared as before.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from certvae.projection import PROJECTION
from certvae.store import Store

SQLITE = "sqlite:///"


class Watermark:
    """The mark of one study: a view like the database itself, so it may be deleted at any time."""

    def __init__(self, store: Store, study: str, uri: str, rows: Iterable[Mapping[str, Any]]):
        self._path = store.path / "views" / study / "ledger.json"
        self._database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        self._rows = _digest(rows)

    def runs(self) -> int | None:
        """How many runs show these rows; None where that must be found out."""
        try:
            found = json.loads(self._path.read_bytes())
            return int(found["runs"]) if found["state"] == self._state() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, runs: int) -> None:
        """Says that the database, as it is now, shows these rows in so many runs.

        Where that cannot be written, the next sync compares.
        """
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"runs": runs, "state": self._state()}))

    def _state(self) -> dict[str, Any]:
        """Raises FileNotFoundError where there is no database."""
        if self._database is None:
            raise FileNotFoundError("a server keeps its database to itself")
        found = self._database.stat()
        stamp = [str(self._database), found.st_ino, found.st_size, found.st_mtime_ns]
        return {"projection": PROJECTION, "rows": self._rows, "database": stamp}


def _digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of a set of rows; JSON and not its canonical form, which takes ten times as long."""
    each = sorted(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest() for row in rows)
    return hashlib.sha256(b"".join(each)).hexdigest()
