"""Tables of a search: every config with its scores, and what each parameter does to the margin."""

from dataclasses import replace

import pandas as pd

from analysis.captions import subject
from analysis.parameters import parameters
from analysis.search import configs, ranked
from analysis.table import Column, Table, clean
from analysis.tables.margins import PSNR_01, SEEDS, table
from analysis.views import DECLARED, Strict, View, strict_rows

SHOWN = 20
_YES = {True: "yes", False: "no"}


def config_table(strict: Strict, view: View = DECLARED) -> Table:
    """Every config of a search with its scores, feasible ones first, by mean margin; an order, not a selection."""
    rows = strict_rows(strict)
    scored = ranked(configs(strict, view))
    varied = parameters(rows)
    frame = scored.merge(varied, left_on="config", right_index=True, how="left", suffixes=("", "_parameter"))
    frame = frame.assign(
        short=frame["config"].str[:8], **{name: frame[name].map(_YES) for name in ("feasible", "front")}
    )
    columns = (
        Column("short", "config", "text"),
        *(
            Column(name, name, "short" if pd.api.types.is_float_dtype(frame[name]) else "text")
            for name in varied.columns
        ),
        Column("margin", "G_0 mean", "signed"),
        Column("margin_min", "G_0 min", "signed"),
        PSNR_01,
        Column("psnr_change", "PSNR change", "decibel"),
        Column("feasible", "meets the constraint", "text"),
        Column("front", "on the front", "text"),
        *SEEDS,
    )
    mode, reference = scored["mode"].iloc[0], scored["reference"].iloc[0]
    notes = (
        f"means of {mode} over strict-feasible seeds; change is the paired difference to {reference}; constraint: "
        + view.constraint,
        "a config with a failed seed has no mean; the front is that of mean margin and mean PSNR",
    )
    return replace(table("configs", "Configs of the search", rows, frame, columns, notes), lines=SHOWN)


def importance_table(found: pd.DataFrame, rows: pd.DataFrame, origin: str) -> Table:
    """The numbers of `search.importance`, with the estimator in the notes.

    Args:
        found: from `search.importance`.
        rows: the rows of the search.
        origin: their caption.
    """
    columns = (
        Column("parameter", "parameter", "text"),
        Column("importance", "epsilon squared", "plain"),
        Column("direction", "rank correlation", "signed"),
        Column("n", "configs", "count"),
    )
    notes = (
        origin,
        "epsilon squared of Kruskal and Wallis, (H − k + 1) / (n − k): the share of the ranks of the mean margin "
        "that lies between the values of one parameter, or its quartiles; 0 is what no effect gives on average",
        "main effects only: a parameter that matters through another one alone has none",
        "rank correlation is Spearman's, for the direction",
    )
    return Table("importance", clean(f"Importance of parameters — {subject(rows)}"), found, columns, notes)
