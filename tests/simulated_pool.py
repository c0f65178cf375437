"""A pool without Ray or training: cells end in an order that a generator draws, with rows that a formula gives.

It drives the same dispatcher and the same search as the real pool, so replay can be tested for thousands of cells.
"""

import contextlib
import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from certvae.canonical import stage_seed
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed, Listener, Only, Shared, Source
from certvae.engine.early_stop import Censor, Censored
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.store.artifact import Content
from certvae.store.store import Store, Workbench, stage

Result = TypeVar("Result")


class _Count(Listener):
    """How many cells have ended."""

    ended_cells = 0

    def over(self, cell: Cell, ended: Ended) -> None:
        self.ended_cells += 1


class Killed(Exception):
    """The driver died here."""


def rows_of(cell: Cell) -> list[dict]:
    """Guard rows of a cell: the margin grows with lambda_ts, PSNR falls with it, seeds differ a little."""
    spec = cell.spec
    goal = spec.protocol.objective  # pyright: ignore[reportAttributeAccessIssue]
    noise = np.random.default_rng(stage_seed(spec.seed, "noise")).normal(0, 0.01)
    margin = math.tanh(goal.lambda_ts / 5) - 0.1 * math.log(goal.alpha_kl) ** 2 + noise
    psnr = 20 - 0.8 * math.log1p(goal.lambda_ts) - 0.3 * goal.alpha_kl
    named = {"study": spec.study, "cell": spec.cell, "config": spec.config, "seed": spec.seed, "outcome": "ok"}
    named["data"] = spec.data.name
    facts = {"teacher_status": "strict-feasible", "reason": "", "n": 100}
    numbers = dict.fromkeys(chain.modes(spec), (margin, psnr)) | {"no_align": (-0.1, 20 - 0.3 * goal.alpha_kl)}
    return [
        {**named, **facts, "mode": mode, "split": split, "margin": value, "psnr_01": quality}
        for split in cell.splits
        for mode, (value, quality) in numbers.items()
        if not cell.only or mode in cell.only
    ]


@stage(version=1)
def simulated_curve(margin: float, psnr: float, epochs: int, noise: float, *, bench: Workbench) -> Content:
    """A curve that ends near its row: halfway it still lacks a little, more or less."""
    points = [
        {"epoch": epoch, "guard_margin": margin - lack, "guard_psnr_01": psnr - lack}
        for epoch in range(5, epochs + 1, 5)
        for lack in (noise * (1 - epoch / epochs),)
    ]
    return Content({}, {"curve": points})


def watched(cell: Cell, store: Store) -> Ended:
    """Rows that point at stored curves, unless the rule of the cell ends it on the way."""
    watch, rows = Censor(cell.stop), rows_of(cell)
    epochs, seed = cell.spec.training.epochs, stage_seed(cell.spec.seed, "order")
    for row in sorted(rows, key=lambda row: row["mode"] != "no_align"):
        lack = 0.0 if row["mode"] == "no_align" else float(np.random.default_rng(seed).uniform(0, 0.05))
        curve = store.call(simulated_curve, row["margin"], row["psnr_01"], epochs, lack)
        row["key_trained"] = curve.key
        try:
            watch.published(row["mode"], curve)
        except Censored as stopped:
            return Ended("censored", str(stopped))
    return Ended("ok", rows=rows)


def run(
    source: Source,
    workers: int,
    jitter: int,
    *,
    put: Callable[[dict], object],
    die_after: int | None = None,
    fails: Callable[[CellSpec], bool] | None = None,
    work: Callable[[Cell], Ended] = lambda cell: Ended("ok", rows=rows_of(cell)),
) -> int:
    """Runs until the source is finished; returns how many cells ended.

    Raises:
        Killed: after `die_after` cells have ended, with others still running.
    """
    listener = _Count()
    generator = np.random.default_rng(jitter)
    hub = Dispatcher(source, chain.shared, chain.lanes, (listener,))
    running: list[tuple[float, int, Cell]] = []
    now, token = 0.0, 0
    while not hub.finished:
        while len(running) < workers and (cell := hub.next(str(token))) is not None:
            heapq.heappush(running, (now + generator.exponential() + 0.1, token, cell))
            token += 1
        now, done, cell = heapq.heappop(running)
        for step in chain.steps(cell.spec, cell.only):
            hub.heard(str(done), {"at": step})
        if fails is not None and fails(cell.spec):
            hub.over(str(done), Ended("killed", "a test said so"))
        else:
            found = work(cell)
            for row in found.rows:
                put(row)
            hub.over(str(done), found)
        if die_after is not None and listener.ended_cells >= die_after:
            raise Killed
    return listener.ended_cells


def survived(attempt: Callable[[int], Result]) -> Result:
    """What the first attempt gives whose driver is not killed, of 60."""
    for number in range(60):
        with contextlib.suppress(Killed):
            return attempt(number)
    raise AssertionError("60 runs did not finish it")


def undivided(spec: CellSpec, only: Only) -> Sequence[Only]:
    """All modes of a cell in one lane."""
    return (only,)


@dataclass(frozen=True)
class Timed:
    """How long a pool took: seconds, and the least that any order could take."""

    makespan: float
    floor: float
    """The longest lane, or all work spread over the slots, whichever is longer."""
    lanes: int
    longest_ask: float
    """Of the processor: while it lasts, a driver hears nobody."""


def timed(
    cells: Sequence[Cell],
    slots: int,
    seconds: Callable[[str], float],
    shared: Callable[[CellSpec, Only], Shared] = chain.shared,
    lanes: Callable[[CellSpec, Only], Sequence[Only]] = chain.lanes,
) -> Timed:
    """A pool whose steps take known times: one that is published takes none, and judging takes its time per mode."""
    hub = Dispatcher(Listed(cells), shared, lanes)
    events: list[tuple[float, int]] = []
    walks: dict[int, Iterator[float]] = {}
    published: set[str] = set()
    now, token, work, longest_ask = 0.0, 0, 0.0, 0.0

    def walk(name: str, lane: Cell) -> Iterator[float]:
        for step, key in shared(lane.spec, lane.only).items():
            hub.heard(name, {"at": step})
            if key not in published:
                yield seconds(step)
                published.add(key)
        hub.heard(name, {"at": "judge"})
        yield seconds("judge") * len(lane.only)

    def ask() -> Cell | None:
        nonlocal longest_ask
        began = time.process_time()
        lane = hub.next(str(token))
        longest_ask = max(longest_ask, time.process_time() - began)
        return lane

    while not hub.finished:
        while len(walks) < slots and (lane := ask()) is not None:
            walks[token] = walk(str(token), lane)
            heapq.heappush(events, (now, token))
            token += 1
        now, running = heapq.heappop(events)
        took = next(walks[running], None)
        if took is None:
            del walks[running]
            hub.over(str(running), Ended("ok"))
        else:
            work += took
            heapq.heappush(events, (now + took, running))
    longest = max(
        sum(map(seconds, shared(cell.spec, lane))) + seconds("judge") * len(lane)
        for cell in cells
        for lane in lanes(cell.spec, cell.only)
    )
    return Timed(now, max(longest, work / slots), token, longest_ask)
