"""MLflow on a SQL database: making one that is never seen half made, and writing new runs in one transaction.

MLflow's client needs some fifty statements and five transactions per run, 30 ms to 90 ms; a study has thousands. The
tables are those of MLflow's own models, whose version is pinned. `Tracker` is the slow text that is right by itself,
and a test proves both equal.
"""

import contextlib
import functools
import itertools
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy.engine import Connection

from certvae.tracking.client import CONTEXT, PARENT, Shown, Tracker, as_dataset, experiment_id, now, outages, put_files
from certvae.tracking.runs import DIGEST, KEY, OPEN, Point, Run

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"
LOCKED_SECONDS = 2.0  # that a locked SQLite file is waited for; MLflow itself waits 20
_spellings = itertools.count()

Record = dict[str, Any]


def connect(uri: str, study: str, artifacts: Path) -> Tracker:
    """The tracker of a study behind a tracking URI, ready to write; makes a SQLite database that is not there.

    Args:
        artifacts: where files of runs are kept, unless a server keeps them.

    Raises:
        Outage: when MLflow does not answer in time.
    """
    with outages():
        client, uri = _client(uri, artifacts)
        if not _is_sql(uri):
            return Tracker(client, experiment_id(client, study, None))
        return SqlTracker(client, experiment_id(client, study, artifacts.as_uri()), uri)


def dump(uri: str) -> str:
    """JSON of all that our ledgers logged behind a tracking URI: equal texts say equal things.

    Raises:
        Outage: when MLflow does not answer.
    """
    with outages():
        client, uri = _client(uri, None)
        ids = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
        kind = functools.partial(SqlTracker, uri=uri) if _is_sql(uri) else Tracker
        told = {study: kind(client, ids[study]).dump() for study in sorted(ids)}
        return json.dumps({study: runs for study, runs in told.items() if runs}, indent=1, sort_keys=True)


def _client(uri: str, artifacts: Path | None) -> tuple[MlflowClient, str]:
    """A client, and the URI as MLflow is told it."""
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE))
        if artifacts:
            make(path, artifacts)
        _probe(path)
        uri = spelled(path)
    return MlflowClient(tracking_uri=uri), uri


def _is_sql(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0] in SCHEMES


def make(path: Path, artifacts: Path) -> None:
    """Makes an MLflow database under another name and then gives it its own: nobody meets, or leaves, half of one."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    SqlAlchemyStore(f"{SQLITE}{staged}", artifacts.as_uri()).engine.dispose()
    with contextlib.suppress(FileExistsError):
        os.link(staged, path)
    staged.unlink()


def spelled(path: Path) -> str:
    """The URI of a SQLite file. MLflow keeps what it opened by URI, so a file made anew needs another spelling."""
    return f"{SQLITE}{path.parent}{'/.' * _spelling(path, path.stat().st_ino)}/{path.name}"


@functools.cache
def _spelling(path: Path, inode: int) -> int:  # noqa: ARG001  (the file is what is cached)
    return next(_spellings)


class SqlTracker(Tracker):
    """The runs of one experiment in a SQL database; those that one call creates are one transaction."""

    at_once = 32

    def __init__(self, client: MlflowClient, experiment: str, uri: str):
        super().__init__(client, experiment)
        self._engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)

    def _found(self) -> Iterable[Shown]:
        run, tag = models.SqlRun, models.SqlTag
        wanted = (
            sqlalchemy.select(run.run_uuid, run.status, run.artifact_uri, tag.key, tag.value)
            .join(tag, tag.run_uuid == run.run_uuid)
            .where(run.experiment_id == int(self.experiment), run.lifecycle_stage == "active")
            .where(tag.key.in_((KEY, DIGEST, PARENT)))
        )
        found: dict[str, Record] = {}
        with self._engine.connect() as connection:
            for run_id, status, files, name, text in connection.execute(wanted):
                found.setdefault(run_id, {"status": status, "files": files})[name] = text
        return [
            Shown(run_id, one[KEY], one.get(DIGEST, ""), one["status"], one.get(PARENT, ""), one["files"])
            for run_id, one in found.items()
            if KEY in one
        ]

    def points(self, run_id: str) -> set[Point]:
        """All numbers that were logged."""
        metric = models.SqlMetric
        wanted = sqlalchemy.select(metric.key, metric.step, metric.value).where(metric.run_uuid == run_id)
        with outages(), self._engine.connect() as connection:
            return {Point(*found) for found in connection.execute(wanted)}

    def create(self, runs: Sequence[Run], index: dict[str, Shown]) -> None:
        """Writes whole runs that are not there yet, and adds them to the index; parents come first."""
        with outages():
            root = self.client.get_experiment(self.experiment).artifact_location
            shown = [self._place(run, index, root) for run in runs]
            with self._engine.begin() as connection:
                _insert(connection, int(self.experiment), runs, shown)

    def complete(self, shown: Shown, run: Run, index: dict[str, Shown]) -> None:
        """A run begun live is written anew in one transaction, under its id: a page that shows it stays where it is."""
        if not shown.key.startswith(OPEN):
            super().complete(shown, run, index)
            return
        parent = index[run.parent].run_id if run.parent else ""
        place = replace(shown, key=run.key, digest=run.tags[DIGEST], status=run.status, parent=parent)
        with outages():
            put_files(self.client, place, run.files)
            with self._engine.begin() as connection:
                _forget(connection, shown.run_id)
                _insert(connection, int(self.experiment), [run], [place])
        del index[shown.key]
        index[run.key] = place

    def _place(self, run: Run, index: dict[str, Shown], root: str) -> Shown:
        """A new id and a folder with the files of a run, which are there before anybody can see the run."""
        run_id = uuid.uuid4().hex
        files = append_to_uri_path(root, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
        parent = index[run.parent].run_id if run.parent else ""
        index[run.key] = Shown(run_id, run.key, run.tags[DIGEST], run.status, parent, files)
        put_files(self.client, index[run.key], run.files)
        return index[run.key]


def _insert(connection: Connection, experiment: int, runs: Sequence[Run], shown: Sequence[Shown]) -> None:
    pairs = list(zip(runs, shown, strict=True))
    began, ids = now(), _datasets(connection, experiment, runs)
    metrics = [_metric(place, point) for run, place in pairs for point in run.points]
    tables: dict[Any, list[Record]] = {
        models.SqlRun: [_run(run, place, experiment, began - order) for order, (run, place) in enumerate(pairs)],
        models.SqlTag: [_named(place, *tag) for run, place in pairs for tag in _tags(run, place).items()],
        models.SqlParam: [_named(place, *param) for run, place in pairs for param in run.params.items()],
        models.SqlMetric: sorted(metrics, key=_by_index),
        models.SqlLatestMetric: [_metric(place, point) for run, place in pairs for point in _latest(run.points)],
    }
    for run, place in pairs:
        if run.data:
            used = uuid.uuid4().hex
            tables.setdefault(models.SqlInput, []).append(_input(used, ids[run.data.name, run.data.digest], place))
            context = [{"input_uuid": used, "name": name, "value": text} for name, text in CONTEXT.items()]
            tables.setdefault(models.SqlInputTag, []).extend(context)
    for table, records in tables.items():
        if records:
            _write(connection, table, records)


def _forget(connection: Connection, run_id: str) -> None:
    """Takes away all that was logged live: tags, parameters, points. A live run has neither data sets nor files."""
    for table in (models.SqlLatestMetric, models.SqlMetric, models.SqlParam, models.SqlTag, models.SqlRun):
        connection.execute(sqlalchemy.delete(table).where(table.run_uuid == run_id))


def _write(connection: Connection, table: Any, records: Sequence[Record]) -> None:
    """Inserts records with the same fields; SQLAlchemy's own way to do it takes as long again as SQLite."""
    statement = sqlalchemy.insert(table).compile(connection, column_keys=list(records[0]))
    order = statement.positiontup
    given = [tuple(map(record.__getitem__, order)) for record in records] if order else list(records)
    connection.exec_driver_sql(str(statement), given)


