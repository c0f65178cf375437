"""Ledgers of small stores: ready in a moment, read as plain dictionaries, and locked by a stranger when a test asks."""

import contextlib
import functools
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from certvae.spec.cell import CellSpec
from certvae.store.store import Store
from certvae.tracking.curves import LiveCurves
from certvae.tracking.ledger import Ledger, Synced, default_uri, dump
from tests.small_rows import events

STUDY = "small"


def ready_store(path: Path) -> Store:
    """A store whose ledger is empty but made: MLflow's migrations take seconds, a copy does not."""
    store = Store(path)
    database(store).write_bytes(_empty_database())
    return store


def database(store: Store) -> Path:
    return Path(default_uri(store).removeprefix("sqlite:///"))


def sync(store: Store) -> Synced:
    return Ledger(store, STUDY).sync(store.rows(STUDY))


def text(store: Store) -> str:
    return dump(default_uri(store))


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
