"""How a run gets into MLflow, and what is in there: the only module that speaks to MLflow, through its client.

`Tracker` is right for any tracking URI: every call may be repeated, and what is there already is not logged again.
`database` does the same for new runs of a SQL database in one transaction. Whatever goes wrong is an `Outage`.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.utils.file_utils import local_file_uri_to_path

from certvae.errors import redact
from certvae.tracking.runs import DIGEST, KEY, NOTE, OPEN, DataUsed, Point, Run

PARENT = "mlflow.parentRunId"
CONTEXT = {"mlflow.data.context": "training"}  # cannot be changed once it is logged, so it names no split
OURS = f"tags.`{KEY}` != ''"
BATCH = 800  # numbers per call; MLflow takes 1000 of everything together
PAGE = 500  # runs per page
DIGEST_LENGTH = 8  # of a data set in the table of runs, as MLflow's own are; the whole one is in its source and a tag
GUIDE = """One run per config, and below it one per network and seed.
The search `tags.kind = 'cell'` finds all networks, `tags.mode = 'full'` those of one mode; sort by a metric, such as
`margin`, to see them without their configs.

- `margin_by_tau` in the charts: the margin that is left at every buffer tau, one line per run. X is 1000 tau;
  choose the metric `tau` as X for nats.
- `margin_tau_0.05`, `margin_tau_0.10`, `margin_tau_0.20` under Columns: the same as numbers, of the split in `split`.
- `curve/*`: loss terms and guard numbers by epoch. `guard/*` and `certify/*`: numbers of the trained network.

Margins and information are in nats, PSNR in dB. Made from the store; what is changed here is not kept by a rebuild.
"""
ABOUT = {"mlflow.experimentKind": "custom_model_development", NOTE: GUIDE}
_USER = re.compile(r"//[^/@\s]*@")  # a user and a password inside a URI


class Outage(Exception):
    """MLflow could not be reached, refused, or is busy: nothing is lost, the store has it."""


@dataclass(frozen=True)
class Shown:
    """A run that is in MLflow."""

    run_id: str
    key: str
    digest: str
    status: str
    parent: str
    artifacts: str

    def is_right(self, digest: str, status: str) -> bool:
        """True when nothing is left to write: the status is written last."""
        return (self.digest, self.status) == (digest, status)


class Tracker:
    """The runs of one experiment, through MLflow's client.

    Attributes:
        at_once: how many runs one call of `create` is best given; after an outage none of them may count as written.
    """

    at_once = 1

    def __init__(self, client: MlflowClient, experiment: str):
        self.client, self.experiment = client, experiment

    def index(self) -> dict[str, Shown]:
        """All runs of ours, by key; when the answer to a first attempt was lost there are two, and one goes."""
        index: dict[str, Shown] = {}
        with outages():
            for shown in sorted(self._found(), key=lambda shown: (shown.status == "RUNNING", shown.run_id)):
                if index.setdefault(shown.key, shown) is not shown:
                    self.client.delete_run(shown.run_id)
        return index

    def begin(self, run: Run, parent: Shown | None) -> Shown:
        """Makes a run that is RUNNING, with tags and parameters."""
        with outages():
            tags = run.tags | ({PARENT: parent.run_id} if parent else {})
            made = self.client.create_run(self.experiment, now(), tags, run.name)
            self._log(made.info.run_id, params=run.params)
            return _shown(made)

    def resume(self, run_id: str) -> None:
        """A run that was closed is RUNNING again."""
        with outages():
            self.client.update_run(run_id, "RUNNING")

    def log(self, run_id: str, points: Sequence[Point]) -> None:
        """Logs numbers; those that are there already change nothing."""
        with outages():
            self._log(run_id, points)

    def create(self, runs: Sequence[Run], index: dict[str, Shown]) -> None:
        """Writes whole runs that are not there yet, and adds them to the index; parents come first."""
        for run in runs:
            shown = self.begin(run, index[run.parent] if run.parent else None)
            self._finish(shown, run, run.points, now() + round(1000 * run.seconds))
            index[run.key] = dataclasses.replace(shown, status=run.status)

    def complete(self, shown: Shown, run: Run, index: dict[str, Shown]) -> None:
        """Makes a run what it shall be: adds what is missing, or writes it anew when it says something else."""
        with outages():
            there, data = self.points(shown.run_id), self.client.get_run(shown.run_id).data
            if not there <= set(run.points) or not data.params.items() <= run.params.items():
                self.delete(shown, index)
                self.create([run], index)
                return
            self.resume(shown.run_id)
            for stale in data.tags.keys() - run.tags.keys() - {PARENT}:
                if not stale.startswith("mlflow.") or stale == NOTE:
                    self.client.delete_tag(shown.run_id, stale)
            self._finish(shown, run, [point for point in run.points if point not in there], now())
        del index[shown.key]
        index[run.key] = dataclasses.replace(shown, key=run.key, digest=run.tags[DIGEST], status=run.status)

    def hang(self, shown: Shown, parent: Shown) -> None:
        """Puts a run below a parent, unless it is there."""
        if shown.parent != parent.run_id:
            with outages():
                self.client.set_tag(shown.run_id, PARENT, parent.run_id)

    def delete(self, shown: Shown, index: dict[str, Shown]) -> None:
        """Takes a run out of view, and out of the index."""
        with outages():
            self.client.delete_run(shown.run_id)
        del index[shown.key]

    def kill_open(self) -> None:
        """Closes runs that were begun live and are still RUNNING: whoever trained them is gone."""
        for shown in self.index().values():
            if shown.key.startswith(OPEN) and shown.status == "RUNNING":
                with outages():
                    self.client.set_terminated(shown.run_id, "KILLED")

    def points(self, run_id: str) -> set[Point]:
        """All numbers that were logged."""
        with outages():
            names = self.client.get_run(run_id).data.metrics
            return {
                Point(name, metric.step, metric.value)
                for name in names
                for metric in self.client.get_metric_history(run_id, name)
            }

    def dump(self) -> list[dict[str, Any]]:
        """All that is logged, in a fixed order; ids and times are left out, files are named by their SHA-256."""
        with outages():
            runs = list(self._runs())
            names = {run.info.run_id: run.data.tags[KEY] for run in runs}
            return sorted((self._told(run, names) for run in runs), key=lambda told: told["tags"][KEY])

    def _found(self) -> Iterable[Shown]:
        return map(_shown, self._runs())

    def _told(self, run: Any, names: dict[str, str]) -> dict[str, Any]:
        run_id = run.info.run_id
        tags = {name: text for name, text in run.data.tags.items() if name != "mlflow.user"}
        if PARENT in tags:
            tags[PARENT] = names.get(tags[PARENT], "unknown")
        return {
            "name": run.info.run_name,
            "status": run.info.status,
            "tags": tags,
            "params": run.data.params,
            "latest": run.data.metrics,
            "points": sorted([point.name, point.step, point.value] for point in self.points(run_id)),
            "data": [_told_data(used) for used in run.inputs.dataset_inputs],
            "files": get_files(self.client, _shown(run)),
        }

    def _runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment], OURS, ViewType.ACTIVE_ONLY, PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _finish(self, shown: Shown, run: Run, missing: Sequence[Point], ended: int) -> None:
        """Writes what is missing of a RUNNING run, and its status last: a run with the right status is whole."""
        with outages():
            self._log(shown.run_id, missing, run.params, run.tags)
            if run.data:
                self.client.log_inputs(shown.run_id, [_dataset_input(run.data)])
            put_files(self.client, shown, run.files)
            self.client.update_run(shown.run_id, name=run.name)
            self.client.set_terminated(shown.run_id, run.status, ended)

    def _log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        if params or tags:
            named = [Param(name, text) for name, text in (params or {}).items()]
            self.client.log_batch(run_id, (), named, [RunTag(name, text) for name, text in (tags or {}).items()])
        for begin in range(0, len(points), BATCH):
            metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in points[begin : begin + BATCH]]
            self.client.log_batch(run_id, metrics)


@contextlib.contextmanager
def outages() -> Iterator[None]:
    """Turns every way in which a server, a database or a disk can fail into an Outage.

    MLflow, SQLAlchemy, requests and protobuf have errors of their own, with no common class, and none may end a sweep.
    """
    try:
        yield
    except Outage:
        raise
    except Exception as error:
        text = next(iter(str(error).splitlines()), "")[:200]
        raise Outage(redact(f"{type(error).__name__}: {_USER.sub('//', text)}")) from error


def now() -> int:
    """Milliseconds since 1970: a label, no decision depends on it."""
    return round(1000 * time.time())


def put_files(client: MlflowClient, shown: Shown, files: dict[str, bytes]) -> None:
    """Stores the files of a run where its experiment keeps them."""
    if urlparse(shown.artifacts).scheme in ("", "file"):
        write_files(Path(local_file_uri_to_path(shown.artifacts)), files)
    elif files:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), files)
            client.log_artifacts(shown.run_id, folder)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files into a folder, which is made when it is needed."""
    for name, data in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def get_files(client: MlflowClient, shown: Shown) -> dict[str, str]:
    """{name: SHA-256} of the files of a run."""
    if urlparse(shown.artifacts).scheme in ("", "file"):
        return _hashed(Path(local_file_uri_to_path(shown.artifacts)))
    with tempfile.TemporaryDirectory() as folder:
        for file in client.list_artifacts(shown.run_id):
            client.download_artifacts(shown.run_id, file.path, folder)
        return _hashed(Path(folder))


