"""Which cell next: a plain object that a scheduler asks and tells. It knows cells and stages, not Ray.

A cell is held back while a running cell is about to compute a stage that it would need too, so nobody waits for a key
while holding a slot. It is let go when that stage has been published, or when the running cell has ended.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from certvae.dataset import Split
from certvae.spec import CellSpec

Result = Literal["ok", "failed"]
Steps = tuple[str, ...]
"""What a cell does, in order."""
Shared = Mapping[str, str]
"""A step whose result other cells may need too -> digest of all that it reads."""


@dataclass(frozen=True)
class Cell:
    """One chain for one slot, and the splits it is judged on, each with the looks its bounds are shared by."""

    spec: CellSpec
    splits: tuple[Split, ...] = ("guard", "certify")
    looks: int = 1


class Source(Protocol):
    """Where cells come from."""

    def more(self) -> Iterable[Cell] | None:
        """Cells to add now: none while something must be heard first, None when there will never be more."""
        ...

    def heard(self, cell: Cell, result: Result) -> None:
        """A cell has ended."""
        ...


class Listed:
    """A source whose cells are known before the first one starts."""

    def __init__(self, cells: Iterable[Cell]):
        self._cells: list[Cell] | None = list(cells)

    def more(self) -> Iterable[Cell] | None:
        cells, self._cells = self._cells, None
        return cells

    def heard(self, cell: Cell, result: Result) -> None:
        """A list does not listen."""


@dataclass
class _Running:
    cell: Cell
    computing: dict[str, str] = field(default_factory=dict)
    """Shared steps that this cell has not passed yet."""


class Dispatcher:
    """Hands out cells by token and hears how they fare."""

    def __init__(self, source: Source, shared: Callable[[CellSpec], Shared], steps: Callable[[CellSpec], Steps]):
        self._source, self._shared, self._steps = source, shared, steps
        self._waiting: list[Cell] = []
        self._running: dict[str, _Running] = {}
        self._published: set[str] = set()
        self._open = True
        self.ended: dict[Result, int] = {"ok": 0, "failed": 0}

    @property
    def finished(self) -> bool:
        """Nothing runs, nothing waits, and nothing more will come."""
        self._refill()
        return not (self._open or self._waiting or self._running)

    def next(self, token: str) -> Cell | None:
        """The next cell that waits for no one, or None when there is none now."""
        self._refill()
        for cell in self._waiting:
            missing = {stage: key for stage, key in self._shared(cell.spec).items() if key not in self._published}
            if not self._is_computed_elsewhere(missing):
                self._waiting.remove(cell)
                self._running[token] = _Running(cell, missing)
                return cell
        return None

    def reached(self, token: str, step: str) -> None:
        """A running cell begins this step: all shared ones before it are published."""
        running = self._running.get(token)
        if running is None:
            return
        steps = self._steps(running.cell.spec)
        for earlier in steps[: steps.index(step)]:
            if (key := running.computing.pop(earlier, None)) is not None:
                self._published.add(key)

    def over(self, token: str, result: Result) -> None:
        """A running cell has ended, one way or the other."""
        running = self._running.pop(token)
        if result == "ok":
            self._published.update(running.computing.values())
        self.ended[result] += 1
        self._source.heard(running.cell, result)

    def running(self) -> dict[str, Cell]:
        """Cells that hold a slot now."""
        return {token: running.cell for token, running in self._running.items()}

    def _is_computed_elsewhere(self, missing: Shared) -> bool:
        return any(key in missing.values() for other in self._running.values() for key in other.computing.values())

    def _refill(self) -> None:
        while self._open:
            more = self._source.more()
            if more is None:
                self._open = False
                return
            added = list(more)
            if not added:
                return
            self._waiting += added
