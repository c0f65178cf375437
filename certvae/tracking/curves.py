"""Shows curves in MLflow while they grow, and the numbers of cells that have ended while others go on.

Training never waits: points are queued, and a thread writes them when it can. What cannot be written stays in the
queue, which is bounded; what does not fit is counted and comes with the next `Ledger.sync`, because the store has it. A
live point is the very point that `sync` logs, so the second one is no news.
"""

import contextlib
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
from certvae.terminal import number_of
from certvae.tracking.evidence import CURVES
from certvae.tracking.runs import Run, begun, cell_key, curve_points

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
    """Takes every epoch of every running cell and writes it to MLflow in a thread; made by `Ledger.live`."""

    def __init__(self, ledger: "Ledger", store: Store, say: Say):
        self._ledger, self._disk, self._say = ledger, store.disk, say
        self._waiting: deque[Heard] = deque()
        self._taken: list[Heard] = []
        self._heard_of: set[str] = set()
        self._begun: deque[tuple[CellSpec, str]] = deque()
        self._starts: list[tuple[CellSpec, str]] = []
        self._refused = 0
        self._ended: dict[str, tuple[Rows, Rows]] = {}
        self._over: set[str] = set()
        self._next_rows = time.monotonic() + ROWS_SECONDS
        self._said = False
        self._there: dict[str, Shown] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_until_stopped, name="ledger", daemon=True)

    @property
    def behind(self) -> int:
        """Epochs that MLflow has not got yet."""
        return len(self._waiting) + len(self._taken) + self._refused

    def heard(self, spec: CellSpec, step: str, event: Mapping[str, Any]) -> None:
        """Takes an event of a running cell and returns at once; the first one of all starts the writing.

        The first event of a step that trains makes its run; the end of an epoch is a point of its curve.
        """
        if self._thread.ident is None:
            self._thread.start()
        if "epoch" not in event:
            return
        if cell_key(spec.cell, step) not in self._heard_of:
            self._heard_of.add(cell_key(spec.cell, step))
            self._begun.append((spec, step))
        if event.get("step"):
            return
        point = {name: finite(value) for name, value in event.items()}
        with contextlib.suppress(DiskFault):  # the log keeps curves of networks that diverge; no sweep ends for it
            note(self._disk, CURVES, {"cell": spec.cell, "step": step, "point": point})
        if len(self._waiting) + len(self._taken) < LIMIT:
            self._waiting.append((spec, step, point))
        else:
            self._refused += 1

    def ended(self, spec: CellSpec, rows: Rows, beside: Rows) -> None:
        """A cell has ended well; returns at once.

        Args:
            rows: all there are of its config, whose means are shown anew.
            beside: those of its config that are not shown, and claim too.
        """
        self._over.add(spec.cell)
        self._ended[spec.config] = rows, beside

    def close(self, seconds: float = 5.0) -> None:
        """Writes what waits and closes runs that did not end as KILLED, as far as that takes no more than `seconds`."""
        self._stop.set()
        if self._thread.ident is not None:
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
                if self._there is None:
                    self._there = self._closed(tracker, tracker.read())  # what an earlier driver left RUNNING
                    self._say(f"Watch the curves: {self._ledger.ui_command}\nthen open {self._ledger.ui_page}")
                self._write_waiting(tracker, self._there)
                if last:
                    self._closed(tracker, tracker.read())
                elif self._ended and time.monotonic() >= self._next_rows:
                    self._show_ended(tracker, self._there)
        except Outage as outage:
            if not self._said:
                self._said = True
                behind = number_of(self.behind, "epoch")
                self._say(f"MLflow is behind by {behind}: {outage}. Training goes on; sync catches up.")
            return False
        return True

    @staticmethod
    def _closed(tracker: "Tracker", there: "dict[str, Shown]") -> "dict[str, Shown]":
        """All runs, of which none is RUNNING any more."""
        left = [key for key, shown in there.items() if shown.status == "RUNNING"]
        return there | {key: tracker.mark(there[key], "KILLED") for key in left}

    def _write_waiting(self, tracker: "Tracker", there: "dict[str, Shown]") -> None:
        """One batch per run. A batch that MLflow refuses although it answers is left to `sync`.

        So is a cell that has ended before anything of it was shown: `sync` writes it whole.
        """
        from certvae.tracking.client import Outage  # noqa: PLC0415

        for key, (spec, step, epochs) in self._take().items():
            if spec.cell in self._over and key not in there:
                continue
            try:
                shown = self._find(tracker, there, *begun(spec, step))
                if shown.status == "RUNNING":  # else it shows a network that was trained before, and may be again
                    tracker.log(shown, [point for epoch in epochs for point in curve_points(epoch)])
            except Outage:
                found = tracker.read()  # raises when MLflow is away: then all of it is tried again
                there.clear()
                there.update(found)
                self._refused += len(epochs)
        self._taken.clear()
        self._starts.clear()

    def _take(self) -> dict[str, tuple[CellSpec, str, list[dict[str, Any]]]]:
        """What waits, by run: steps that began, and epochs that ended."""
        while self._begun:
            self._starts.append(self._begun.popleft())
        while self._waiting:
            self._taken.append(self._waiting.popleft())
        runs = {cell_key(spec.cell, step): (spec, step, []) for spec, step in self._starts}
        for spec, step, epoch in self._taken:
            runs.setdefault(cell_key(spec.cell, step), (spec, step, []))[2].append(epoch)
        return runs

    def _show_ended(self, tracker: "Tracker", there: "dict[str, Shown]") -> None:
        """Gives the runs of ended cells their numbers."""
        began, rows, beside = time.monotonic(), [], []
        while self._ended:
            _, (ours, others) = self._ended.popitem()
            rows += ours
            beside += others
        self._ledger.complete(tracker, there, rows, beside)
        now = time.monotonic()
        self._next_rows = now + max(ROWS_SECONDS, (now - began) / ROWS_SHARE)

    @staticmethod
    def _find(tracker: "Tracker", there: "dict[str, Shown]", parent: Run, child: Run) -> "Shown":
        """The run of a cell's step, which is RUNNING now unless it has ended well."""
        for run, above in ((parent, None), (child, parent.key)):
            if run.key not in there:  # an attempt whose answer was lost, or another process, may have made it
                there[run.key] = tracker.find(run.key) or tracker.begin(run, there[above] if above else None)
        if there[child.key].status == "KILLED":
            there[child.key] = tracker.mark(there[child.key], "RUNNING")
        return there[child.key]
