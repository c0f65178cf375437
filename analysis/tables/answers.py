"""The three tables that a page makes anew while its thresholds move: answers by mode, stress cases, and the order of
configs. `live.js` computes the same cells from the same rows, to the last digit.

answer_table(parts, view)               per mode: in how many strict-feasible seeds head, mean and channel answer yes
apart_table(parts, view)                stress cases one by one, with what their teachers miss
ranking_table(scored, rows, view)       configs of a search, the best first
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from certvae.certificate import FLOAT_SLACK

from ..captions import seeds
from ..parameters import labels
from ..table import ABSENT, Table
from ..views import DECLARED, Partition, View, claims, everything
from .margins import CELL, table

ANSWERS = ("head", "population", "mean_answer", "channel_answer", "left_mean", "left_min", "bound_min", "psnr_01_mean")
COUNTS = ("n", "n_failed", "n_stress")
APART = ("teacher_verdict", "left", "claim", "population_bound", "psnr_01")
RANKING = ("place", "named", "score", "margin_min", "psnr_01", "psnr_change", "slack", "feasible", "kept", "front")
SHOWN = 20
COLLAPSE = {"dead": "dead (collapsed)"}
"""A dead channel, and nothing else, is a collapse."""
YES = {True: "yes", False: "no"}


def answer_table(parts: Partition, view: View = DECLARED) -> Table:
    """Head, mean and channel by config and mode: counts and worst values over strict-feasible seeds alone."""
    frame = pd.DataFrame(answer_lines(parts, view))
    rows = everything(parts)
    notes = (
        "head: raw head certified on these rows at tau; population: its lower bound is positive; mean and channel: "
        "does the mean vary, do draws carry information (only a dead channel is a collapse)",
        "counts, means and smallest values are over strict-feasible seeds; G_tau is the margin minus tau, nats",
    )
    shown = ("label", "mode", *ANSWERS, *COUNTS)
    return table("answers", "Head, mean and channel by mode", rows, frame, shown, notes, view.tau, whole=True)


def answer_lines(parts: Partition, view: View) -> list[dict[str, object]]:
    """One line per config and mode, those without a strict-feasible seed among them, in the order of the rows.

    Columns: study, config, mode, split, certified, dead and open (seeds with such a head, such a channel), and those of
    the table.
    """
    rows = everything(parts)
    groups = rows.groupby(["study", "config", "mode", "split"], sort=False)
    return [
        {**dict(zip(["study", "config", "mode", "split"], key, strict=True)), **_answered(group, view)}
        for key, group in groups
    ]


def apart_table(parts: Partition, view: View = DECLARED) -> Table:
    """Every stress case on its own line, with the thresholds that its teacher misses."""
    rows = parts.stress.listed
    shown = rows.assign(left=rows["margin"] - view.tau, claim=claims(rows["margin"], view.tau))
    shown = shown.assign(teacher_verdict=rows["teacher_verdict"].str.removeprefix("stress-case: "))
    note = "listed one by one; they enter no mean, no minimum and no count above"
    names = (*CELL, *APART)
    return table("apart", "Stress cases, apart", everything(parts), shown, names, (note,), view.tau, whole=True)


def ranking_table(scored: pd.DataFrame, rows: pd.DataFrame, view: View) -> Table:
    """Configs in the order of the goal under this view; see `search.configs`.

    Args:
        scored: from `search.configs`.
        rows: the rows of the search.
        view: tau, and the goal that `scored` was made by.
    """
    names = labels(rows)
    words = {name: scored[name].map(YES) for name in ("feasible", "front")}
    frame = scored.assign(place=range(1, len(scored) + 1), named=scored["config"].map(names), **words)
    frame = frame.assign(slack=frame["slack"].where(frame["slack"].abs() < np.inf))
    goal = view.goal
    notes = (
        f"score: {goal.metrics[0]}, on guard rows of {seeds(rows['seed'])}; change is the mean paired difference to "
        f"{goal.reference}; slack is the distance to the nearest constraint, {goal.unit}; an order, not a claim",
        *(() if goal.kind == "margin" else ("this order stays as the page was made while thresholds are moved",)),
    )
    names = (*RANKING, *COUNTS, "reason")
    made = table("ranking", "Configs under this constraint", rows, frame, names, notes, whole=True)
    return replace(made, lines=SHOWN)


def counted(words: Iterable[object]) -> str:
    """`alive 3 of 3`, or `open 2, dead (collapsed) 1` where seeds differ; a dash where no row has a word."""
    known = [COLLAPSE.get(str(word), str(word)) for word in words if isinstance(word, str)]
    counts = Counter(known)
    if not counts:
        return ABSENT
    if len(counts) == 1:
        return f"{known[0]} {len(known)} of {len(known)}"
    return ", ".join(f"{word} {counts[word]}" for word in sorted(counts))


def _answered(group: pd.DataFrame, view: View) -> dict[str, object]:
    stressed = group["teacher_status"] == "stress-case"
    strict = group[~stressed]
    left = strict["margin"].dropna().to_numpy(float) - view.tau
    bounds = strict["population_bound"].dropna().to_numpy(float)
    psnr = strict["psnr_01"].dropna().to_numpy(float)
    certified, n = int((left > FLOAT_SLACK).sum()), len(strict)
    claimed = bool((strict["split"] == "certify").all()) and len(bounds) > 0
    unbounded = bool((strict["margin"].notna() & strict["population_bound"].isna()).any())
    return {
        "certified": certified,
        "head": f"{certified} of {n}",
        "population": f"{int((bounds > 0).sum())} of {n}" if claimed else ABSENT,
        "mean_answer": counted(strict["mean_word"]),
        "channel_answer": counted(strict["channel_word"]),
        "left_mean": left.mean() if len(left) else np.nan,
        "left_min": left.min() if len(left) else np.nan,
        "bound_min": bounds.min() if len(bounds) and not unbounded else np.nan,
        "psnr_01_mean": psnr.mean() if 0 < len(psnr) == len(left) else np.nan,
        **{word: int((strict["channel_word"] == word).sum()) for word in ("dead", "open")},
        "n": n,
        "n_failed": n - len(left),
        "n_stress": int(stressed.sum()),
    }
