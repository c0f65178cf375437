"""What a worker does with one cell. Plain Python: the same call runs in a debugger or a test."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from certvae import fingerprint
from certvae.cluster.slots import Place
from certvae.data.loading import load
from certvae.engine.dispatch import Cell
from certvae.engine.early_stop import Censor
from certvae.foreign import look_in
from certvae.protocols import chain
from certvae.store.store import Store
from certvae.training import environment

Report = Callable[[Mapping[str, Any]], None]


def work(cell: Cell, place: Place, report: Report) -> list[chain.Row]:
    """Trains and judges a cell; its rows are in the store, and returned.

    Raises:
        Censored: the cell's rule says that its config cannot reach what it must.
    """
    look_in(place.code)
    device = fingerprint.device()
    if place.gpu_share < 1 and not cell.alone and device != "cpu":
        torch.cuda.set_per_process_memory_fraction(place.gpu_share)
    dataset = load(cell.spec.data, place.data_root, cache=Path(place.cache), progress=False)
    censor = Censor(cell.stop)

    def hear(event: Mapping[str, Any]) -> None:
        report(event)
        censor.heard(event)

    store = Store(
        Path(place.store),
        fingerprint=environment.fingerprint(device),
        device=device,
        report=hear,
        checkpoint_seconds=place.checkpoint_seconds,
        recompute=place.recompute,
    )

    def train_and_judge() -> list[chain.Row]:
        heard = (lambda step: hear({"at": step}), censor.published)
        trained = chain.train(cell.spec, dataset, store, *heard, only=cell.only)
        hear({"at": "judge"})
        return [row for split in cell.splits for row in chain.judge(trained, dataset, store, split, cell.looks)]

    return store.healing(train_and_judge)
