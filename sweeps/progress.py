"""What a user watches: one line per running cell, one for the whole, in a terminal or in a log file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.dispatch import Cell

LOG_SECONDS = 15.0  # between two lines about one cell, where there is no terminal


@dataclass
class _Line:
    """One running cell."""

    cell: Cell
    began: float = field(default_factory=time.monotonic)
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


class Board:
    """Live status of a run. Use it as a context; without a terminal it prints a line now and then instead."""

    def __init__(self, total: int, console: Console):
        self._total, self._console = total, console
        self._lines: dict[str, _Line] = {}
        self._done = self._failed = 0
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, token: str, cell: Cell) -> None:
        """A cell got a slot."""
        self._lines[token] = _Line(cell)

    def heard(self, token: str, event: Mapping[str, Any]) -> None:
        """A running cell said how far it is."""
        line = self._lines.get(token)
        if line is None:
            return
        line.heard(event)
        if not self._console.is_terminal and time.monotonic() - line.logged > LOG_SECONDS:
            line.logged = time.monotonic()
            self._console.print(str(line), highlight=False)

    def ended(self, token: str, *, failed: bool) -> None:
        """A cell gave its slot back."""
        line = self._lines.pop(token)
        self._failed += failed
        self._done += not failed
        word = "[red]failed[/]" if failed else "done"
        took = clock(time.monotonic() - line.began)
        self._console.print(f"{name_of(line.cell)}  {word} in {took}   {self._summary()}", highlight=False)

    def _summary(self) -> str:
        ended = self._done + self._failed
        failed = f", {self._failed} failed" if self._failed else ""
        left = (time.monotonic() - self._began) / ended * (self._total - ended) if ended else None
        eta = "" if left is None or ended == self._total else _eta(clock(left))
        return f"{ended}/{self._total} cells{failed}  {eta}".rstrip()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for line in self._lines.values():
            table.add_row(name_of(line.cell), line.at, line.where, line.numbers, _eta(line.left))
        table.add_row(Text(self._summary(), style="bold"), f"{len(self._lines)} running", "", "", "")
        return table


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
