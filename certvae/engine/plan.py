"""Before a run: what it will compute, what cells share, and how long that may take."""

import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from certvae import fingerprint
from certvae.canonical import plain
from certvae.cluster.slots import Slots
from certvae.data.dataset import SPLITS, Dataset
from certvae.data.undecoded import Undecoded
from certvae.engine.dispatch import Cell
from certvae.engine.progress import clock, listing
from certvae.errors import DiskFault
from certvae.protocols import chain, forecasting
from certvae.protocols.forecasting import Pressure
from certvae.protocols.steps import Step
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Training
from certvae.spec.rescue import Unaligned
from certvae.store.artifact import ARTIFACT, Artifact
from certvae.store.store import Store
from certvae.terminal import number_of

UNMEASURED = 0.3  # half width of the range of an estimate that rests on a probe
SPARE_DISK = 1.2
MOST_WEIGHTS = 2**30
"""Bytes of one network that are more than anybody's here: where so many fit, nobody counts parameters."""
PROBE_STEPS = 8
DAY = 86_400.0
PROBED = 10**7
"""Image passes of a slot, which take 100 s to a day: a run with fewer is not worth a probe before it starts."""


@dataclass(frozen=True)
class Work:
    """One step of all cells.

    runs    distinct results that are missing;  stored  distinct ones that are there;  asked  what no sharing would run
    """

    step: str
    stage: str
    runs: int
    stored: int
    asked: int


@dataclass(frozen=True)
class Time:
    """Seconds of one run of a step: low, middle and high, or None while nothing is known."""

    seconds: tuple[float, float, float] | None
    known: str


def overview(base: CellSpec, dataset: Dataset, cells: int, left: int, slots: Slots) -> str:
    """Study, data and number of cells of a run, in three lines."""
    splits = ", ".join(f"{len(dataset.rows(split)):,} {split}" for split in SPLITS)
    shape = " x ".join(map(str, dataset.shape))
    shown = f" ({dataset.substitute})" if dataset.substitute else ""
    seen = f"\n  {dataset}" if isinstance(dataset, Undecoded) else ""
    return (
        f"{base.study}, base config {base.config[:12]}\n"
        f"{dataset.name}{shown}: {splits} rows of {shape}, K = {base.protocol.teacher.classes}{seen}\n"
        f"{number_of(cells, 'cell')}, {cells - left} done before, {left} to run on {number_of(slots.count, 'slot')}: "
        f"{slots.on}"
    )


def forecast(specs: Sequence[CellSpec], dataset: Dataset, store: Store) -> str | None:
    """Where the KL weights of these cells lie by the spectrum of the data, in one line; None where nothing is forecast.

    The plain mode is meant, by the model of the first cell, and its teacher is not known yet: what a decoder sees of
    one brings its end nearer.
    """
    configs = {spec.config: spec for spec in specs}
    found = {spec: _plain_pressure(spec) for spec in configs.values()}
    weights = sorted({pressure.alpha_kl for pressure in found.values() if pressure is not None})
    if not weights:
        return None
    if not (dataset.is_decoded and store.is_made):
        return "forecast without alignment: not known without pixels; --plan --decode reads them into the store, once"
    spec, pressure = next((spec, one) for spec, one in found.items() if one is not None)
    expected = forecasting.ahead(_spectrum(spec, dataset, store), pressure, None)
    said = expected.words(weights[0]) if len(weights) == 1 else expected.across(weights)
    sooner = "; sooner, because the decoder sees the teacher" * pressure.decoder_sees_teacher
    return f"forecast without alignment: {said}{sooner}"


def _plain_pressure(spec: CellSpec) -> Pressure | None:
    """Of the first mode of a cell that is not aligned."""
    found = (chain.of(spec).pressure(mode) for mode in chain.modes(spec))
    return next((one for one in found if one is not None and not one.lambda_ts), None)


def _spectrum(spec: CellSpec, dataset: Dataset, store: Store) -> Artifact:
    """Looked for first: what is there needs no torch, whose threads a stage computes with."""
    given = (forecasting.spectrum, dataset, spec.model.likelihood, spec.model.latent)
    if (found := store.find(*given)) is not None:
        return found
    from certvae.training import environment  # noqa: PLC0415

    environment.settle()
    return store.call(*given)


