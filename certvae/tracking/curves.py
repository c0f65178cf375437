"""Curves in MLflow while they grow, and numbers of cells that have ended while others go on.

Training never waits: points are queued, and a thread writes them when it can. What cannot be written stays in the
queue, which is bounded; what does not fit is counted and comes with the next `Ledger.sync`, because the store has it. A
live point is the very point that `sync` logs, so the second one is no news.
"""

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certvae.canonical import finite
from certvae.errors import DiskFault
from certvae.spec.cell import CellSpec
from certvae.store.log import note
from certvae.store.store import Store
from certvae.tracking.evidence import CURVES
from certvae.tracking.runs import OPEN, Run, begun, curve_points

if TYPE_CHECKING:
    from certvae.tracking.client import Shown, Tracker
    from certvae.tracking.ledger import Ledger

WRITE_SECONDS = 3.0  # between two writes; one costs about 20 ms of a core per running cell
LONGEST_PAUSE = 60.0  # between two tries while MLflow is away
ROWS_SECONDS = 20.0  # between two turns that show what has ended
ROWS_SHARE = 0.05  # of the time that these turns may take: a large study waits longer between two
LIMIT = 10_000  # epochs that may wait: some 20 MB

Say = Callable[[str], None]
Heard = tuple[CellSpec, str, dict[str, Any]]
Rows = Sequence[Mapping[str, Any]]


class LiveCurves:
    """Hears of every epoch of every cell; made by `Ledger.live`."""

    def __init__(self, ledger: "Ledger", store: Store, say: Say):
        self._ledger, self._disk, self._say = ledger, store.disk, say
        self._waiting: deque[Heard] = deque()
        self._taken: list[Heard] = []
        self._refused = 0
        self._ended: dict[str, Rows] = {}
        self._over: set[str] = set()
        self._next_rows = time.monotonic() + ROWS_SECONDS
        self._said = False
        self._index: dict[str, Shown] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_until_stopped, name="ledger", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> int:
        """Epochs that MLflow has not got yet."""
        return len(self._waiting) + len(self._taken) + self._refused

    def heard(self, spec: CellSpec, step: str, event: Mapping[str, Any]) -> None:
        """Takes an event of a running cell and returns at once; only the end of an epoch is a point of a curve."""
        if "epoch" not in event or event.get("step"):
            return
        point = {name: finite(value) for name, value in event.items()}
        with contextlib.suppress(DiskFault):  # the journal keeps curves of networks that diverge; no sweep ends for it
            note(self._disk, CURVES, {"cell": spec.cell, "step": step, "point": point})
        if len(self._waiting) + len(self._taken) < LIMIT:
            self._waiting.append((spec, step, point))
        else:
            self._refused += 1

    def ended(self, spec: CellSpec, rows: Rows) -> None:
        """A cell has ended well; returns at once.

        Args:
            rows: all there are of its config, whose means are shown anew.
        """
        self._over.add(spec.cell)
        self._ended[spec.config] = rows

    def close(self, seconds: float = 5.0) -> None:
        """Writes what waits and closes runs that did not end as KILLED, as far as that takes no more than `seconds`."""
        self._stop.set()
        self._thread.join(seconds)

    def _write_until_stopped(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = WRITE_SECONDS if self._write() else min(2 * max(pause, WRITE_SECONDS), LONGEST_PAUSE)
        self._write(last=True)

    def _write(self, last: bool = False) -> bool:
        """Writes all that waits; False when MLflow is away."""
        from certvae.tracking.client import Outage  # noqa: PLC0415  (mlflow: seconds, and they pass in this thread)

        try:
            with self._ledger.writing() as tracker:
                if self._index is None:
                    tracker.kill_open()  # what an earlier driver left RUNNING
                    self._index = tracker.index()
                    self._say(f"Watch the curves: {self._ledger.ui_command}\nthen open {self._ledger.ui_page}")
                self._write_waiting(tracker)
                if last:
                    tracker.kill_open()
                elif self._ended and time.monotonic() >= self._next_rows:
                    self._show_ended(tracker)
        except Outage as outage:
            if not self._said:
                self._said = True
                self._say(f"MLflow is behind by {self.behind} epochs: {outage}. Training goes on; sync catches up.")
            return False
        return True

    def _write_waiting(self, tracker: "Tracker") -> None:
        """One batch per run. A batch that MLflow refuses although it answers is left to `sync`.

        So is a cell that has ended before anything of it was shown: `sync` writes it whole, in one transaction of many.
        """
        from certvae.tracking.client import Outage  # noqa: PLC0415

        while self._waiting:
            self._taken.append(self._waiting.popleft())
        runs: dict[tuple[str, str], list[Heard]] = {}
        for heard in self._taken:
            runs.setdefault((heard[0].cell, heard[1]), []).append(heard)
        if any(f"{OPEN}{cell}/{step}" not in self._known for cell, step in runs):
            self._index = tracker.index()  # an attempt whose answer was lost, or another process, may have made it
        for (cell, step), batch in runs.items():
            if cell in self._over and f"{OPEN}{cell}/{step}" not in self._known:
                continue
            try:
                self._write_run(tracker, batch)
            except Outage:
                self._index = tracker.index()  # raises when MLflow is away: then all of it is tried again
                self._refused += len(batch)
        self._taken.clear()

    def _show_ended(self, tracker: "Tracker") -> None:
        """Gives the runs of ended cells their numbers."""
        began, rows = time.monotonic(), []
        while self._ended:
            rows += self._ended.popitem()[1]
        self._index = self._ledger.complete(tracker, rows)
        now = time.monotonic()
        self._next_rows = now + max(ROWS_SECONDS, (now - began) / ROWS_SHARE)

    def _write_run(self, tracker: "Tracker", batch: list[Heard]) -> None:
        spec, step, last = batch[-1]
        parent, child = begun(spec, step, str(last.get("stage", step)))
        shown = self._find(tracker, parent, child)
        tracker.log(shown.run_id, [point for _, _, epoch in batch for point in curve_points(epoch)])

    def _find(self, tracker: "Tracker", parent: Run, child: Run) -> "Shown":
        """The run of a cell's step, which is RUNNING now."""
        index = self._known
        if child.key not in index:
            config = parent.key.removeprefix(OPEN)
            known = [shown for key, shown in index.items() if key == parent.key or key.startswith(f"{config}/")]
            index[parent.key] = known[0] if known else tracker.begin(parent, None)
            index[child.key] = tracker.begin(child, index[parent.key])
        if index[child.key].status != "RUNNING":
            tracker.resume(index[child.key].run_id)
            index[child.key] = dataclasses.replace(index[child.key], status="RUNNING")
        return index[child.key]

    @property
    def _known(self) -> "dict[str, Shown]":
        """What is in MLflow, by key, as of the last look."""
        return {} if self._index is None else self._index
