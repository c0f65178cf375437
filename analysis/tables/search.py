"""Tables of a search: every config with its scores, and what each parameter does to the margin."""

from dataclasses import replace

import pandas as pd

from analysis.captions import subject
from analysis.parameters import parameters
from analysis.table import Column, Table, clean
from analysis.tables.margins import PSNR_01, SEEDS, table
from analysis.views import View

SHOWN = 20
SCORES = {"mean": "G_0 mean", "worst": "G_0 min", "mean-se": "G_0 mean − standard error"}
_YES = {True: "yes", False: "no"}


def config_table(scored: pd.DataFrame, rows: pd.DataFrame, view: View) -> Table:
    """Every config of a search with its score, the best first: an order on guard rows, not a claim.

    Args:
        scored: from `search.configs`.
        rows: the rows of the search.
        view: tau, and the goal that `scored` was made by.
    """
    varied, goal = parameters(rows), view.goal
    frame = scored.merge(varied, left_on="config", right_index=True, how="left", suffixes=("", "_parameter"))
    words = {name: frame[name].map(_YES) for name in ("feasible", "front")}
    frame = frame.assign(short=frame["config"].str[:8], **words)
    columns = (
        Column("short", "config", "text"),
        *(
            Column(name, name, "short" if pd.api.types.is_float_dtype(frame[name]) else "text")
            for name in varied.columns
        ),
        Column("score", SCORES[goal.score], "signed"),
        *([] if goal.score == "worst" else [Column("margin_min", SCORES["worst"], "signed")]),
        PSNR_01,
        Column("psnr_change", "PSNR change", "decibel"),
        Column("feasible", "meets the constraint", "text"),
        Column("front", "on the front", "text"),
        *SEEDS,
        Column("n_stress", "stress cases", "count"),
        Column("reason", "why it has no score", "text"),
    )
    notes = (
        f"{goal.mode} over strict-feasible seeds; change is the mean paired difference to {goal.reference}; "
        f"constraint: {view.constraint}",
        "judged as the search judges: a config with a failed seed, a stress case among them, has no score and is not "
        "feasible; the front is that of score and mean PSNR among the feasible",
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
        "epsilon squared of Kruskal and Wallis, (H − k + 1) / (n − k): the share of the ranks of the score "
        "that lies between the values of one parameter, or its quartiles; 0 is what no effect gives on average",
        "main effects only: a parameter that matters through another one alone has none",
        "rank correlation is Spearman's, for the direction",
    )
    return Table("importance", clean(f"Importance of parameters — {subject(rows)}"), found, columns, notes)
