"""The ledger: a store's rows and curves in MLflow. One writer, idempotent, live, and made anew by one call.

    store = Store(Path("store"))
    ledger = Ledger(store, "tiny_fixed_q")  # nothing happens yet: MLflow is imported when it is needed
    print(ledger.sync(store.rows("tiny_fixed_q")))  # three times, and nothing changes

MLflow is a view: no result depends on it, and no call here raises because it is away. SQLite in the store by default,
any MLFLOW_TRACKING_URI otherwise. Margins are in nats; tau is a view on them, so it needs no other run.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from certvae.canonical import digest
from certvae.looks import together
from certvae.store.locks import Held, hold
from certvae.store.records import BUNDLED, documents
from certvae.store.store import Store
from certvae.terminal import number_of, variables_kept
from certvae.tracking import ui
from certvae.tracking.curves import LiveCurves, Say
from certvae.tracking.evidence import Evidence
from certvae.tracking.projection import PROJECTION, Entry, entries, show
from certvae.tracking.uri import chosen, database, sqlite_file

if TYPE_CHECKING:
    from certvae.tracking.client import Patience, Shown, Tracker

PATIENCE = 2.0  # seconds that another writer is waited for
SYNC_SECONDS, RUN_SECONDS = 60.0, 1.0  # that a sync may take as a whole, and more for each of its runs
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # seven by default: one call to a dead server takes 246 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # 120 s by default
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per run that a server is told of
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # sees a database that was made anew
}
_LEVELS: dict[str, int] = {}
"""What loggers of MLflow had before they were silenced."""
Did = Literal["created", "updated", "unchanged"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synced:
    """What a sync did, in runs."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    behind: int = 0
    reason: str = ""
    """Why it is behind, and what to do."""

    def __str__(self) -> str:
        told = f"MLflow: {number_of(self.created, 'run')} created, {self.updated} updated, {self.unchanged} unchanged"
        return f"{told}; behind by {self.behind}: {self.reason}" if self.behind else told

    def __add__(self, other: "Synced") -> "Synced":
        counts = (self.created + other.created, self.updated + other.updated, self.unchanged + other.unchanged)
        return Synced(*counts, self.behind + other.behind, self.reason or other.reason)


class Ledger:
    """The runs of one study in MLflow.

    Args:
        store: whose rows and objects are shown.
        study: name of the study, and of the MLflow experiment.
        uri: tracking URI; MLFLOW_TRACKING_URI when absent, SQLite in the store when that is not set either.

    Raises:
        ConfigFault: the tracking URI, or the file of the store's own database, is a folder.
    """

    def __init__(self, store: Store, study: str, *, uri: str | None = None):
        self._store, self._study, self._uri = store, study, chosen(uri)
        if self._uri is None:
            database(store)
        self._experiment: str | None = None
        self._turn = threading.Lock()
        self._patience: Patience | None = None
        os.environ |= QUIET  # here and not in a thread: the environment is no place for races

    def live(self, say: Say = _log.warning) -> LiveCurves:
        """Starts to show curves while they grow, and cells as they end; returns at once.

        Args:
            say: hears once that curves can be watched and how, and once that MLflow is away.
        """
        return LiveCurves(self, self._store, say)

    def sync(self, rows: Iterable[Mapping[str, Any]], *, beside: Iterable[Mapping[str, Any]] = ()) -> Synced:
        """Makes MLflow show these rows of the study, whatever it showed before.

        Runs that are right are left alone; those begun live are completed; those that say something else are written
        anew. An MLflow that is away stops it at the first call, one that is slow when its time is up: a minute, and a
        second for each run. The next sync goes on from there.

        Args:
            beside: rows of the same configs that are not shown, and claim too.
        """
        ours = together(self._store.disk, (row for row in rows if row["study"] == self._study), beside=beside)
        mark = Watermark(self._store, self._study, self._file, ours)
        if (shown := mark.runs()) is not None:
            return Synced(unchanged=shown)
        client = _client()
        evidence = Evidence(self._store)
        wanted = entries(ours, evidence)
        deadline = time.monotonic() + SYNC_SECONDS + RUN_SECONDS * len(wanted)
        did: Counter[Did] = Counter()
        try:
            with self.writing() as tracker:
                for one in reconcile(tracker, wanted, tracker.read(), evidence):
                    did[one] += 1
                    if time.monotonic() > deadline:
                        raise client.Outage("MLflow is too slow")
                mark.put(len(wanted))
        except client.Outage as outage:
            return Synced(**did, behind=len(wanted) - did.total(), reason=f"{outage}. {outage.remedy}")
        return Synced(**did)

    def complete(
        self,
        tracker: "Tracker",
        there: "dict[str, Shown]",
        rows: Iterable[Mapping[str, Any]],
        beside: Iterable[Mapping[str, Any]],
    ) -> None:
        """Gives the runs of these rows their numbers, whatever else is in training.

        Args:
            there: what is in MLflow; it is kept up to date.
            beside: as `sync` takes it.

        Raises:
            Outage: when MLflow does not answer.
        """
        evidence, now = Evidence(self._store), together(self._store.disk, rows, beside=beside)
        for _ in reconcile(tracker, entries(now, evidence), there, evidence):
            pass

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

        with self._turn, client.outages(), hold(self._store.path / "lock" / "ledger", PATIENCE, what="the ledger"):
            patience = self._patience = self._patience or client.Patience()
            files = _files(self._store) / self._study
            tracker = connect(self._uri, database(self._store), self._study, files, patience)
            self._experiment = tracker.experiment
            yield tracker

    @property
    def _file(self) -> Path | None:
        """The file of the database; None where a server keeps it to itself."""
        return database(self._store) if self._uri is None else sqlite_file(self._uri)


