"""Runs cells on a pool of slots through Ray Tune. Everything that Ray writes is scratch.

One lane of a cell is one trial; actors are reused, so torch is imported once per slot. Workers write to the store and
report how far they are; they open no database. `Tuner.restore` is never called: what is left is the plan minus the
store.
"""

import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from certvae.cluster.joined import Pool, Recovered, joined
from certvae.cluster.local import own_ray
from certvae.cluster.slots import Place, Slots
from certvae.engine import failures
from certvae.engine.dispatch import Dispatcher
from certvae.engine.worker import run_cell
from certvae.terminal import handled, number_of, variables_unset

MOST_SLOTS = 10_000  # Ray Tune asks for lanes until it has so many; the room that there is decides
ATTEMPTS = 3  # per lane and invocation; what an earlier run did is not counted
GONE = ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR")
"""Variables of older Rays. Ray Tune ends a run for them, with the words that they have no effect."""


def run(
    dispatcher: Dispatcher,
    place: Place,
    slots: Slots,
    *,
    address: str | None = None,
    most: int | None = None,
    budget_seconds: float | None = None,
    work: Callable[..., None] = run_cell,
) -> None:
    """Runs cells until the dispatcher is finished, the budget is spent, or the user interrupts.

    Args:
        slots: of a Ray of our own; those of a cluster are counted, again whenever a node comes or goes.
        address: a Ray cluster to join; a Ray of our own on this machine when absent.
        most: at most so many slots of a cluster.
        work: what a worker does with a lane; tests give something shorter.
    """
    # Ray Tune leaves its handler of both behind, which hears Ctrl-C and does nothing.
    interrupt, user = (handled(one, signal.getsignal(one) or signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGUSR1))
    with _ray(slots, place, address, most) as pool, interrupt, user, variables_unset(*GONE):
        tune.Tuner(
            tune.with_resources(pool.work_of(work, place), partial(_bundle, slots=pool.slots)),
            tune_config=tune.TuneConfig(
                search_alg=_Cells(dispatcher, Path(place.store), pool.count),
                scheduler=Recovered(ATTEMPTS),
                num_samples=-1,
                max_concurrent_trials=MOST_SLOTS,
                reuse_actors=True,
                time_budget_s=budget_seconds,
            ),
            run_config=tune.RunConfig(
                name="cells",
                storage_path=str(pool.scratch),
                failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
                verbose=0,
            ),
        ).fit()


def _ray(slots: Slots, place: Place, address: str | None, most: int | None) -> AbstractContextManager[Pool]:
    return own_ray(slots) if address is None else joined(address, place, most)


def _bundle(config: Mapping[str, Any], slots: Slots) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([slots.resources(alone=config["cell"][0].alone)])


class _Cells(Searcher):
    """What Ray Tune asks for the next lane, and tells how it ended."""

    def __init__(self, dispatcher: Dispatcher, store: Path, slots: Callable[[], int]):
        super().__init__(metric=None, mode=None)
        self._dispatcher, self._store, self._slots = dispatcher, store, slots
        self._running = 0
        self._is_first = True
        self._hears_stops = False

    def suggest(self, trial_id: str) -> Any:
        if not self._hears_stops:
            self._hear_stops()
        lane = self._dispatcher.next(trial_id) if self._running < self._slots() else None
        if lane is None:
            self._begun()
            return Searcher.FINISHED if self._dispatcher.finished else None
        self._running += 1
        failures.forget(self._store, lane)
        return {"cell": [lane]}  # in a list: Tune would merge and flatten a mapping

    def _hear_stops(self) -> None:
        """Lets the dispatcher know of Ctrl-C at once: Ray Tune, whose handler is set by now, takes seconds to end."""
        self._hears_stops = True
        tune_stops = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: FrameType | None) -> None:
            self._dispatcher.stopping()
            if callable(tune_stops):
                tune_stops(number, frame)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, stop)

    def _begun(self) -> None:
        """Says, once every slot has its first lane, what workers do before they can say anything."""
        if self._is_first and self._running:
            self._is_first = False
            self._dispatcher.waiting(f"importing torch on {number_of(self._running, 'worker')}")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        for event in result["events"]:
            self._dispatcher.heard(trial_id, event)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._running -= 1
        told = None if error or not result else result.get("ended")
        self._dispatcher.over(trial_id, told or failures.of(self._store, self._dispatcher.running(trial_id)))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given, for a restore that never happens."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing is saved here: the store is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored here: the store is the truth."""
