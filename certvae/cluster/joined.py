"""Runs cells on a cluster that is there: joins it, compares its nodes, watches it, and leaves it as it was."""

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from certvae.cluster import nodes
from certvae.cluster.join import alive, driver_of
from certvae.cluster.slots import Place, Slots, cluster_slots
from certvae.cluster.watch import Watch, quiet, stoppable
from certvae.errors import RayFault
from certvae.store.process import owner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """The resources of a run: a folder for what Ray Tune writes, and slots that may come and go."""

    scratch: Path
    slots: Slots
    count: Callable[[], int]
    """How many cells may run now."""
    probe: str = ""
    """The probe file of the store, where nodes must prove that they see this store."""

    def work_of(self, work: Callable[..., None], place: Place) -> Any:
        """The work with all that it needs besides a cell, as Ray Tune wants it."""
        if not self.probe:
            return tune.with_parameters(work, place=place)
        return tune.with_parameters(_on_this_store, place=place, work=work, probe=self.probe)


@contextmanager
def joined(address: str, place: Place, most: int | None = None) -> Iterator[Pool]:
    """Joins a cluster and watches it; the cluster goes on when the run has ended.

    Args:
        address: host:port of its head, or auto.
        place: with the store, which all nodes must share.
        most: at most so many slots.

    Raises:
        RayFault: it cannot be joined, a node is odd, or, later, the head is lost.
    """
    per_gpu = round(1 / place.gpu_share)
    scratch = Path(place.store, "tmp", f"tune.{owner()}.{uuid.uuid4().hex}")
    with quiet(), nodes.probe_file(place.store) as probe, stoppable() as stop:
        try:
            with driver_of(address):
                here = nodes.look(probe)
                nodes.check(here, nodes.ask(alive(), probe))
                watching = Watch(ray.get_runtime_context().gcs_address, replace(here, store=""), probe, stop)
                with watching as watch, stop.on_sigterm():
                    slots = cluster_slots([node["Resources"] for node in watch.nodes], per_gpu, most)
                    yield Pool(scratch, slots, partial(_now, watch, per_gpu, most), probe)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _now(watch: Watch, per_gpu: int, most: int | None) -> int:
    try:
        return cluster_slots([node["Resources"] for node in watch.nodes], per_gpu, most).count
    except RayFault:
        return 0  # all workers are gone for now


class Recovered(FIFOScheduler):
    """Says that a cell starts again: Ray Tune does so in silence.

    A scheduler hears of it as a callback does; for the sake of a callback Ray Tune imports MLflow, half a second.
    """

    def __init__(self, attempts: int):
        super().__init__()
        self._attempts = attempts

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A lane has lost its worker; after the last attempt it has failed, which is said elsewhere."""
        super().on_trial_error(tune_controller, trial)
        if trial.num_failures < self._attempts:
            cell = trial.config["cell"][0]
            logger.warning(
                "%s seed %d lost its worker: attempt %d of %d",
                *(cell.spec.config[:6], cell.spec.seed, trial.num_failures + 1, self._attempts),
            )


def _on_this_store(config: Mapping[str, Any], *, place: Place, work: Callable[..., None], probe: str) -> None:
    """Does the work where the store is the driver's; a node that joined a moment ago may see another folder.

    Raises:
        RayFault: it is another one. Nothing has been written then.
    """
    if not Path(probe).exists():
        raise nodes.no_store_here(probe)
    work(config, place=place)
