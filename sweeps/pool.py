"""The pool: Ray Tune runs cells on slots. Everything Ray writes is scratch.

One cell is one trial; actors are reused, so torch is imported once per slot. Workers write to the store and report how
far they are; they open no database. `Tuner.restore` is never called: what is left is the plan minus the store.
"""

import logging
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray's core reads its settings once, when it is imported.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}

import ray
from ray import tune
from ray.tune.search import Searcher

from sweeps.dispatch import Cell, Dispatcher
from sweeps.place import Place, Slots
from sweeps.progress import Board

REPORT_SECONDS = 0.5  # a worker tells the driver at most this often how far it is
ATTEMPTS = 3  # per cell and invocation; what an earlier run did is not counted


def run(dispatcher: Dispatcher, place: Place, slots: Slots, board: Board) -> None:
    """Runs cells until the dispatcher is finished, or the user interrupts.

    Raises:
        RayFault: when Ray could not be started or was lost; nothing in the store is harmed.
    """
    with _cluster(slots) as scratch, _terminate_as_interrupt():
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_cell, place=place, threads=slots.threads), slots.resources),
            tune_config=tune.TuneConfig(
                search_alg=_Cells(dispatcher, board),
                num_samples=-1,
                max_concurrent_trials=slots.count,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="cells",
                storage_path=str(scratch / "tune"),
                failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
                verbose=0,
            ),
        )
        tuner.fit()


class _Cells(Searcher):
    """What Ray Tune asks for the next cell, and tells how it ended."""

    def __init__(self, dispatcher: Dispatcher, board: Board):
        super().__init__(metric=None, mode=None)
        self._dispatcher, self._board = dispatcher, board

    def suggest(self, trial_id: str) -> Any:
        cell = self._dispatcher.next(trial_id)
        if cell is None:
            return Searcher.FINISHED if self._dispatcher.finished else None
        self._board.started(trial_id, cell)
        return {"cell": [cell]}  # in a list: Tune would merge and flatten a mapping

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        for event in result.get("events", ()):
            if "at" in event:
                self._dispatcher.reached(trial_id, event["at"])
            self._board.heard(trial_id, event)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        done = not error and bool(result) and result.get("done_cell", False)
        self._dispatcher.over(trial_id, "ok" if done else "failed")
        self._board.ended(trial_id, failed=not done)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given, for a restore that never happens."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing is saved here: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored here: the store is the truth."""


def _cell(config: Mapping[str, Any], *, place: Place, threads: int) -> None:
    """One trial: trains and judges one cell. Runs in a worker, so the science is imported here."""
    from certvae import environment  # noqa: PLC0415

    environment.settle(threads)
    from sweeps.work import work  # noqa: PLC0415

    (cell,) = config["cell"]
    speaker = _Speaker()
    try:
        work(cell, place, speaker)
    except Exception:
        _keep_traceback(cell, place)
        raise
    tune.report({"events": speaker.drain(), "done_cell": True})


class _Speaker:
    """Collects events and sends them in bundles: a report costs the driver more than a training step."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._sent = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._events.append(dict(event))
        if "at" in event or time.monotonic() - self._sent >= REPORT_SECONDS:
            tune.report({"events": self.drain(), "done_cell": False})

    def drain(self) -> list[dict[str, Any]]:
        events, self._events, self._sent = self._events, [], time.monotonic()
        return events


def _keep_traceback(cell: Cell, place: Place) -> None:
    folder = Path(place.store, "log", "failures")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{cell.spec.cell[:16]}.txt").write_text(traceback.format_exc())


@contextmanager
def _cluster(slots: Slots) -> Iterator[Path]:
    """A Ray of our own: private folder, token of its own, nothing of a stranger's is joined or stopped."""
    scratch = Path(tempfile.mkdtemp(prefix="certvae-"))
    token = scratch / "token"
    token.touch(mode=0o600)
    token.write_text(os.urandom(32).hex())
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    try:
        ray.init(
            address="local",
            num_cpus=max(1, round(slots.count * slots.cpus)),
            num_gpus=round(slots.count * slots.gpus),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(scratch / "ray"),
        )
        yield scratch
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM, as pre-emption and Slurm send it, ends a run the way Ctrl-C does."""
    earlier = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