@dataclass(frozen=True)
class Ahead:
    """What a run has before it: these cells, as far as the store does not hold their stages, on these slots."""

    cells: Sequence[Cell]
    dataset: Dataset
    store: Store
    slots: Slots

    @cached_property
    def works(self) -> list[Work]:
        """The steps of all cells, in the order of a chain; the judging of a cell is never shared."""
        if not self.cells:
            return []
        found = [chain.found(cell.spec, cell.only, self.dataset, self.store) for cell in self.cells]
        walks = [{step.name: (step.stage.name, at) for step, at in steps.items()} for steps in found]
        works = []
        for name in chain.steps(self.cells[0].spec):
            met = [walk[name] for walk in walks if name in walk]
            missing = {at.key for _, at in met if isinstance(at, Step)}
            stored = {at.key for _, at in met if isinstance(at, Artifact)}
            if met:
                works.append(Work(name, met[0][0], len(missing), len(stored), len(met)))
        return [*works, Work("judge", "judge", len(self.cells), 0, len(self.cells))]

    @cached_property
    def times(self) -> dict[str, Time]:
        """Step -> seconds of one run: as this store has seen it, else as a probe of training says."""
        cell = self.cells[0]
        probe = _Probe(cell.spec, self.dataset)
        judging = [name for split in cell.splits for name in chain.judging_stages(cell.spec, split, cell.only)]
        stages = {work.step: judging if work.step == "judge" else [work.stage] for work in self.works}
        schedules = chain.schedules(cell.spec)
        return {
            step: _seen(names, self.store, _alike(cell.spec, schedules.get(step), self.dataset)) or probe.time(step)
            for step, names in stages.items()
        }

    def estimate(self, price: float | None = None) -> Group:
        """Steps, how often each runs and would run without sharing, time, makespan on this pool, and disk.

        Args:
            price: of an hour of a GPU, or of a core where there is none, in any currency.
        """
        if not self.cells:
            return Group("nothing is left to run")
        unknown = [work.step for work in self.works if work.runs and self.times[work.step].seconds is None]
        beside = f", and {_listed(unknown)} beside it (never timed on this store)" if unknown else ""
        low, middle, high = self._makespans()
        hours = [sum(_totals(self.works, self.times, bound)) / 3600 * (self.slots.gpus or 1.0) for bound in range(3)]
        on = number_of(self.slots.count, "slot")
        unit = "GPU-hours" if self.slots.gpus else "core-hours"
        low_cost, cost, high_cost = ((price or 0.0) * one for one in hours)
        paid = "" if price is None else f", {cost:,.2f} ({low_cost:,.2f} to {high_cost:,.2f}) at {price:g} each"
        pixels = self._to_decode / 2**20
        images = f", {pixels:,.0f} of them images" if pixels >= 1 else ""
        return Group(
            _table(self.works, self.times),
            f"makespan on {on}: {clock(middle)} ({clock(low)} to {clock(high)}){beside}",
            f"{hours[1]:.2f} {unit} ({hours[0]:.2f} to {hours[2]:.2f}){paid}",
            f"disk: about {self.disk_needed / 2**20:,.0f} MiB{images}",
        )

    def warning(self) -> str | None:
        """What to say before a start that takes more than a day; None where it does not, or where nobody can tell.

        Only a run that might be so long pays for a probe: one with many passes over many rows.
        """
        if not self.cells or self._image_passes / self.slots.count < PROBED:
            return None
        low, middle, high = self._makespans()
        if middle <= DAY:
            return None
        return (
            f"this takes about {middle / DAY:.1f} days ({low / DAY:.1f} to {high / DAY:.1f}) on "
            f"{number_of(self.slots.count, 'slot')}. Fewer rows (--limit), epochs (--training.epochs, "
            "--warm-up.training.epochs) or --seeds are other studies, and shorter; what is done is kept if you stop"
        )

    def check_disk(self) -> None:
        """Refuses to start what would not fit.

        Raises:
            DiskFault: when less is free than 1.2 times the estimate.
        """
        if not self.cells:
            return
        place = self.store.path
        free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
        if free > SPARE_DISK * self._disk(MOST_WEIGHTS) or free >= SPARE_DISK * self.disk_needed:
            return
        raise DiskFault(
            f"{free / 2**30:.1f} GiB are free, about {SPARE_DISK * self.disk_needed / 2**30:.1f} GiB are needed",
            "free space, or give another --store",
            where=str(place),
            cause=f"weights and cached teacher rows of {number_of(len(self.cells), 'cell')} stay behind",
        )

    @cached_property
    def disk_needed(self) -> int:
        """Bytes of images, weights and cached teacher rows that are to come, the large part of what a run leaves."""
        from certvae.models.nets import build  # noqa: PLC0415  (torch: a second, and no start waits for it)

        spec = self.cells[0].spec
        network = build(spec.model, self.dataset.shape, spec.protocol.teacher.classes, seed=0)
        return self._disk(4 * sum(parameter.numel() for parameter in network.parameters()))

    def _disk(self, weights: int) -> int:
        """Bytes that are to come when one network takes `weights` bytes."""
        rows = len(self.dataset.rows("train")) + len(self.dataset.rows("guard"))
        targets = 4 * self.cells[0].spec.protocol.teacher.classes * rows
        runs = {work.step: work.runs for work in self.works if work.step != "judge"}
        return self._to_decode + targets * runs.pop("teacher", 0) + weights * sum(runs.values())

    @property
    def _to_decode(self) -> int:
        """Bytes of images that a run writes first."""
        return self.dataset.decoded if isinstance(self.dataset, Undecoded) else 0

    @property
    def _image_passes(self) -> int:
        schedules = chain.schedules(self.cells[0].spec)
        epochs = sum(work.runs * schedules[work.step].epochs for work in self.works if work.step in schedules)
        return epochs * len(self.dataset.rows("train"))

    def _makespans(self) -> tuple[float, float, float]:
        """Low, middle and high."""
        cell = self.cells[0]
        way = _way(cell, chain.lanes(cell.spec, cell.only)[0])
        low, middle, high = (makespan(self.works, self.times, self.slots.count, way, bound) for bound in range(3))
        return low, middle, high


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _table(works: Sequence[Work], times: Mapping[str, Time]) -> Table:
    numbers = ("to run", "in store", "without sharing", "each", "total")
    table = listing("step", *numbers, "known from", right=numbers, title="plan")
    for work in works:
        time_ = times[work.step]
        clocks = ("?", "?") if time_.seconds is None else (clock(time_.seconds[1]), clock(time_.seconds[1] * work.runs))
        table.add_row(work.step, str(work.runs), str(work.stored), str(work.asked), *clocks, time_.known)
    return table


