"""What a user watches: a bar per running lane of a cell and a line for the whole in a terminal, else lines of a log."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from certvae.engine.dispatch import Cell, Ended, Listener

LOG_SECONDS = 15.0  # between two lines about one cell, where there is no terminal
LOG_WIDTH = 120
PIPE_WIDTH = 100  # where there is no terminal to fit
NUMBERS = (("loss", "loss", 72), ("margin", "guard_margin", 72), ("psnr", "guard_psnr_01", 100))
"""What is shown of an epoch -> its name in an event, and the columns that a terminal must have to show it."""
STOPPING = "stopping; nothing is lost"
BAR = 10
WIDE_BAR = 24


def console() -> Console:
    """A console on standard output; in a pipe of a fixed width."""
    found = Console()
    if found.is_terminal and found.file.isatty():
        return found
    return Console(width=PIPE_WIDTH, force_interactive=False)  # also where colours are forced, as in the logs of a CI


def listing(*headings: str, right: Collection[str] = (), whole: Collection[str] = (), **how: Any) -> Table:
    """A table without lines.

    Args:
        right: columns of numbers.
        whole: columns whose cells stay on one line; those of the others are folded, and nothing of them is cut.
        how: title, caption and padding of the table.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", caption_justify="left", **how)
    for heading in headings:
        kept, at = heading in whole, "right" if heading in right else "left"
        table.add_column(heading, justify=at, no_wrap=kept, overflow="ellipsis" if kept else "fold")
    return table


def digits(value: Any, form: str = ".4g") -> str:
    """What was measured: a number in this format, and a dash where there is none."""
    return "-" if value is None else setting(value, form)


def setting(value: Any, form: str = ".4g") -> str:
    """The value of a field: a fraction in this format, and all else as it is, None too."""
    return format(value, form) if isinstance(value, float) else str(value)


def written(file: TextIO | None = None, *, width: int = PIPE_WIDTH, quiet: bool = False) -> Console:
    """A console of plain lines for a file or for standard output, also in a notebook."""
    return Console(file=file, width=width, quiet=quiet, force_terminal=False, force_jupyter=False)


@dataclass
class _Line:
    """One running lane."""

    cell: Cell
    at: str = ""
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
        return "  ".join(f"{name} {self.number(key)}" for name, key, _ in NUMBERS if self.number(key))

    def number(self, key: str) -> str:
        """A number of the last event; empty where it says none."""
        found = self.event.get(key)
        return "" if found is None else f"{found:.4g}"

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
        self._began = self._waits_since = time.monotonic()
        self._waits_for = ""
        self._live = Live(get_renderable=lambda: self, console=console, refresh_per_second=4, transient=True)
        self._is_live = console.is_interactive
        self._log = written(log.open("a", encoding="utf-8", errors="backslashreplace"), width=LOG_WIDTH)
        self._logged = time.monotonic()

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()
        self._log.file.close()

    def waiting(self, what: str) -> None:
        self._waits_for, self._waits_since = what, time.monotonic()
        self._say(what, on_terminal=not self._is_live)

    def stopping(self) -> None:
        self._waits_for, self._waits_since = STOPPING, time.monotonic()

    def started(self, token: str, lane: Cell) -> None:
        now = time.monotonic()
        is_first = lane.spec.cell not in self._begun
        self._lines[token] = _Line(lane, logged=0.0 if is_first else now)  # others soon pass what it has made
        self._begun.setdefault(lane.spec.cell, now)

    def heard(self, token: str, lane: Cell, event: Mapping[str, Any]) -> None:
        if self._waits_for != STOPPING:
            self._waits_for = ""
        if "said" in event:
            self._say(f"{name_of(lane)}  {event['said']}")
            return
        line = self._lines[token]
        line.heard(event)
        if not self._is_live and time.monotonic() - line.logged > LOG_SECONDS:
            line.logged = time.monotonic()
            self._console.print(str(line), highlight=False, soft_wrap=True)
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            self._log.print(self)

    def ended(self, token: str, lane: Cell, ended: Ended) -> None:  # noqa: ARG002 - what counts is the cell
        del self._lines[token]

    def over(self, cell: Cell, ended: Ended) -> None:
        self._failed += ended.failed
        self._done += not ended.failed
        word = "done" if ended.kind == "ok" else f"{ended.kind.replace('_', ' ')}: {ended.reason}"
        took = clock(time.monotonic() - self._begun.pop(cell.spec.cell))
        text = f"{name_of(cell)}  {word}  after {took}   {self._summary()}"
        self._say(text, style="red" if ended.failed else "")

    def _say(self, text: str, *, style: str = "", on_terminal: bool = True) -> None:
        """A line that stays."""
        for console in (self._console, self._log) if on_terminal else (self._log,):
            console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _summary(self) -> str:
        total, about = self._headline()
        ended = self._done + self._failed
        failed = f", {self._failed} failed" if self._failed else ""
        left = (time.monotonic() - self._began) / ended * (total - ended) if ended else 0.0
        parts = (f"{ended}/{total} cells{failed}", about, _eta(clock(left)) if left > 0 else "")
        return "   ".join(part for part in parts if part)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The whole first, since a terminal that is too low cuts what comes last."""
        width, lines = options.max_width, list(self._lines.values())
        yield Text(f"{len(lines)} running   {self._summary()}", style="bold")
        if self._waits_for:
            yield Text(f"{self._waits_for}  {clock(time.monotonic() - self._waits_since)}", style="dim")
            return
        numbers = [key for _, key, room in NUMBERS if width >= room]
        table = Table(box=None, pad_edge=False, padding=(0, 1), show_edge=False, header_style="dim")
        for heading in ("", "", "", "", *(name for name, key, _ in NUMBERS if key in numbers), "left"):
            table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
        for line in lines:
            bar = ProgressBar(1.0, line.share or 0.0, width=WIDE_BAR if width >= NUMBERS[-1][-1] else BAR)
            shown = (line.number(key) for key in numbers)
            table.add_row(name_of(line.cell), line.at or "starting", bar, line.where, *shown, line.left)
        yield table


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