def reconcile(
    tracker: "Tracker", wanted: Iterable[Entry], there: "dict[str, Shown]", evidence: Evidence
) -> Iterator[Did]:
    """Creates or updates runs in MLflow until all that is wanted is there, and yields for each what was done.

    Args:
        wanted: parents before children.
        there: what is in MLflow, by key; it is kept up to date.
    """
    for entry in wanted:
        shown, parent = there.get(entry.key), there.get(entry.parent or "")
        did: Did = "unchanged"
        if shown is None:
            did, shown = "created", tracker.create(show(entry, evidence), entry.digest, parent)
        elif not shown.is_right(entry.digest, entry.status):
            did, shown = "updated", tracker.update(shown, show(entry, evidence), entry.digest, parent)
        if parent is not None and shown.parent != parent.run_id:
            shown = tracker.hang(shown, parent)
        there[entry.key] = shown
        yield did


def rebuild(store: Store, study: str | None = None, *, uri: str | None = None) -> Synced:
    """Makes the ledger anew from the store alone: of one study, or of all.

    The database in the store is thrown away when all studies are rebuilt, unless somebody is writing it; elsewhere
    every run is compared and mended.

    Raises:
        ConfigFault: the tracking URI is a folder.
    """
    rows, uri = store.rows(study), chosen(uri)
    ledgers = [Ledger(store, name, uri=uri) for name in dict.fromkeys(row["study"] for row in rows)]
    if study is None and uri is None:
        with contextlib.suppress(Held), hold(store.path / "lock" / "ledger", PATIENCE, what="the ledger"):
            shutil.rmtree(_files(store), ignore_errors=True)
            database(store).unlink(missing_ok=True)
    return sum((ledger.sync(rows) for ledger in ledgers), Synced())


def holds_bundles(store: Store) -> bool:
    """Whether bundles of this store were once shown in MLflow, and so belong there again."""
    return bool(documents(store.disk, BUNDLED))


def pages(store: Store, port: int = ui.PORT) -> dict[str, str]:
    """{study: its page in the UI}. A study that is not shown, or with files of another store, is written first.

    Raises:
        ConfigFault: the tracking URI is a folder.
    """
    os.environ |= QUIET
    studies = list(dict.fromkeys(row["study"] for row in store.rows()))
    if missing := [study for study in studies if study not in _experiments(store)]:
        print(sum((rebuild(store, study) for study in missing), Synced()))
    found = _experiments(store)
    return {study: ui.page(chosen(), found.get(study), port) for study in studies}


def _experiments(store: Store) -> dict[str, str]:
    """{study: id of its experiment}, of those that keep their files in this store, or that a server keeps."""
    client, uri = _client(), chosen()
    from certvae.tracking.database import experiments  # noqa: PLC0415  (mlflow)

    try:
        found = client.Patience()(lambda: experiments(uri, database(store)))
    except client.Outage:
        return {}
    here = _files(store).as_uri()
    return {name: key for name, (key, files) in found.items() if files is None or files.startswith(f"{here}/")}


def _files(store: Store) -> Path:
    """Where files of runs are kept, unless a server keeps them."""
    return store.path.absolute() / "views" / "artifacts"


def _client() -> ModuleType:
    """What speaks to MLflow. Its import takes 3 to 6 s, so it waits until something is to be written."""
    from certvae.tracking import client  # noqa: PLC0415

    for name in ("mlflow", "alembic"):  # what goes wrong is said once, by us
        _LEVELS.setdefault(name, logging.getLogger(name).level)
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return client


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Whatever a ledger does within the block, MLflow waits and speaks afterwards as before: others may use it here."""
    with variables_kept(*QUIET):
        try:
            yield
        finally:
            while _LEVELS:
                name, level = _LEVELS.popitem()
                logging.getLogger(name).setLevel(level)


class Watermark:
    """Remembers that MLflow shows the rows of a study as they are, so that it need not be asked again.

    It is a view like the database itself, and may be deleted at any time.

    Args:
        database: the file behind MLflow; None where a server keeps it, which is then always asked.
    """

    def __init__(self, store: Store, study: str, database: Path | None, rows: Iterable[Mapping[str, Any]]):
        self._path = store.path / "views" / study / "ledger.json"
        self._database, self._rows = database, _digest(rows)

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

    def _state(self) -> str:
        """Raises FileNotFoundError where there is no database."""
        if self._database is None:
            raise FileNotFoundError("a server keeps its database to itself")
        found = self._database.stat()
        return digest([PROJECTION, self._rows, str(self._database), found.st_ino, found.st_size, found.st_mtime_ns])


def _digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of a set of rows; JSON and not its canonical form, which takes ten times as long."""
    each = sorted(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest() for row in rows)
    return hashlib.sha256(b"".join(each)).hexdigest()
