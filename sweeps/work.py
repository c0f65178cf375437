"""What a worker does with one cell. Plain Python: the same call runs in a debugger or a test."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from certvae import chain, data, environment
from certvae.store import Store
from sweeps.dispatch import Cell
from sweeps.place import Place

Report = Callable[[Mapping[str, Any]], None]


def work(cell: Cell, place: Place, report: Report) -> None:
    """Trains and judges a cell; its rows are in the store when this returns."""
    dataset = data.load(
        cell.spec.data,
        None if place.data_root is None else Path(place.data_root),
        cache=Path(place.cache),
        progress=False,
    )
    device = environment.device()
    store = Store(
        Path(place.store),
        fingerprint=environment.fingerprint(device),
        device=device,
        report=report,
        checkpoint_seconds=place.checkpoint_seconds,
    )
    store.healing(lambda: _train_and_judge(cell, dataset, store, report))


def _train_and_judge(cell: Cell, dataset: data.Dataset, store: Store, report: Report) -> None:
    trained = chain.train(cell.spec, dataset, store, lambda step: report({"at": step}))
    report({"at": "judge"})
    for split in cell.splits:
        chain.judge(trained, dataset, store, split, cell.looks)