def _hashed(folder: Path) -> dict[str, str]:
    files = sorted(folder.iterdir()) if folder.exists() else ()
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def as_dataset(data: DataUsed) -> Dataset:
    """The data set in MLflow's words."""
    source = json.dumps({"name": data.name, "sha256": data.digest})
    return Dataset(data.name, data.digest[:DIGEST_LENGTH], "local", source)


def _dataset_input(data: DataUsed) -> DatasetInput:
    return DatasetInput(as_dataset(data), [InputTag(name, text) for name, text in CONTEXT.items()])


def _told_data(used: DatasetInput) -> dict[str, Any]:
    return {**used.dataset.to_dictionary(), "tags": {tag.key: tag.value for tag in used.tags}}


def _shown(run: Any) -> Shown:
    tags, info = run.data.tags, run.info
    return Shown(info.run_id, tags[KEY], tags.get(DIGEST, ""), info.status, tags.get(PARENT, ""), info.artifact_uri)


def experiment_id(client: MlflowClient, study: str, artifacts: str | None) -> str:
    """The experiment of a study, made or taken out of MLflow's bin when needed.

    Args:
        artifacts: where its files shall be kept; None leaves it to the server.

    Raises:
        Outage: its files are kept elsewhere, as after a store was moved.
    """
    found = client.get_experiment_by_name(study)
    if found is None:
        return client.create_experiment(study, artifact_location=artifacts, tags=ABOUT)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if artifacts and found.artifact_location != artifacts:
        raise Outage(f"files of {study} are kept in {found.artifact_location}, not in {artifacts}; rebuild the ledger")
    return found.experiment_id
