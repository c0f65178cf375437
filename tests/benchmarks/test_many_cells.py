"""Trivial cells through real Ray on 64 logical slots: that none is lost, and what the driver's memory does meanwhile.

CERTVAE_CELLS=10000 python -m pytest -m slow tests/benchmarks/test_many_cells.py -s       two thousand when absent
"""

import os
import time
from dataclasses import replace

import psutil
import pytest

from certvae.cluster.slots import Place, Slots
from certvae.engine import executor  # before Ray itself: it settles what Ray reads when it is imported
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed, Listener, undivided
from certvae.spec.cell import CellSpec
from tests.benchmarks.test_sweep_speed import trivial

CELLS = int(os.environ.get("CERTVAE_CELLS", "2000"))
SLOTS = Slots(64, cpus=0.03, gpus=0.0, on="logical")
PARTS = 10


class Memory(Listener):
    """The driver's resident memory and processor time whenever a tenth of the cells has ended."""

    def __init__(self) -> None:
        self.done = 0
        self.points: list[tuple[int, float, float, float]] = []
        self._process = psutil.Process()

    def over(self, cell: Cell, ended: Ended) -> None:
        assert ended.kind == "ok", ended
        self.done += 1
        if self.done % (CELLS // PARTS) == 0:
            spent = self._process.cpu_times()
            memory = self._process.memory_info().rss / 2**20
            self.points.append((self.done, time.monotonic(), spent.user + spent.system, memory))


@pytest.mark.slow
def test_memory_of_the_driver_and_no_cell_is_lost(tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("m")
    base, memory = CellSpec(study="trivial"), Memory()
    source = Listed([Cell(replace(base, seed=seed)) for seed in range(CELLS)])
    hub = Dispatcher(source, lambda spec, only: {}, undivided, (memory,))  # noqa: ARG005 - nothing is shared here
    executor.run(hub, Place(str(folder), None, str(folder)), SLOTS, work=trivial)
    first, last = memory.points[0], memory.points[-1]
    kilobytes = 1024 * (last[3] - first[3]) / (last[0] - first[0])
    with capsys.disabled():
        for ended, at, spent, megabytes in memory.points:
            print(
                f"\n{ended:6d} cells, {at - first[1]:6.0f} s, driver {spent:5.0f} s of processor, {megabytes:.0f} MiB",
                end="",
            )
        print(f"\n{kilobytes:.1f} kB a cell")
    assert memory.done == CELLS
    assert kilobytes < 1000
