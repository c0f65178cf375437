"""Tables of a search: every config with its scores, and what each parameter does to the margin."""

from dataclasses import replace

import pandas as pd

from certvae.spec.goal import Score

from ..captions import subject
from ..parameters import parameters
from ..table import Column, Table, clean, columns
from ..views import View
from .answers import SHOWN, YES
from .margins import SEEDS, table

SCORES: dict[Score, str] = {"mean": "margin_mean", "worst": "margin_min", "mean-se": "margin_mean_se"}


def config_table(scored: pd.DataFrame, rows: pd.DataFrame, view: View) -> Table:
    """Every config of a search with its score, the best first: an order on guard rows, not a claim.

    Args:
        scored: from `search.configs`.
        rows: the rows of the search.
        view: tau, and the goal that `scored` was made by.
    """
    varied, goal = parameters(rows), view.goal
    frame = scored.merge(varied, left_on="config", right_index=True, how="left", suffixes=("", "_parameter"))
    words = {name: frame[name].map(YES) for name in ("feasible", "front")}
    score = "score" if goal.kind == "max_kl" else SCORES[goal.score]
    frame = frame.assign(short=frame["config"].str[:8], **{score: frame["score"]}, **words)
    drawn = [
        Column(name, name, "short" if pd.api.types.is_float_dtype(frame[name]) else "text") for name in varied.columns
    ]
    scores = dict.fromkeys((score, "margin_min"))
    shown = (*scores, "psnr_01", "psnr_change", "feasible", "kept", "front", *SEEDS, "n_stress", "reason")
    notes = (
        f"{goal.sought} of {goal.mode} over strict-feasible seeds; change is the mean paired difference to "
        f"{goal.reference}; constraint: {view.constraint}",
        "judged as the search judges: a config with a failed seed, a stress case among them, has no score and is not "
        "feasible; the front is that of score and mean PSNR among the feasible",
        "P(kept): the probability, given the noise of seeds, that a config keeps every constraint; the first one has "
        f"at least {goal.certainty:.0%} where any has",
    )
    return replace(
        table("configs", "Configs of the search", rows, frame, ("short", *drawn, *shown), notes), lines=SHOWN
    )


def importance_table(found: pd.DataFrame, rows: pd.DataFrame, origin: str) -> Table:
    """The numbers of `search.importance`, with the estimator in the notes.

    Args:
        found: from `search.importance`.
        rows: the rows of the search.
        origin: their caption.
    """
    notes = (
        origin,
        "epsilon squared of Kruskal and Wallis, (H − k + 1) / (n − k): the share of the ranks of the score "
        "that lies between the values of one parameter, or its quartiles; 0 is what no effect gives on average",
        "main effects only: a parameter that matters through another one alone has none",
        "rank correlation is Spearman's, for the direction",
    )
    shown = columns("parameter", "importance", "direction", "configs")
    return Table("importance", clean(f"Importance of parameters — {subject(rows)}"), found, shown, notes)
