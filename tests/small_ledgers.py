"""Ledgers of small stores: ready in a moment, read as plain dictionaries, and locked by a stranger when a test asks."""

import contextlib
import functools
import hashlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from sqlalchemy import event as alchemy
from sqlalchemy.engine import Engine

from certvae.spec.cell import CellSpec
from certvae.store.store import Store
from certvae.tracking.client import OURS, PARENT
from certvae.tracking.curves import LiveCurves
from certvae.tracking.ledger import Ledger, Synced
from certvae.tracking.runs import KEY
from certvae.tracking.uri import chosen, database, spelled, sqlite_file
from tests.small_rows import events

STUDY = "small"


@alchemy.listens_for(Engine, "connect")
def _in_a_hurry(connection: Any, _: object) -> None:
    """Tests do not wait for a disk: ten commits a run, and no machine loses its power meanwhile."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


def ready_store(path: Path) -> Store:
    """A store whose ledger is empty but made: MLflow's migrations take seconds, a copy does not."""
    store = Store(path)
    database(store).write_bytes(_empty_database())
    return store


def sync(store: Store) -> Synced:
    return Ledger(store, STUDY).sync(store.rows(STUDY))


def text(store: Store) -> str:
    """JSON of all that the ledger of a store says: equal texts say equal things."""
    return dump(chosen() or spelled(database(store)))


def dump(uri: str) -> str:
    """The same behind any tracking URI, in a fixed order; ids and times are left out, files are named by SHA-256."""
    client, path = MlflowClient(tracking_uri=uri), sqlite_file(uri)
    points = functools.partial(_points, client) if path is None else functools.partial(_selected, path)
    told = {}
    for experiment in client.search_experiments():
        runs = [run for run in client.search_runs([experiment.experiment_id], OURS) if KEY in run.data.tags]
        names = {run.info.run_id: run.data.tags[KEY] for run in runs}
        told[experiment.name] = sorted(
            (_told(client, run, names, points) for run in runs), key=lambda one: one["tags"][KEY]
        )
    return json.dumps({study: runs for study, runs in told.items() if runs}, indent=1, sort_keys=True)


def _points(client: MlflowClient, run: Any) -> list[tuple[str, int, float]]:
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return [(name, one.step, one.value) for name, metrics in history.items() for one in metrics]


def _selected(path: Path, run: Any) -> list[tuple[str, int, float]]:
    """The same in one question instead of a hundred."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run.info.run_id,))
        return found.fetchall()


def _told(client: MlflowClient, run: Any, names: dict[str, str], points: Callable[[Any], list]) -> dict[str, Any]:
    run_id, data = run.info.run_id, run.data
    tags = {name: text for name, text in data.tags.items() if name != "mlflow.user"}
    if PARENT in tags:
        tags[PARENT] = names.get(tags[PARENT], "unknown")
    place = run.info.artifact_uri
    with tempfile.TemporaryDirectory() as got:
        for file in () if place.startswith("file:") else client.list_artifacts(run_id):
            client.download_artifacts(run_id, file.path, got)
        folder = Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else got)
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*"))}
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "tags": tags,
        "params": data.params,
        "latest": data.metrics,
        "points": sorted(points(run)),
        "data": [used.dataset.to_dictionary() for used in run.inputs.dataset_inputs],
        "files": files,
    }


def shown(store: Store) -> dict[str, dict[str, Any]]:
    """What the ledger of a store shows, by `mode seed n`, or `config`."""
    return {run["name"].rsplit(" ", 1)[0]: run for run in json.loads(text(store)).get(STUDY, [])}


def line(run: dict[str, Any], name: str) -> dict[int, float]:
    """One metric of a run: {step: value}; a step that was logged twice is an error."""
    points = [(step, value) for known, step, value in run["points"] if known == name]
    assert len(points) == len(dict(points)), f"{name} has two values at one step"
    return dict(points)


def hear(live: LiveCurves, store: Store, spec: CellSpec, mode: str = "full", epochs: int = 5) -> None:
    for event in events(store, spec, mode, epochs):
        live.heard(spec, mode, event)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Somebody else holds the database of a store."""
    with contextlib.closing(sqlite3.connect(database(store), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.rollback()


def seconds_of(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "template")
        with Ledger(store, "template").writing():
            return database(store).read_bytes()