def _datasets(connection: Connection, experiment: int, runs: Iterable[Run]) -> dict[tuple[str, str], str]:
    """{(name, digest): id} of the data sets of some runs; those that are not there are made."""
    model, ids = models.SqlDataset, {}
    for data in {run.data for run in runs if run.data}:
        told = as_dataset(data)
        wanted = sqlalchemy.select(model.dataset_uuid).where(
            model.experiment_id == experiment, model.name == told.name, model.digest == told.digest
        )
        found = ids.get((data.name, data.digest)) or connection.execute(wanted).scalar()
        if found is None:
            found = uuid.uuid4().hex
            record = {"dataset_uuid": found, "experiment_id": experiment, "name": told.name, "digest": told.digest}
            kept = {"dataset_source_type": told.source_type, "dataset_source": told.source}
            connection.execute(sqlalchemy.insert(model), [record | kept])
        ids[data.name, data.digest] = found
    return ids


def _run(run: Run, place: Shown, experiment: int, began: int) -> Record:
    """One row of `runs`, as MLflow's own store writes it."""
    return {
        "run_uuid": place.run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "unknown",
        "status": run.status,
        "start_time": began,
        "end_time": began + round(1000 * run.seconds),
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": place.artifacts,
        "experiment_id": experiment,
    }


def _tags(run: Run, place: Shown) -> dict[str, str]:
    parent = {PARENT: place.parent} if place.parent else {}
    return {**run.tags, **parent, "mlflow.runName": run.name}


def _named(place: Shown, name: str, text: str) -> Record:
    return {"run_uuid": place.run_id, "key": name, "value": text}


def _metric(place: Shown, point: Point) -> Record:
    number = {"key": point.name, "step": point.step, "timestamp": point.timestamp, "value": point.value}
    return {"run_uuid": place.run_id, "is_nan": False, **number}


def _by_index(metric: Record) -> tuple[str, int]:
    """In the order of MLflow's primary key, neighbours are written to the same page."""
    return metric["key"], metric["step"]


def _latest(points: Iterable[Point]) -> Iterable[Point]:
    """The last point of each name: what MLflow shows in its table."""
    return {point.name: point for point in sorted(points)}.values()


def _input(used: str, dataset: str, place: Shown) -> Record:
    source = {"source_type": "DATASET", "source_id": dataset}
    return {"input_uuid": used, **source, "destination_type": "RUN", "destination_id": place.run_id}


def _probe(path: Path) -> None:
    """Fails when somebody else holds the file, after `LOCKED_SECONDS`."""
    with contextlib.closing(sqlite3.connect(path, timeout=LOCKED_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
