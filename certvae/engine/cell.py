"""What a worker does with one lane of a cell. Plain Python: the same call runs in a debugger or a test."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from certvae import fingerprint
from certvae.cluster.slots import Place
from certvae.data.dataset import Dataset
from certvae.data.loading import load
from certvae.engine import failures
from certvae.engine.dispatch import Cell, Ended
from certvae.engine.early_stop import Censor, Censored
from certvae.errors import Fault
from certvae.foreign import look_in
from certvae.protocols import chain
from certvae.spec.parts import Data
from certvae.store.store import Store
from certvae.training import environment

Report = Callable[[Mapping[str, Any]], None]


def attempt(lane: Cell, place: Place, report: Report) -> Ended:
    """Runs one lane and returns how it ended; of a failure the traceback is kept beside the store's log.

    Raises:
        Exception: a second attempt may mend it: it is no fault, and memory was not short.
    """
    try:
        return Ended("ok", rows=work(lane, place, report))
    except Censored as stopped:
        return Ended("censored", str(stopped))
    except Exception as error:
        ended = failures.keep(Path(place.store), lane, error)
        if ended.kind != "out_of_memory" and not isinstance(error, Fault):
            raise
        return ended


def work(cell: Cell, place: Place, report: Report) -> list[chain.Row]:
    """Trains and judges a cell, or a lane of it; its rows are written to the store and returned.

    Raises:
        Censored: the cell's rule says that its config cannot reach what it must.
    """
    look_in(place.code)
    device = fingerprint.device()
    if place.gpu_share < 1 and device != "cpu":  # a process may have run a lane that was not alone before
        torch.cuda.set_per_process_memory_fraction(1.0 if cell.alone else place.gpu_share)
    dataset = _loaded(cell.spec.data, place.data_root, place.cache)
    censor = Censor(cell.stop)

    def hear(event: Mapping[str, Any]) -> None:
        report(event)
        censor.heard(event)

    store = Store(
        Path(place.store),
        fingerprint=environment.fingerprint(device),
        device=device,
        report=hear,
        recompute=place.recompute,
    )

    def train_and_judge() -> list[chain.Row]:
        heard = (lambda step: hear({"at": step}), censor.published)
        trained = chain.train(cell.spec, dataset, store, *heard, only=cell.only, said=lambda it: hear({"said": it}))
        hear({"at": "judge"})
        return [row for split in cell.splits for row in chain.judge(trained, dataset, store, split, cell.looks)]

    return store.healing(train_and_judge)


@functools.lru_cache(maxsize=1)
def _loaded(data: Data, root: str | None, cache: str) -> Dataset:
    """The lanes of a study share a data set, and a process opens and checks it once."""
    return load(data, root, cache=Path(cache), progress=False)
