"""A table as data: full-precision numbers in a frame, and how each column is to be shown.

Every format (CSV, Markdown, LaTeX, HTML) is made from the same `Table`; the CSV keeps all digits.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Style = Literal["signed", "plain", "decibel", "short", "count", "share", "p", "text"]
ABSENT = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Column:
    """A column of the frame: `heading` may hold a symbol such as `G_0.10`, whose tail is set as a subscript."""

    name: str
    heading: str
    style: Style = "plain"


@dataclass(frozen=True, eq=False)
class Table:
    """A table with all it needs to be read on its own.

    Args:
        name: file name without ending.
        title: what it shows, of which data set and teacher.
        frame: the numbers.
        columns: the columns shown, in order.
        notes: split, seeds, n, n_failed, versions; then what a reader must know.
        lines: at most so many lines on a page; files hold all.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    lines: int = 60

    def texts(self, *, page: bool = False) -> list[list[str]]:
        """The cells of all lines as they are shown, or of those that fit on a page."""
        shown = self.frame.head(self.lines) if page else self.frame
        columns = [[text(value, column.style) for value in shown[column.name]] for column in self.columns]
        return [list(line) for line in zip(*columns, strict=True)]


def present(frame: pd.DataFrame, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Those columns of which the frame knows at least one value."""
    return tuple(column for column in columns if column.name in frame and frame[column.name].notna().any())


def text(value: Any, style: Style) -> str:
    """One cell; a value that is missing or not finite is a dash, never a number."""
    if style == "text":
        return ABSENT if _missing(value) else clean(str(value))
    if _missing(value) or not math.isfinite(value):
        return ABSENT
    match style:
        case "signed":
            return f"{value:+.4f}".replace("-", "−")
        case "plain":
            return f"{value:.4f}".replace("-", "−")
        case "decibel":
            return f"{value:.2f}".replace("-", "−")
        case "short":
            return f"{value:.3g}".replace("-", "−")
        case "count":
            return f"{value:.0f}"
        case "share":
            return f"{100 * value:.0f} %"
        case "p":
            return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}".replace("-", "−")


def clean(words: str) -> str:
    """Text from a store on one line, without control characters, terminal codes or marks that turn writing around."""
    return _CONTROL.sub("\ufffd", re.sub(r"[\t\n\r]+", " ", words))


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
