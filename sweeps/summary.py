"""The final table: certify rows of a study in plan order, as text for a person and as bytes for a comparison."""

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

TAUS = (0.05, 0.10, 0.20)
Row = Mapping[str, Any]
COLUMNS = (
    "seed",
    "mode",
    "outcome",
    "teacher_status",
    "info",
    "loss",
    "margin",
    *(f"margin_tau_{tau:.2f}" for tau in TAUS),
    "population_bound",
    "student_info",
    "psnr_01",
    "active_units",
    "split",
    "n",
    "config",
)


def with_taus(row: Row) -> dict[str, Any]:
    """A row with its margin at every tau: tau is a view, so it is derived here and never stored."""
    margin = row.get("margin")
    taus = {f"margin_tau_{tau:.2f}": None if margin is None else margin - tau for tau in TAUS}
    return {**row, **taus}


def table_text(rows: Iterable[Row]) -> str:
    """The final table as CSV: a function of the plan and the results alone, byte for byte."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _exact(value) for name, value in with_taus(row).items() if name in COLUMNS})
    return out.getvalue()


def table_digest(rows: Iterable[Row]) -> str:
    """SHA-256 of the final table."""
    return hashlib.sha256(table_text(rows).encode()).hexdigest()


def table_shown(rows: Sequence[Row], title: str) -> Table:
    """The final table for a terminal: margins in nats, PSNR in dB."""
    table = Table(title=title, title_justify="left", caption_justify="left", header_style="bold", pad_edge=False)
    for heading in ("seed", "mode", "teacher"):
        table.add_column(heading, no_wrap=True)
    headings = ("I_T", "L_TS", "margin", *(f"-{tau:.2f}" for tau in TAUS), "bound", "MI", "PSNR", "AU")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    for row in map(with_taus, rows):
        last = row["mode"] == "rescue" and row["seed"] != seeds[-1]
        table.add_row(str(row["seed"]), row["mode"], *_cells(row), end_section=last)
    return table


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["outcome"] != "ok":
        return [f"[red]{row['outcome']}[/]"]
    margins = [_signed(row["margin"])] + [_signed(row[f"margin_tau_{tau:.2f}"]) for tau in TAUS]
    plain = [_number(row["info"]), _number(row["loss"]), *margins, _signed(row["population_bound"])]
    return [
        row["teacher_status"],
        *plain,
        _number(row["student_info"]),
        f"{row['psnr_01']:.2f}",
        str(row["active_units"]),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"[green]{value:+.4f}[/]" if value > 0 else f"[red]{value:+.4f}[/]"


def _exact(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
