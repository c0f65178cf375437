"""The ledger: a store's rows and curves in MLflow. One writer, idempotent, live, and made anew by one call.

    store = Store(Path("store"))
    ledger = Ledger(store, "tiny_fixed_q")  # nothing happens yet: MLflow is imported when it is needed
    print(ledger.sync(store.rows("tiny_fixed_q")))  # three times, and nothing changes

MLflow is a view: no result depends on it, and no call here raises because it is away. SQLite in the store by default,
any MLFLOW_TRACKING_URI otherwise. Margins are in nats; tau is a view on them, so it needs no other run.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from certvae.store.store import Store
from certvae.tracking import ui
from certvae.tracking.curves import LiveCurves, Say
from certvae.tracking.evidence import Evidence
from certvae.tracking.projection import PROJECTION, Entry, entries, show

if TYPE_CHECKING:
    from certvae.tracking.client import Shown, Tracker

URI = "MLFLOW_TRACKING_URI"
PATIENCE = 2.0  # seconds that another writer is waited for
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # seven by default: one call to a dead server takes 246 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # 120 s by default
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per run that a server is told of
}
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # no locks here: one driver at a time, then
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synced:
    """What a sync did, in runs."""

    written: int
    unchanged: int
    behind: int = 0
    reason: str = ""

    def __str__(self) -> str:
        told = f"MLflow: {self.written} runs written, {self.unchanged} unchanged"
        return f"{told}; behind by {self.behind}: {self.reason}. Run the same command again." if self.behind else told

    def __add__(self, other: "Synced") -> "Synced":
        counts = (self.written + other.written, self.unchanged + other.unchanged, self.behind + other.behind)
        return Synced(*counts, self.reason or other.reason)


class Ledger:
    """The runs of one study in MLflow.

    Args:
        store: whose rows and objects are shown.
        study: name of the study, and of the MLflow experiment.
        uri: tracking URI; MLFLOW_TRACKING_URI when absent, SQLite in the store when that is not set either.
    """

    def __init__(self, store: Store, study: str, *, uri: str | None = None):
        self._store, self._study = store, study
        self._uri = uri or tracking_uri(store)
        self._experiment: str | None = None
        self._turn = threading.Lock()
        os.environ |= QUIET  # here and not in a thread: the environment is no place for races

    def live(self, say: Say = _log.warning) -> LiveCurves:
        """Starts to show curves while they grow, and cells as they end; returns at once.

        Args:
            say: hears once that curves can be watched and how, and once that MLflow is away.
        """
        return LiveCurves(self, self._store, say)

    def sync(self, rows: Iterable[Mapping[str, Any]]) -> Synced:
        """Makes MLflow show these rows of the study, whatever it showed before.

        Runs that are right are left alone; those begun live are completed; those that say something else are written
        anew. An MLflow that is away stops it at the first call; the next sync goes on from there.
        """
        ours = [row for row in rows if row["study"] == self._study]
        mark = Watermark(self._store, self._study, self._uri, ours)
        if (shown := mark.runs()) is not None:
            return Synced(0, shown)
        client = _client()
        evidence = Evidence(self._store)
        wanted = entries(ours, evidence)
        work = _Sync(wanted, evidence)
        try:
            with self.writing() as tracker:
                work.run(tracker)
                mark.put(len(wanted))
        except client.Outage as outage:
            return Synced(work.written, work.unchanged, len(wanted) - work.written - work.unchanged, str(outage))
        return Synced(work.written, work.unchanged)

    def complete(self, tracker: "Tracker", rows: Iterable[Mapping[str, Any]]) -> "dict[str, Shown]":
        """Gives the runs of these rows their numbers, whatever else is in training; returns what is in MLflow then.

        Raises:
            Outage: when MLflow does not answer.
        """
        evidence = Evidence(self._store)
        return _Sync(entries(rows, evidence), evidence).run(tracker)

    @property
    def ui_command(self) -> str:
        """The shell command that opens the UI on this machine alone."""
        return ui.command(self._uri, self._store.path)

    @property
    def ui_page(self) -> str:
        """Where the UI shows this study, once something was written."""
        return ui.page(self._uri, self._experiment)

    @contextlib.contextmanager
    def writing(self) -> "Iterator[Tracker]":
        """The tracker, for one writer at a time: one thread of one process.

        Raises:
            Outage: when MLflow does not answer, or somebody else is writing.
        """
        client = _client()
        from certvae.tracking.database import connect  # noqa: PLC0415  (mlflow)

        folder = self._store.path
        with self._turn, client.outages(), _alone(folder / "lock" / "ledger"):
            tracker = connect(self._uri, self._study, folder / "views" / "artifacts" / self._study)
            self._experiment = tracker.experiment
            yield tracker


class _Sync:
    """One pass over the entries of a study: what is right stays, what is there is completed, the rest is made."""

    def __init__(self, wanted: list[Entry], evidence: Evidence):
        self._wanted, self._evidence = wanted, evidence
        self.written = self.unchanged = 0

    def run(self, tracker: "Tracker") -> "dict[str, Shown]":
        """Goes through all entries and returns what is there then; the counts are right whenever it ends."""
        index = tracker.index()
        there = self._there(index)
        wrong = [entry for entry in there.values() if not _is_right(entry, index)]
        self.unchanged = len(there) - len(wrong)
        self._complete(tracker, index, [entry for entry in wrong if entry.parent is None])
        self._create(tracker, index, [entry for entry in self._wanted if entry.key not in there])
        self._complete(tracker, index, [entry for entry in wrong if entry.parent is not None])
        for entry in self._wanted:
            if entry.parent is not None:
                tracker.hang(index[entry.key], index[entry.parent])
            left = index.get(entry.open_key)
            if left is not None and left.status != "RUNNING":
                tracker.delete(left, index)  # a network that was trained again although its row was there
        return index

    def _there(self, index: "Mapping[str, Shown]") -> dict[str, Entry]:
        """Entries by key whose run is there, or was begun live: one run begun live becomes one entry."""
        there = {entry.key: entry for entry in self._wanted if entry.key in index}
        begun = {entry.open_key: entry for entry in self._wanted if entry.key not in there and entry.open_key in index}
        return there | {entry.key: entry for entry in begun.values()}

    def _complete(self, tracker: "Tracker", index: "dict[str, Shown]", wanted: list[Entry]) -> None:
        for entry in wanted:
            shown = index.get(entry.key) or index[entry.open_key]
            tracker.complete(shown, show(entry, self._evidence), index)
            self.written += 1

    def _create(self, tracker: "Tracker", index: "dict[str, Shown]", wanted: list[Entry]) -> None:
        for begin in range(0, len(wanted), tracker.at_once):
            chunk = wanted[begin : begin + tracker.at_once]
            tracker.create([show(entry, self._evidence) for entry in chunk], index)
            self.written += len(chunk)


def tracking_uri(store: Store) -> str:
    """Where the ledgers of a store are kept: MLFLOW_TRACKING_URI, or SQLite in the store."""
    return os.environ.get(URI) or default_uri(store)


def rebuild(store: Store, study: str | None = None, *, uri: str | None = None) -> Synced:
    """Makes the ledger anew from the store alone: of one study, or of all.

    The database in the store is thrown away when all studies are rebuilt, unless somebody is writing it; elsewhere
    every run is compared and mended.
    """
    uri = uri or tracking_uri(store)
    rows = store.rows(study)
    if study is None and uri == default_uri(store):
        with contextlib.suppress(TimeoutError), _alone(store.path / "lock" / "ledger"):
            shutil.rmtree(store.path / "views" / "artifacts", ignore_errors=True)
            database(store).unlink(missing_ok=True)
    ledgers = [Ledger(store, name, uri=uri) for name in dict.fromkeys(row["study"] for row in rows)]
    return sum((ledger.sync(rows) for ledger in ledgers), Synced(0, 0))


def dump(uri: str) -> str:
    """JSON of all that ledgers logged behind a tracking URI: equal texts say equal things.

    Raises:
        Outage: when MLflow does not answer.
    """
    os.environ |= QUIET
    _client()
    from certvae.tracking.database import dump as dumped  # noqa: PLC0415  (mlflow)

    return dumped(uri)


def default_uri(store: Store) -> str:
    """SQLite in the store; the path is absolute, since MLflow resolves others against the working directory."""
    return f"sqlite:///{database(store)}"


def database(store: Store) -> Path:
    """The file that MLflow's runs are kept in by default."""
    return store.path.absolute() / "views" / "mlflow.db"


def _is_right(entry: Entry, index: "Mapping[str, Shown]") -> bool:
    shown = index.get(entry.key)
    return shown is not None and shown.is_right(entry.digest, entry.status)


def _client() -> ModuleType:
    """What speaks to MLflow. Its import takes 3 to 6 s, so it waits until something is to be written."""
    from certvae.tracking import client  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what goes wrong is said once, by us
    logging.getLogger("alembic").setLevel(logging.CRITICAL)
    return client


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes from writing meanwhile; the kernel frees the lock when its holder dies.

    Raises:
        TimeoutError: somebody else went on writing for `PATIENCE` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError("another process writes the ledger of this store")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True


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
