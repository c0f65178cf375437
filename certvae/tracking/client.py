"""Writes runs to MLflow and reads them back, by MLflow's public client alone, behind any tracking URI.

Every call may be repeated, ends in bounded time whatever the other side does, and fails as an `Outage`. A run is found
by the tag `certvae.key`; its digest is written with its numbers and its status last, so that a run with both is whole.
"""

import contextlib
import dataclasses
import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType

from certvae.errors import redact
from certvae.store.locks import Held
from certvae.tracking.runs import DIGEST, KEY, NOTE, DataUsed, Point, Run
from certvae.tracking.views import WRITTEN

PARENT = "mlflow.parentRunId"
CONTEXT = {"mlflow.data.context": "training"}  # cannot be changed once it is logged, so it names no split
OURS = f"tags.`{KEY}` != ''"
BATCH = 800  # numbers per call; MLflow takes 1000 of everything together
PAGE = 500  # runs per page
DIGEST_LENGTH = 8  # of a data set in the table of runs, as MLflow's own are; the whole one is in its source
OPEN = ("RUNNING", "SCHEDULED", "KILLED")  # of runs that may still become what they shall be
CALL_SECONDS = 20.0  # that one run may take to be read or written, as a whole: a time-out of a socket bounds no answer
_USER = re.compile(r"//[^/@\s]*@")  # a user and a password inside a URI

T = TypeVar("T")


class Outage(Exception):
    """MLflow could not be reached, refused, or is busy: nothing is lost, the store has it."""

    remedy = "Run the same command again."


class Taken(Outage):
    """The name of a study belongs to another store: repeating never helps."""

    remedy = "Unset MLFLOW_TRACKING_URI, and runs go to this store's own database."


class Unable(Outage):
    """What speaks to this database is not installed: repeating never helps."""

    remedy = f"Install it, or: {Taken.remedy[0].lower()}{Taken.remedy[1:]}"


class Patience:
    """Makes calls that end in time: one that does not is left to a thread that holds up nobody, not even the exit."""

    def __init__(self) -> None:
        self._left: threading.Thread | None = None

    def __call__(self, action: Callable[[], T], seconds: float | None = None) -> T:
        """What the action returns.

        Raises:
            Outage: it failed, or took too long, or an earlier one that took too long is still at it.
        """
        if self._left is not None and self._left.is_alive():
            raise Outage("MLflow has still not answered")
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(action())
            except BaseException as error:
                failed.append(error)

        limit = CALL_SECONDS if seconds is None else seconds
        thread = threading.Thread(target=run, name="mlflow", daemon=True)
        thread.start()
        thread.join(limit)
        if failed:
            with outages():
                raise failed[0]
        if not done:
            self._left = thread
            raise Outage(f"MLflow has not answered in {limit:.0f} s")
        return done[0]


@dataclass(frozen=True)
class Shown:
    """A run that is in MLflow."""

    run_id: str
    key: str
    digest: str
    status: str
    parent: str

    def is_right(self, digest: str, status: str) -> bool:
        """True when nothing is left to write: the status is written last."""
        return (self.digest, self.status) == (digest, status)


