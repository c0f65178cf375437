"""Trivial cells through real Ray: that none is lost, and what the driver needs for each meanwhile.

export CERTVAE_CELLS=10000 CERTVAE_SLOTS=64 CERTVAE_CELL_SECONDS=4
python -m pytest -m slow tests/benchmarks/test_many_cells.py -s

A thousand on four slots when absent; 64 workers of these cells, which load no torch, want 9 GB of memory.
"""

import os
import time
from dataclasses import replace

import psutil
import pytest

from certvae.cluster.slots import Place, Slots
from certvae.engine import executor  # before Ray itself: it settles what Ray reads when it is imported
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed, Listener
from certvae.spec.cell import CellSpec
from tests.benchmarks.trivial import trivial
from tests.simulated_pool import undivided

CELLS = int(os.environ.get("CERTVAE_CELLS", "1000"))
SLOTS = Slots(int(os.environ.get("CERTVAE_SLOTS", "4")), cpus=0.5, gpus=0.0, on="logical")
PARTS = 10


class Spent(Listener):
    """Of the driver whenever a tenth of the cells has ended: (cells, seconds, those of the processor, MiB)."""

    def __init__(self) -> None:
        self._process, self._began, self.done = psutil.Process(), time.monotonic(), 0
        self.points: list[tuple[int, float, float, float]] = []
        self._note()

    def over(self, cell: Cell, ended: Ended) -> None:
        assert ended.kind == "ok", ended
        self.done += 1
        if self.done == 1 or self.done % (CELLS // PARTS) == 0:
            self._note()

    def _note(self) -> None:
        spent, memory = self._process.cpu_times(), self._process.memory_info().rss / 2**20
        self.points.append((self.done, time.monotonic() - self._began, spent.user + spent.system, memory))


@pytest.mark.slow
def test_every_cell_ends_and_the_driver_spends_as_much_on_the_last_as_on_the_first(tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("m")
    base, spent = CellSpec(study="trivial"), Spent()
    source = Listed([Cell(replace(base, seed=seed)) for seed in range(CELLS)])
    hub = Dispatcher(source, lambda spec, only: {}, undivided, (spent,))  # noqa: ARG005 - nothing is shared here
    executor.run(hub, Place(str(folder), None, str(folder)), SLOTS, work=trivial)
    _, first, *later = spent.points
    with capsys.disabled():
        for before, now in zip([first, *later], later, strict=False):
            cells, seconds, processor = (b - a for a, b in zip(before[:3], now[:3], strict=True))
            print(
                f"\n{now[0]:6d} cells after {now[1]:5.0f} s, {cells / seconds:5.1f} a second, "
                f"{1e3 * processor / cells:5.1f} ms of the driver's processor each, {now[3]:.0f} MiB",
                end="",
            )
        print(f"\n{1024 * (later[-1][3] - later[0][3]) / (later[-1][0] - later[0][0]):.0f} kB a cell")
    assert spent.done == CELLS
