"""Opens the database or server of MLflow's runs; a SQLite file is made first, whole or not at all."""

import contextlib
import glob
import sqlite3
import uuid
from pathlib import Path

from mlflow import MlflowClient

from certvae.tracking import views
from certvae.tracking.client import Patience, Tracker, experiment_of
from certvae.tracking.uri import is_sql, spelled, sqlite_file

LOCKED_SECONDS = 2.0  # that a locked SQLite file is waited for; MLflow itself waits 20
MAKING_SECONDS = 120.0  # MLflow's migrations: 2 s of processor


def connect(uri: str | None, own: Path, study: str, artifacts: Path, patience: Patience) -> Tracker:
    """Opens the tracker of a study, ready to write.

    Args:
        uri: of a database or a server; None for the store's own database.
        own: the file of that one. It is made when it is not there, and again when it is no database.
        artifacts: where files of runs are kept, unless a server keeps them.

    Raises:
        Outage: when MLflow does not answer in time, or refuses.
    """
    path = own if uri is None else sqlite_file(uri)
    if path is not None:
        _prepare(path, patience, mend=uri is None)
    spelling = spelled(path) if path is not None else str(uri)
    kept = artifacts.as_uri() if is_sql(spelling) else None

    def open_experiment() -> Tracker:
        client = MlflowClient(tracking_uri=spelling)
        return Tracker(client, experiment_of(client, study, views.TAGS, kept, shared=uri is not None), patience)

    return patience(open_experiment, None if path is None else MAKING_SECONDS)


def experiments(uri: str | None, own: Path) -> dict[str, tuple[str, str | None]]:
    """{name: (id, where its files are kept, None where a server keeps them)}; makes no database."""
    path = own if uri is None else sqlite_file(uri)
    if path is not None and not path.exists():
        return {}
    spelling = spelled(path) if path is not None else str(uri)
    found = MlflowClient(tracking_uri=spelling).search_experiments()
    kept = is_sql(spelling)
    return {one.name: (one.experiment_id, one.artifact_location if kept else None) for one in found}


def make(path: Path) -> None:
    """Makes an empty MLflow database under another name and then gives it its own, in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink()
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    client = MlflowClient(tracking_uri=spelled(staged))
    for experiment in client.search_experiments():  # MLflow's `Default`, which nobody asked for
        client.delete_experiment(experiment.experiment_id)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # of a writer that was killed, for the old file
    staged.replace(path)


def _prepare(path: Path, patience: Patience, *, mend: bool) -> None:
    """A database is there and free.

    Raises:
        Outage: somebody else holds it, or it is no database and may not be replaced.
    """
    try:
        if path.exists() and path.stat().st_size:  # a UI that met none left an empty one
            _probe(path)
            return
    except sqlite3.OperationalError:  # busy, or no right to it
        raise
    except sqlite3.DatabaseError:
        if not mend:
            raise
    patience(lambda: make(path), MAKING_SECONDS)


def _probe(path: Path) -> None:
    """Fails when somebody else holds the file, after `LOCKED_SECONDS`, or when it is no database."""
    with contextlib.closing(sqlite3.connect(path, timeout=LOCKED_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
