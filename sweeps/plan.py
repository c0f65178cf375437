"""Before a run: what it will compute, what cells share, and how long that may take."""

import itertools
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Group
from rich.table import Table

from certvae import chain, environment
from certvae.data import Dataset
from certvae.dataset import SPLITS
from certvae.errors import DiskFault
from certvae.losses import chain_loss
from certvae.nets import build
from certvae.spec import CellSpec, Training, Unaligned
from certvae.store import Store
from certvae.training import Batches
from sweeps.dispatch import Cell
from sweeps.place import Slots
from sweeps.progress import clock

SAME_STAGE = {"full": "aligned", "rescue": "aligned"}  # steps that are one stage with another start
UNMEASURED = 0.3  # half width of the range of an estimate that rests on a probe
SPARE_DISK = 1.2
PROBE_STEPS = 8


@dataclass(frozen=True)
class Work:
    """One step of all cells: how often it runs, how often it would without sharing, and seconds per run."""

    step: str
    runs: int
    asked: int
    low: float
    middle: float
    high: float
    known: str


def overview(base: CellSpec, dataset: Dataset, cells: int, left: int, slots: Slots) -> str:
    """A run in three lines."""
    splits = ", ".join(f"{len(dataset.rows(split)):,} {split}" for split in SPLITS)
    shape = " x ".join(map(str, dataset.shape))
    shown = f" ({dataset.substitute})" if dataset.substitute else ""
    return (
        f"{base.study}, base config {base.config[:12]}\n"
        f"{dataset.name}{shown}: {splits} rows of {shape}, K = {base.protocol.teacher.classes}\n"
        f"{cells} cells, {cells - left} done before, {left} to run on {slots.count} slots: {slots.on}"
    )


def estimate(cells: Sequence[Cell], dataset: Dataset, store: Store, slots: Slots) -> Group:
    """Steps, how often each runs and would run without sharing, time, makespan on this pool, and disk."""
    if not cells:
        return Group("nothing is left to run")
    works = works_of(cells, dataset, store)
    table = Table(title="plan", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("step")
    for heading in ("runs", "without sharing", "each", "total", "known from"):
        table.add_column(heading, justify="left" if heading == "known from" else "right")
    for work in works:
        each, total = clock(work.middle), clock(work.middle * work.runs)
        table.add_row(work.step, str(work.runs), str(work.asked), each, total, work.known)
    low, middle, high = (makespan(works, len(cells), slots, bound) for bound in ("low", "middle", "high"))
    hours = [sum(getattr(work, bound) * work.runs for work in works) / 3600 for bound in ("low", "middle", "high")]
    unit = "GPU-hours" if slots.gpus else "core-hours"
    share = slots.gpus or 1.0
    return Group(
        table,
        f"makespan on {slots.count} slots: {clock(middle)} ({clock(low)} to {clock(high)})",
        f"{hours[1] * share:.2f} {unit} ({hours[0] * share:.2f} to {hours[2] * share:.2f})",
        f"disk: about {disk_needed(cells, dataset) / 2**20:,.0f} MiB",
    )


def works_of(cells: Sequence[Cell], dataset: Dataset, store: Store) -> list[Work]:
    """The steps of all cells, in the order of a chain."""
    spec, probed = cells[0].spec, _Probe(cells[0].spec, dataset)
    shared = [chain.shared(cell.spec) for cell in cells]
    works = []
    for step in chain.steps(spec):
        runs = len({keys[step] for keys in shared}) if step in shared[0] else len(cells)
        seen = store.seconds(SAME_STAGE.get(step, step))
        if seen:
            range_ = float(np.min(seen)), float(np.median(seen)), float(np.max(seen))
            works.append(Work(step, runs, len(cells), *range_, f"{len(seen)} runs in this store"))
        else:
            works.append(probed.work(step, runs, len(cells)))
    return works


def makespan(works: Sequence[Work], cells: int, slots: Slots, bound: str) -> float:
    """Seconds on the pool: all work spread over the slots, but never less than one chain, in whole waves of it."""
    one = sum(getattr(work, bound) for work in works)
    spread = sum(getattr(work, bound) * work.runs for work in works) / min(slots.count, cells)
    return max(one, spread)


def disk_needed(cells: Sequence[Cell], dataset: Dataset) -> int:
    """Bytes of weights and cached teacher rows, the large part of what a run leaves behind."""
    spec = cells[0].spec
    classes = spec.protocol.teacher.classes
    network = build(spec.model, dataset.shape, classes, seed=0)
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    targets = 4 * classes * (len(dataset.rows("train")) + len(dataset.rows("guard")))
    works = [(step, {chain.shared(cell.spec).get(step, cell) for cell in cells}) for step in chain.steps(spec)]
    trained = sum(len(runs) for step, runs in works if step not in ("teacher", "judge"))
    taught = sum(len(runs) for step, runs in works if step == "teacher")
    return weights * trained + targets * taught


def check_disk(cells: Sequence[Cell], dataset: Dataset, store: Store) -> None:
    """Refuses to start what would not fit.

    Raises:
        DiskFault: when less is free than 1.2 times the estimate.
    """
    needed = disk_needed(cells, dataset) if cells else 0
    free = shutil.disk_usage(store.path).free
    if free < SPARE_DISK * needed:
        raise DiskFault(
            20,
            f"{free / 2**30:.1f} GiB are free, about {SPARE_DISK * needed / 2**30:.1f} GiB are needed",
            where=str(store.path),
            cause=f"{len(cells)} cells leave weights and cached teacher rows behind",
            remedy="free space, or give another --store",
        )


class _Probe:
    """Seconds per step of a chain from a few optimiser steps, where the store has not seen any."""

    def __init__(self, spec: CellSpec, dataset: Dataset):
        self._spec, self._dataset = spec, dataset
        self._seconds: float | None = None

    def work(self, step: str, runs: int, asked: int) -> Work:
        """A step that trains; the others cost little and are not known before they ran."""
        schedule = chain.schedules(self._spec).get(step)
        if schedule is None:
            return Work(step, runs, asked, 0.0, 0.0, 0.0, "not known yet")
        batches = max(1, len(self._dataset.rows("train")) // schedule.batch_size)
        seconds = self._step_seconds(schedule) * batches * schedule.epochs
        low, high = seconds * (1 - UNMEASURED), seconds * (1 + UNMEASURED)
        return Work(step, runs, asked, low, seconds, high, f"a probe of {PROBE_STEPS} steps")

    def _step_seconds(self, schedule: Training) -> float:
        if self._seconds is None:
            self._seconds = probe_step_seconds(self._spec, self._dataset, schedule.batch_size)
        return self._seconds


def probe_step_seconds(spec: CellSpec, dataset: Dataset, batch_size: int) -> float:
    """Median seconds of one optimiser step of a plain VAE of this model, on this machine."""
    device = environment.device()
    vae = build(spec.model, dataset.shape, spec.protocol.teacher.classes, seed=0).to(device)
    optimiser = torch.optim.Adam(vae.parameters(), fused=True)
    loss, noise = chain_loss(spec.model, Unaligned(), 0.0), torch.Generator(device).manual_seed(0)
    seconds = []
    batches = itertools.cycle(Batches(dataset, "train", None, batch_size, device).shuffled(0))
    for batch in itertools.islice(batches, PROBE_STEPS):
        began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        total = loss(vae, batch, noise, 0.0).total
        total.backward()
        optimiser.step()
        float(total)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))
