"""Decides which lane runs next: a plain object that a scheduler asks and tells. It knows cells and steps, not Ray.

A cell is run in lanes: parts of its modes, each on a slot of its own as soon as what they share is published. A lane is
a cell with only these modes, and the source hears of the cell when its last lane has ended.

A lane is held back while a running one is about to compute the step that it would begin with, so nobody holds a slot
to wait for a key. It is let go when that step has been published, or when the running lane has ended. Each is looked at
once per key that it waits for, so an ask takes as long whether ten lanes wait or a hundred thousand. A million cells
may wait for ten warm-ups, and to know that takes the keys of each: while `AHEAD` lanes are held back no more are looked
at.
"""

import heapq
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from certvae.data.dataset import Split
from certvae.engine.early_stop import StopRule
from certvae.spec.cell import CellSpec

AHEAD = 10_000
"""Lanes held back at once. A study lists the seeds of a config together: fewer than these all get a slot at once."""
Kind = Literal["ok", "censored", "out_of_memory", "timeout", "killed", "error"]
Only = tuple[str, ...]
"""Modes that are wanted of a cell; all of them when empty."""
Shared = Mapping[str, str]
"""A step, in order -> digest of all that it reads: other lanes may need its result too."""


@dataclass(frozen=True)
class Cell:
    """A unit of work: one chain (a config and a seed), or a lane of it (some of its modes)."""

    spec: CellSpec
    splits: tuple[Split, ...] = ("guard", "certify")
    """It is judged on these; certify is there for a config that may open it."""
    only: Only = ()
    """The modes that are wanted of it; all of them when empty."""
    looks: int = 1
    """Configs of the run: the bounds in its rows use delta / looks; tables show them at the looks of all studies."""
    alone: bool = False
    """It ran out of memory beside others, and now gets a device for itself."""
    stop: StopRule | None = None
    """A search may censor it halfway."""


