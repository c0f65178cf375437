"""Which cell next: a plain object that a scheduler asks and tells. It knows cells and steps, not Ray.

A cell is held back while a running cell is about to compute the step that it would begin with, so nobody holds a slot
to wait for a key. It is let go when that step has been published, or when the running cell has ended.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from certvae.data.dataset import Split
from certvae.engine.early_stop import StopRule
from certvae.spec.cell import CellSpec

Kind = Literal["ok", "censored", "out_of_memory", "timeout", "killed", "error"]
Steps = tuple[str, ...]
"""What a cell does, in order."""
Shared = Mapping[str, str]
"""A step whose result other cells may need too -> digest of all that it reads."""


@dataclass(frozen=True)
class Cell:
    """One chain for one slot."""

    spec: CellSpec
    splits: tuple[Split, ...] = ("guard", "certify")
    """It is judged on these; certify is there for a config that may open it."""
    only: tuple[str, ...] = ()
    """The modes that are wanted of it; all of them when empty."""
    looks: int = 1
    """Configs of the run: the bounds in its rows use delta / looks; tables show them at the looks of all studies."""
    alone: bool = False
    """It ran out of memory beside others, and now gets a device for itself."""
    stop: StopRule | None = None
    """A search may censor it halfway."""


@dataclass(frozen=True)
class Ended:
    """How a cell ended. A censored one was hopeless: a decision of the search, which remembers it.

    Anything else but ok is a failure of this invocation: logged, never stored, tried again next.
    """

    kind: Kind
    reason: str = ""
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return self.kind not in ("ok", "censored")


class Source(Protocol):
    """Where cells come from."""

    def more(self) -> Iterable[Cell] | None:
        """Cells to add now; none only while a cell that runs must be heard first, None when no more will come."""
        ...

    def heard(self, cell: Cell, ended: Ended) -> None:
        """A cell has ended."""
        ...


class Listed:
    """A source whose cells are known before the first one starts."""

    def __init__(self, cells: Iterable[Cell]):
        self._cells: list[Cell] | None = list(cells)

    def more(self) -> Iterable[Cell] | None:
        cells, self._cells = self._cells, None
        return cells

    def heard(self, cell: Cell, ended: Ended) -> None:
        """A list does not listen."""


class Listener:
    """Hears what happens to cells while they run. This one does nothing."""

    def started(self, token: str, cell: Cell) -> None:
        """A cell got a slot."""

    def heard(self, token: str, cell: Cell, event: Mapping[str, Any]) -> None:
        """A running cell said how far it is."""

    def ended(self, token: str, cell: Cell, ended: Ended) -> None:
        """A cell gave its slot back."""


@dataclass
class _Running:
    cell: Cell
    computing: dict[str, str] = field(default_factory=dict)
    """Shared steps that this cell has not passed yet."""


class Dispatcher:
    """Hands out cells by token and hears how they fare."""

    def __init__(
        self,
        source: Source,
        shared: Callable[[CellSpec, tuple[str, ...]], Shared],
        steps: Callable[[CellSpec, tuple[str, ...]], Steps],
    ):
        self._source, self._shared, self._steps = source, shared, steps
        self._waiting: list[tuple[Cell, Shared]] = []
        self._running: dict[str, _Running] = {}
        self._computing: Counter[str] = Counter()
        self._published: set[str] = set()
        self._open = True

    @property
    def finished(self) -> bool:
        """Nothing runs, nothing waits, and nothing more will come."""
        self._refill()
        return not (self._open or self._waiting or self._running)

    def next(self, token: str) -> Cell | None:
        """The first cell that waits for no one, or None when there is none now."""
        self._refill()
        for position, (cell, shared) in enumerate(self._waiting):
            missing = {step: key for step, key in shared.items() if key not in self._published}
            if not self._is_computed(cell, missing):
                del self._waiting[position]
                self._running[token] = _Running(cell, missing)
                self._computing.update(missing.values())
                return cell
        return None

    def _is_computed(self, cell: Cell, missing: Shared) -> bool:
        """Whether somebody computes what this cell would begin with; what it shares later is there by then."""
        first = next((step for step in self._steps(cell.spec, cell.only) if step in missing), None)
        return first is not None and self._computing[missing[first]] > 0

    def reached(self, token: str, step: str) -> None:
        """A running cell begins this step: all shared ones before it are published."""
        running = self._running[token]
        steps = self._steps(running.cell.spec, running.cell.only)
        for earlier in steps[: steps.index(step)]:
            if (key := running.computing.pop(earlier, None)) is not None:
                self._published.add(key)
                self._computing[key] -= 1

    def over(self, token: str, ended: Ended) -> None:
        """A running cell has ended; out of memory beside others, it waits for a device of its own."""
        running = self._running.pop(token)
        self._computing.subtract(running.computing.values())
        if ended.kind == "ok":
            self._published.update(running.computing.values())
        if ended.kind == "out_of_memory" and not running.cell.alone:
            self._add([replace(running.cell, alone=True)])
        else:
            self._source.heard(running.cell, ended)

    def running(self, token: str) -> Cell:
        """The cell that holds this token's slot."""
        return self._running[token].cell

    def _add(self, cells: Iterable[Cell]) -> None:
        self._waiting += [(cell, self._shared(cell.spec, cell.only)) for cell in cells]

    def _refill(self) -> None:
        while self._open:
            more = self._source.more()
            if more is None:
                self._open = False
                return
            before = len(self._waiting)
            self._add(more)
            if len(self._waiting) == before:
                return
