"""What an ask for the next lane costs, and what the order of lanes costs.

Asks are timed on the processor, as a ratio to the same with a hundred cells; keys are made beforehand, so that
the dispatcher is measured and not the graph of a cell. Orders are timed by the clock of a simulated pool.
"""

import itertools
import multiprocessing
import resource
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import pytest

from certvae.engine.dispatch import AHEAD, Cell, Dispatcher, Ended, Listed, Only, Shared
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from tests.simulated_pool import Timed, timed, undivided

ASKS = 2000
SLOTS = 8
OK = Ended("ok")
Keys = Callable[[int], Mapping[str, str]]


def ask_seconds(waiting: int, keys: Keys) -> float:
    """Of one lane that is asked for, reaches its second step and ends, while so many cells wait."""
    cell, numbers = Cell(CellSpec()), itertools.count()
    hub = Dispatcher(Listed([cell] * (waiting + ASKS)), lambda *_: keys(next(numbers)), undivided)
    running = deque(str(slot) for slot in range(SLOTS) if hub.next(str(slot)))
    began = time.process_time()
    for number in range(ASKS):
        hub.heard(running[0], {"at": "second"})
        hub.over(running.popleft(), OK)
        if hub.next(f"then {number}"):
            running.append(f"then {number}")
    return (time.process_time() - began) / ASKS


@pytest.mark.parametrize(
    ("named", "keys"),
    [
        ("cells that share nothing", lambda n: {"first": f"a{n}", "second": f"b{n}"}),
        ("four cells a seed", lambda n: {"first": f"a{n // 4}", "second": f"b{n}"}),
    ],
)
def test_an_ask_costs_the_same_with_a_hundred_thousand_cells_as_with_a_hundred(named, keys, capsys):
    few, many = ask_seconds(100, keys), ask_seconds(100_000, keys)
    with capsys.disabled():
        print(f"\n{named}: {1e6 * many:.0f} us an ask at 100,000 waiting cells, {1e6 * few:.0f} us at 100")
    assert many < 5 * few


def test_of_a_hundred_thousand_cells_that_wait_for_one_step_few_are_looked_at_and_each_once(capsys):
    """One seed, 100,000 weights: some are put aside at the second ask, and let go at once when the step is there."""
    cell, numbers = Cell(CellSpec()), itertools.count()
    cells = 100_000
    hub = Dispatcher(Listed([cell] * cells), lambda *_: {"first": "a", "second": f"b{next(numbers)}"}, undivided)
    hub.next("0")
    began = time.process_time()
    assert all(hub.next(str(slot)) is None for slot in range(1, 1000))
    held = time.process_time() - began
    hub.heard("0", {"at": "second"})
    began = time.process_time()
    assert all(hub.next(str(slot)) for slot in range(1, 1000))
    given = (time.process_time() - began) / 999
    with capsys.disabled():
        print(f"\n{AHEAD} put aside in {1e6 * held / AHEAD:.0f} us a cell, once; then {1e6 * given:.0f} us an ask")
    assert given < 5 * ask_seconds(100, lambda n: {"first": f"a{n}", "second": f"b{n}"})


@pytest.mark.parametrize(
    ("seeds", "bound"), [*((seeds, 1.05) for seeds in (1, 2, 3, 8, 16, 24, 40)), (4, 1.1), (10, 1.15), (5, 1.3)]
)
def test_eight_slots_do_not_idle(seeds, bound, capsys):
    """A mode takes as long as the warm-up, the teacher a sixth of it, judging a tenth.

    The floor is the longest lane, or the work of a slot. Five seeds make twenty pieces as long as a mode after their
    teachers: the third round of eight is half empty in any order.
    """
    seconds = {"teacher": 10.0, "judge": 6.0, "untrained": 0.1}
    cells = [Cell(replace(CellSpec(), seed=seed)) for seed in range(seeds)]
    took = timed(cells, 8, lambda step: seconds.get(step, 60.0))
    with capsys.disabled():
        print(f"\n{seeds} seeds on 8 slots: {took.makespan / took.floor:.3f} times the floor", end="")
    assert took.makespan <= bound * took.floor


SEEDS = 100
SECONDS = {"warm_up": 60.0, "teacher": 10.0, "judge": 6.0}


def parts(spec: CellSpec, only: Only) -> tuple[Only, ...]:
    """Lanes of a cell whose keys come from its number."""
    return ("no_align", "rescue"), ("full",)


def keys_of(spec: CellSpec, only: Only) -> Shared:
    """A hundred warm-ups and teachers between all cells, and modes of its own: keys as long as real ones."""
    start = {step: f"{step}{spec.seed % SEEDS:050}" for step in ("warm_up", "teacher")}
    return start | {mode: f"{mode}{spec.seed:056}" for mode in only}


class Cost(NamedTuple):
    """Of a simulated study, the pool included: us of the processor a lane, and MiB of the process."""

    took: Timed
    microseconds: float
    before: int
    peak: int


def study(cells: int, slots: int) -> Cost:
    """A config at a time, a hundred seeds of each."""
    listed = [Cell(replace(CellSpec(), seed=number)) for number in range(cells)]
    before, began = peak(), time.process_time()
    took = timed(listed, slots, lambda step: SECONDS.get(step, 60.0), keys_of, parts)
    return Cost(took, 1e6 * (time.process_time() - began) / took.lanes, before, peak())


def peak() -> int:
    """The most memory that this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.mark.slow
def test_a_million_cells_on_a_thousand_slots(capsys):
    """All cells of a seed wait for its warm-up at first: those that are looked at meanwhile are bounded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
        few, many = alone.map(study, (10_000, 1_000_000), (1024, 1024))
    cells = [replace(CellSpec(), seed=seed) for seed in range(500)]
    began = time.process_time()
    for spec in cells:
        for lane in chain.lanes(spec):
            chain.shared(spec, lane)
    graph = (time.process_time() - began) / len(cells)
    with capsys.disabled():
        for name, (took, microseconds, before, most) in {"10,000": few, "1,000,000": many}.items():
            ratio = took.makespan / took.floor
            print(
                f"\n{name} cells on 1,024 slots: {ratio:.4f} times the floor, {microseconds:.0f} us a lane, the "
                f"longest ask {took.longest_ask:.2f} s, memory {before} MiB with the cells, {most} at most",
                end="",
            )
        print(f"\nkeys and lanes of a real cell: {1e3 * graph:.2f} ms")
    assert many.took.makespan <= 1.01 * many.took.floor
    assert many.microseconds < 2 * few.microseconds
    assert many.took.longest_ask < 3 * few.took.longest_ask