def _alike(spec: CellSpec, schedule: Training | None, dataset: Dataset) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an execution with some inputs took the time that one of this cell will: of the same data, network and
    teacher search, and as many passes in batches of one size."""
    wanted = {"dataset": dataset.identity(), "model": plain(spec.model), "teacher": plain(spec.protocol.teacher)}
    trained = None if schedule is None else _passes(plain(schedule))

    def alike(inputs: Mapping[str, Any]) -> bool:
        found = {name: _branch(inputs, name) or {} for name in wanted}
        same = all(one == wanted[name] for name, one in found.items() if one and ARTIFACT not in one)
        return same and trained in (None, _passes(_branch(inputs, "training") or {}))

    return alike


def _passes(schedule: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(schedule.get(name) for name in ("epochs", "batch_size", "precision"))


def _branch(tree: Mapping[str, Any], name: str) -> Any:
    """What a tree, or the first branch that has one, holds by this name."""
    if name in tree:
        return tree[name]
    below = (_branch(one, name) for one in tree.values() if isinstance(one, Mapping))
    return next((found for found in below if found is not None), None)


def _seen(stages: Sequence[str], store: Store, alike: Callable[[Mapping[str, Any]], bool]) -> Time | None:
    """Stages one after the other, as the store has seen each; None when it has seen none like one of them."""
    seen = {name: store.seconds(name, alike) for name in set(stages)}
    if not all(seen.values()):
        return None
    low, middle, high = (sum(float(bound(seen[name])) for name in stages) for bound in (np.min, np.median, np.max))
    return Time((low, middle, high), f"{number_of(min(map(len, seen.values())), 'run')} in this store")


def makespan(
    works: Sequence[Work], times: Mapping[str, Time], slots: int, way: Mapping[str, float], bound: int
) -> float:
    """Seconds on so many slots: all work spread over them, but never less than the longest lane of what is missing.

    Args:
        way: step of that lane -> the share of it that the lane does.
        bound: 0, 1 or 2 for the low, middle and high estimate of each step.
    """
    lane = sum(
        way.get(work.step, 0.0) * time_[bound]
        for work in works
        if work.runs and (time_ := times[work.step].seconds) is not None
    )
    return max(lane, sum(_totals(works, times, bound)) / slots)


def _way(cell: Cell, lane: chain.Only) -> dict[str, float]:
    """The steps of a lane: each of them whole, but only some of the networks of a cell are judged there."""
    judged = len(chain.modes(cell.spec, lane)) / len(chain.modes(cell.spec, cell.only))
    return {**dict.fromkeys(chain.steps(cell.spec, lane), 1.0), "judge": judged}


def _totals(works: Sequence[Work], times: Mapping[str, Time], bound: int) -> list[float]:
    """Seconds of all runs of each step; nothing for a step that was never timed."""
    return [time_[bound] * work.runs for work in works if (time_ := times[work.step].seconds) is not None]


class _Probe:
    """Seconds per step of a chain from a few optimiser steps, where the store has not seen any."""

    def __init__(self, spec: CellSpec, dataset: Dataset):
        self._spec, self._dataset = spec, dataset
        self._seconds: float | None = None

    def time(self, step: str) -> Time:
        """The estimate for a step that trains; the time of any other is not known before it ran."""
        schedule = chain.schedules(self._spec).get(step)
        if schedule is None:
            return Time(None, "not known yet")
        batches = max(1, len(self._dataset.rows("train")) // schedule.batch_size)
        middle = self._step_seconds(schedule) * batches * schedule.epochs
        range_ = (middle * (1 - UNMEASURED), middle, middle * (1 + UNMEASURED))
        return Time(range_, f"a probe of {PROBE_STEPS} steps")

    def _step_seconds(self, schedule: Training) -> float:
        if self._seconds is None:
            self._seconds = probe_step_seconds(self._spec, self._dataset, schedule)
        return self._seconds


def probe_step_seconds(spec: CellSpec, dataset: Dataset, schedule: Training) -> float:
    """Median seconds of one optimiser step of a plain VAE of this model, as this machine trains it.

    A run may follow whose workers want the memory of a GPU, so nothing of the probe stays there.
    """
    from certvae.training import environment  # noqa: PLC0415
    from certvae.training.batches import forget_uploads  # noqa: PLC0415

    environment.settle()
    try:
        return float(np.median(_timed_steps(spec, dataset, schedule, fingerprint.device())))
    finally:
        forget_uploads()


def _timed_steps(spec: CellSpec, dataset: Dataset, schedule: Training, device: str) -> list[float]:
    """Seconds of steps, those left out before one is recorded as a CUDA graph, and that one."""
    from certvae.models.nets import build  # noqa: PLC0415
    from certvae.training.batches import Batches  # noqa: PLC0415
    from certvae.training.loop import Steering, steps_of  # noqa: PLC0415
    from certvae.training.losses import chain_loss  # noqa: PLC0415
    from certvae.training.recorded import BEFORE, Recorded  # noqa: PLC0415

    vae = build(spec.model, dataset.shape, spec.protocol.teacher.classes, seed=0).to(device).train()
    batches = Batches(dataset, "train", None, schedule.batch_size, device)
    _, step = steps_of(vae, chain_loss(spec.model, Unaligned(), 0.0), batches, schedule, Steering())
    untimed = BEFORE + 1 if isinstance(step, Recorded) else 0
    passes = itertools.chain.from_iterable(map(batches.order, itertools.count()))
    seconds = []
    for rows in itertools.islice(passes, untimed + PROBE_STEPS):
        began = time.perf_counter()
        float(step(0, rows, 0.0)[0])
        seconds.append(time.perf_counter() - began)
    return seconds[untimed:]