class Tracker:
    """The runs of one experiment."""

    def __init__(self, client: MlflowClient, experiment: str, patience: Patience):
        self.client, self.experiment, self._within = client, experiment, patience

    def read(self) -> dict[str, Shown]:
        """All runs of this study in MLflow, by key."""
        found, token = [], None
        while True:
            page = self._within(lambda token=token: self._page(OURS, token))
            found += map(_shown, page)
            if not (token := page.token):
                return self._by_key(found)

    def find(self, key: str) -> Shown | None:
        """The run with this key."""
        page = self._within(lambda: self._page(f"tags.`{KEY}` = '{key}'", None))
        return self._by_key(map(_shown, page)).get(key)

    def begin(self, run: Run, parent: Shown | None) -> Shown:
        """Makes a run that is RUNNING, with tags and parameters."""

        def make() -> Shown:
            shown = self._make(run, parent)
            self._log(shown.run_id, params=run.params)
            return shown

        return self._within(make)

    def log(self, shown: Shown, points: Sequence[Point]) -> None:
        """Logs numbers; those that are there already change nothing."""
        self._within(lambda: self._log(shown.run_id, points))

    def create(self, run: Run, digest: str, parent: Shown | None) -> Shown:
        """Writes a run that is not there."""
        return self._within(lambda: self._write(self._make(run, parent), run, digest, run.points))

    def update(self, shown: Shown, run: Run, digest: str, parent: Shown | None) -> Shown:
        """Changes a run that is there into what is wanted.

        One that is open gets what is missing, under its id. One that says something else is written anew, since
        MLflow takes no number back.
        """

        def mend() -> Shown:
            there = self._points_to_keep(shown, run)
            if there is None:
                self.client.delete_run(shown.run_id)
                return self._write(self._make(run, parent), run, digest, run.points)
            return self._write(shown, run, digest, [point for point in run.points if point not in there])

        return self._within(mend)

    def hang(self, shown: Shown, parent: Shown) -> Shown:
        """Makes a run a child of another one."""
        self._within(lambda: self.client.set_tag(shown.run_id, PARENT, parent.run_id))
        return dataclasses.replace(shown, parent=parent.run_id)

    def mark(self, shown: Shown, status: str) -> Shown:
        """Says that a run goes on, or that nobody trains it any more."""
        call = self.client.update_run if status == "RUNNING" else self.client.set_terminated
        self._within(lambda: call(shown.run_id, status))
        return dataclasses.replace(shown, status=status)

    def _page(self, wanted: str, token: str | None) -> Any:
        return self.client.search_runs([self.experiment], wanted, ViewType.ACTIVE_ONLY, PAGE, page_token=token)

    def _by_key(self, found: Iterable[Shown]) -> dict[str, Shown]:
        """When the answer to a first attempt was lost there are two runs, and one goes."""
        there: dict[str, Shown] = {}
        for shown in sorted(found, key=lambda shown: (shown.status in OPEN, shown.run_id)):
            if there.setdefault(shown.key, shown) is not shown:
                self._within(lambda shown=shown: self.client.delete_run(shown.run_id))
        return there

    def _make(self, run: Run, parent: Shown | None) -> Shown:
        place = {KEY: run.key, **({PARENT: parent.run_id} if parent else {})}
        return _shown(self.client.create_run(self.experiment, now(), run.tags | place, run.name))

    def _points_to_keep(self, shown: Shown, run: Run) -> set[Point] | None:
        """What was logged of an open run, after its stale tags are gone; None when it says something else."""
        if shown.status not in OPEN:
            return None
        data = self.client.get_run(shown.run_id).data
        there = {
            Point(name, metric.step, metric.value)
            for name in data.metrics
            for metric in self.client.get_metric_history(shown.run_id, name)
        }
        if not there <= set(run.points) or not data.params.items() <= run.params.items():
            return None
        for stale in data.tags.keys() - run.tags.keys() - {KEY, DIGEST, PARENT}:
            if not stale.startswith("mlflow.") or stale == NOTE:
                self.client.delete_tag(shown.run_id, stale)
        return there

    def _write(self, shown: Shown, run: Run, digest: str, missing: Sequence[Point]) -> Shown:
        if run.data:
            self.client.log_inputs(shown.run_id, [_dataset_input(run.data)])
        if run.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, data in run.files.items():
                    (Path(folder) / name).write_bytes(data)
                self.client.log_artifacts(shown.run_id, folder)
        self._log(shown.run_id, missing, run.params, run.tags | {DIGEST: digest})
        self.client.set_terminated(shown.run_id, run.status, now() + round(1000 * run.seconds))
        return dataclasses.replace(shown, digest=digest, status=run.status)

    def _log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        named = [Param(name, text) for name, text in (params or {}).items()]
        tagged = [RunTag(name, text) for name, text in (tags or {}).items()]
        metrics = [Metric(point.name, point.value, point.timestamp, point.step) for point in points]
        for begin in range(0, max(len(metrics), 1), BATCH):
            last = begin + BATCH >= len(metrics)
            batch = metrics[begin : begin + BATCH]
            self.client.log_batch(run_id, batch, named if last else (), tagged if last else (), synchronous=True)


@contextlib.contextmanager
def outages() -> Iterator[None]:
    """Turns every way in which a server, a database or a disk can fail into an Outage.

    MLflow, SQLAlchemy, requests and protobuf have errors of their own, with no common class, and none may end a sweep.
    """
    try:
        yield
    except Outage:
        raise
    except Held as error:
        raise Outage(str(error)) from error
    except Exception as error:
        text = next(iter(str(error).splitlines()), "")
        kind = Unable if isinstance(error, ImportError) else Outage
        raise kind(redact(f"{type(error).__name__}: {_USER.sub('//', text)}")) from error


def now() -> int:
    """Milliseconds since 1970: a label, no decision depends on it."""
    return round(1000 * time.time())


def experiment_of(
    client: MlflowClient, study: str, tags: Mapping[str, str], artifacts: str | None, *, shared: bool
) -> str:
    """The experiment of a study, with these tags.

    One that keeps its files elsewhere, as after a store was copied, or that an older projection wrote, goes to MLflow's
    bin: it is a view, and the next sync fills the new one.

    Args:
        artifacts: where its files shall be kept; None leaves it to the server.
        shared: the database is not the store's own.

    Raises:
        Taken: another store of this machine keeps a study of this name there.
    """
    found = client.get_experiment_by_name(study)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found is not None and artifacts and found.artifact_location != artifacts:
        if shared and Path(unquote(urlsplit(found.artifact_location).path)).is_dir():
            raise Taken(f"another store keeps a study {study!r} there, with files in {found.artifact_location}")
        found = _retired(client, found)
    if found is not None and found.tags.get(WRITTEN) != tags[WRITTEN]:
        found = _retired(client, found)
    if found is None:
        return client.create_experiment(study, artifact_location=artifacts, tags=dict(tags))
    for name, text in tags.items():
        if found.tags.get(name) != text:
            client.set_experiment_tag(found.experiment_id, name, text)
    return found.experiment_id


def _retired(client: MlflowClient, experiment: Any) -> None:
    """Gives the name of an experiment free and puts it into MLflow's bin."""
    client.rename_experiment(experiment.experiment_id, f"{experiment.name} (replaced, {experiment.experiment_id})")
    client.delete_experiment(experiment.experiment_id)


def _dataset_input(data: DataUsed) -> DatasetInput:
    source = json.dumps({"name": data.name, "sha256": data.digest})
    told = Dataset(data.name, data.digest[:DIGEST_LENGTH], "local", source)
    return DatasetInput(told, [InputTag(name, text) for name, text in CONTEXT.items()])


def _shown(run: Any) -> Shown:
    tags, info = run.data.tags, run.info
    return Shown(info.run_id, tags[KEY], tags.get(DIGEST, ""), info.status, tags.get(PARENT, ""))
