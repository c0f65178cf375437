"""What a user watches: one line per running lane of a cell, one for the whole, in a terminal or in a log file."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from certvae.engine.dispatch import Cell, Ended, Listener

LOG_SECONDS = 15.0  # between two lines about one cell, where there is no terminal
LOG_WIDTH = 120
PIPE_WIDTH = 100  # where there is no terminal to fit


def console() -> Console:
    """The terminal of this process, or what takes its place in a pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPE_WIDTH)


@dataclass
class _Line:
    """One running lane."""

    cell: Cell
    at: str = "starting"
    at_began: float = field(default_factory=time.monotonic)
    event: dict[str, Any] = field(default_factory=dict)
    logged: float = 0.0

    def heard(self, event: Mapping[str, Any]) -> None:
        if "at" in event:
            self.at, self.at_began, self.event = event["at"], time.monotonic(), {}
        else:
            self.event = dict(event)

    @property
    def share(self) -> float | None:
        """How much of the stage is done, 0 to 1; None while that is unknown."""
        event = self.event
        if "epochs" in event:
            epochs = event["epoch"] + (event["step"] / event["steps"] if event["step"] else 0)
            return min(1.0, epochs / event["epochs"])
        return event["step"] / event["steps"] if "steps" in event else None

    @property
    def where(self) -> str:
        if "epochs" in self.event:
            return f"epoch {self.event['epoch']}/{self.event['epochs']}"
        return f"fit {self.event['step']}/{self.event['steps']}" if "steps" in self.event else ""

    @property
    def numbers(self) -> str:
        names = (("loss", "loss"), ("margin", "guard_margin"), ("psnr", "guard_psnr_01"))
        return "  ".join(f"{name} {self.event[key]:.4g}" for name, key in names if self.event.get(key) is not None)

    @property
    def left(self) -> str:
        share = self.share
        return "" if not share else clock((time.monotonic() - self.at_began) * (1 - share) / share)

    def __str__(self) -> str:
        return "  ".join(
            part for part in (name_of(self.cell), self.at, self.where, self.numbers, _eta(self.left)) if part
        )


class Board(Listener):
    """Live status of a run. Use it as a context; without a terminal it prints a line now and then instead.

    Args:
        headline: the state of the whole, asked for with every refresh: (cells in all, a line about the search).
        log: a file that gets what a terminal would show, for runs that nobody watches.
    """

    def __init__(self, headline: Callable[[], tuple[int, str]], console: Console, log: Path):
        self._headline, self._console = headline, console
        self._lines: dict[str, _Line] = {}
        self._begun: dict[str, float] = {}
        self._done = self._failed = 0
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)
        self._log = Console(file=log.open("a"), width=LOG_WIDTH)
        self._logged = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()
        self._log.file.close()

    def started(self, token: str, lane: Cell) -> None:
        now = time.monotonic()
        is_first = lane.spec.cell not in self._begun
        self._lines[token] = _Line(lane, logged=0.0 if is_first else now)  # others soon pass what it has made
        self._begun.setdefault(lane.spec.cell, now)

    def heard(self, token: str, lane: Cell, event: Mapping[str, Any]) -> None:
        if "said" in event:
            for console in (self._console, self._log):
                console.print(f"{name_of(lane)}  {event['said']}", highlight=False, markup=False, soft_wrap=True)
            return
        line = self._lines[token]
        line.heard(event)
        if not self._console.is_terminal and time.monotonic() - line.logged > LOG_SECONDS:
            line.logged = time.monotonic()
            self._console.print(str(line), highlight=False, soft_wrap=True)
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            self._log.print(self._table())

    def ended(self, token: str, lane: Cell, ended: Ended) -> None:  # noqa: ARG002 - what counts is the cell
        del self._lines[token]

    def over(self, cell: Cell, ended: Ended) -> None:
        self._failed += ended.failed
        self._done += not ended.failed
        word = "done" if ended.kind == "ok" else f"{ended.kind.replace('_', ' ')}: {ended.reason}"
        took = clock(time.monotonic() - self._begun.pop(cell.spec.cell))
        text = f"{name_of(cell)}  {word}  after {took}   {self._summary()}"
        for console in (self._console, self._log):
            console.print(text, style="red" if ended.failed else "", highlight=False, markup=False, soft_wrap=True)

    def _summary(self) -> str:
        total, about = self._headline()
        ended = self._done + self._failed
        failed = f", {self._failed} failed" if self._failed else ""
        left = (time.monotonic() - self._began) / ended * (total - ended) if ended else 0.0
        parts = (f"{ended}/{total} cells{failed}", about, _eta(clock(left)) if left > 0 else "")
        return "   ".join(part for part in parts if part)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        for line in self._lines.values():
            table.add_row(name_of(line.cell), line.at, line.where, line.numbers, _eta(line.left))
        return Group(table, Text(f"{len(self._lines)} running   {self._summary()}", style="bold"))


def name_of(cell: Cell) -> str:
    """A cell in a few characters: config and seed."""
    return f"{cell.spec.config[:6]} seed {cell.spec.seed}"


def clock(seconds: float) -> str:
    """12 s as 0:12, 3700 s as 1:01:40."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _eta(left: str) -> str:
    return f"eta {left}" if left else ""