@dataclass(frozen=True)
class Ended:
    """How a lane, or a cell, ended. A censored one was stopped by the search, which remembers that it was hopeless.

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
        """A cell has ended: all its lanes have."""
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
    """Hears what happens to cells and their lanes while they run. This one does nothing."""

    def waiting(self, what: str) -> None:
        """No lane can say anything yet, and this is why."""

    def started(self, token: str, lane: Cell) -> None:
        """A lane got a slot."""

    def heard(self, token: str, lane: Cell, event: Mapping[str, Any]) -> None:
        """A running lane said how far it is."""

    def ended(self, token: str, lane: Cell, ended: Ended) -> None:
        """A lane gave its slot back."""

    def over(self, cell: Cell, ended: Ended) -> None:
        """A cell has ended, with the last of its lanes."""

    def stopping(self) -> None:
        """The run is being stopped. It is a handler of a signal that says so: take a note, and wait for nothing."""


@dataclass(eq=False)
class _Whole:
    """A cell whose lanes are under way."""

    cell: Cell
    left: list["_Lane"] = field(default_factory=list)
    """Those that wait."""
    running: int = 0
    ended: list[Ended] = field(default_factory=list)

    @property
    def verdict(self) -> Ended | None:
        """What its lanes amount to, when all have ended: all rows, and the first that was not ok."""
        if self.left or self.running:
            return None
        told = next((ended for ended in self.ended if ended.kind != "ok"), Ended("ok"))
        return replace(told, rows=[row for ended in self.ended for row in ended.rows])


@dataclass(eq=False)
class _Lane:
    cell: Cell
    whole: _Whole
    place: tuple[int, int]
    """Cells in order, and the lanes of each in order."""
    keys: Shared
    missing: dict[str, str] = field(default_factory=dict)
    """Steps that nobody has published yet, in order; once it runs, those that it has not passed."""
    claim: str | None = None
    """A key that it waits to compute alone: until then others leave it to this lane."""

    @property
    def first(self) -> str | None:
        """The key of the step that it begins with, or is about to compute."""
        return next(iter(self.missing.values()), None)


class Dispatcher:
    """Hands out lanes by token and hears how they fare.

    Lanes go out in the order of their cells, and of the longest first. When no more cells wait than lanes run, cells
    are begun before others are finished: else the last of them would be alone at the end.

    Args:
        shared: (spec, modes) -> the steps that these modes need.
        lanes: (spec, modes) -> the modes in parts, the longest first. A cell that may be censored stays whole: one lane
            would publish rows of it while another ends it.
        listeners: hear what happens to lanes and cells.
    """

    def __init__(
        self,
        source: Source,
        shared: Callable[[CellSpec, Only], Shared],
        lanes: Callable[[CellSpec, Only], Sequence[Only]],
        listeners: Sequence[Listener] = (),
    ):
        self._source, self._shared, self._lanes, self._listeners = source, shared, lanes, listeners
        self._cells: deque[Cell] = deque()
        self._begun = self._waiting = 0
        self._ready: list[tuple[tuple[int, int], _Lane]] = []
        self._held: defaultdict[str, list[_Lane]] = defaultdict(list)
        self._running: dict[str, _Lane] = {}
        self._computing: Counter[str] = Counter()
        self._published: set[str] = set()
        self._open = True

    @property
    def finished(self) -> bool:
        """Nothing runs, nothing waits, and nothing more will come."""
        self._refill()
        return not (self._open or self._cells or self._waiting or self._running)

    def next(self, token: str) -> Cell | None:
        """The first lane that waits for no one, or None when there is none now."""
        self._refill()
        while (lane := self._candidate()) is not None:
            if lane in lane.whole.left and not self._hold(lane):
                self._start(token, lane)
                return lane.cell
        return None

    def waiting(self, what: str) -> None:
        """The pool is about something that takes seconds, before any lane can say anything."""
        for listener in self._listeners:
            listener.waiting(what)

    def stopping(self) -> None:
        """The pool is about to stop, whatever waits."""
        for listener in self._listeners:
            listener.stopping()

    def heard(self, token: str, event: Mapping[str, Any]) -> None:
        """A running lane said how far it is; all steps before the one that it begins, `at`, are published."""
        lane = self._running[token]
        if "at" in event:
            self._reached(lane, event["at"])
        for listener in self._listeners:
            listener.heard(token, lane.cell, event)

    def over(self, token: str, ended: Ended) -> None:
        """A running lane has ended.

        Out of memory beside others, it waits for a device of its own. A lane that fails takes those of its cell with it
        that wait for the very step: they would fail alike.
        """
        lane = self._running.pop(token)
        whole, failed_at = lane.whole, lane.first
        whole.running -= 1
        for key in lane.missing.values():
            self._let_go(key, published=ended.kind == "ok")
        for listener in self._listeners:
            listener.ended(token, lane.cell, ended)
        if ended.kind == "out_of_memory" and not lane.cell.alone:
            self._try_alone(lane)
            return
        whole.ended.append(ended)
        for other in [other for other in whole.left if ended.failed and failed_at in other.keys.values()]:
            self._leave(other)
        if (verdict := whole.verdict) is not None:
            self._source.heard(whole.cell, verdict)
            for listener in self._listeners:
                listener.over(whole.cell, verdict)

    def running(self, token: str) -> Cell:
        """The lane that holds this token's slot."""
        return self._running[token].cell

    def _reached(self, lane: _Lane, step: str) -> None:
        for earlier in itertools.takewhile(lambda name: name != step, lane.keys):
            if (key := lane.missing.pop(earlier, None)) is not None:
                self._let_go(key, published=True)

    def _candidate(self) -> _Lane | None:
        is_short = not self._ready and self._waiting < AHEAD
        if self._cells and (is_short or len(self._cells) <= len(self._running)):
            return self._divide(self._cells.popleft())
        return heapq.heappop(self._ready)[1] if self._ready else None

    def _divide(self, cell: Cell) -> _Lane:
        """Makes the lanes of a cell, and returns the first."""
        whole = _Whole(cell)
        parts = (cell.only,) if cell.stop else self._lanes(cell.spec, cell.only)
        for index, only in enumerate(parts):
            place, keys = (self._begun, index), self._shared(cell.spec, only)
            self._wait(_Lane(replace(cell, only=only), whole, place, keys))
        self._begun += 1
        first, *others = whole.left
        self._queue(others)
        return first

    def _wait(self, lane: _Lane) -> None:
        lane.missing = dict(lane.keys)
        lane.whole.left.append(lane)
        self._waiting += 1

    def _queue(self, lanes: Iterable[_Lane]) -> None:
        for lane in lanes:
            heapq.heappush(self._ready, (lane.place, lane))

    def _hold(self, lane: _Lane) -> bool:
        """Puts a lane aside while somebody computes what it would begin with; what it shares later is there by then."""
        lane.missing = {step: key for step, key in lane.missing.items() if key not in self._published}
        key = lane.first
        if key is None or self._computing[key] == (key == lane.claim):
            return False
        self._held[key].append(lane)
        return True

    def _start(self, token: str, lane: _Lane) -> None:
        self._leave(lane)
        self._computing.update(lane.missing.values())
        lane.whole.running += 1
        self._running[token] = lane
        for listener in self._listeners:
            listener.started(token, lane.cell)

    def _leave(self, lane: _Lane) -> None:
        """It waits no longer."""
        lane.whole.left.remove(lane)
        self._waiting -= 1
        if lane.claim is not None:
            self._let_go(lane.claim)
            lane.claim = None

    def _try_alone(self, lane: _Lane) -> None:
        lane.cell, lane.claim = replace(lane.cell, alone=True), lane.first
        if lane.claim is not None:
            self._computing[lane.claim] += 1
        self._wait(lane)
        self._queue([lane])

    def _let_go(self, key: str, *, published: bool = False) -> None:
        """Somebody computes a key no longer: lanes that waited for it are looked at again."""
        self._computing[key] -= 1
        if not self._computing[key]:
            del self._computing[key]
        if published:
            self._published.add(key)
        self._queue(self._held.pop(key, ()))

    def _refill(self) -> None:
        while self._open:
            more = self._source.more()
            if more is None:
                self._open = False
                return
            before = len(self._cells)
            self._cells += more
            if len(self._cells) == before:
                return
