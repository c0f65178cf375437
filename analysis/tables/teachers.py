"""Where teachers come from: every candidate of a search, teachers that drift, and heads that train in another's place.

candidate_table(candidates, rows)    every candidate, not the chosen one alone
live_table(parts)                    one mixture, read on frozen and on live features
used_table(parts)                    raw head and used head of a protected rescue
"""

import numpy as np
import pandas as pd

from certvae.quality import Thresholds
from certvae.spec.modes import BY_NAME, named

from ..captions import caption, subject
from ..table import Table, clean, columns, present
from ..views import DECLARED, Partition, Refused, View, candidate_verdict, claims, everything, tau_column, with_taus
from .margins import CELL, table

TEACHING = {"teacher_features": "frozen", "teacher_seed": "own"}
"""Columns that say how a teacher came about, and what a row means that leaves one empty."""


def one_teaching(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, when all of them were taught alike: they may be averaged as replications of one experiment.

    Raises:
        Refused: frozen and live teachers, or a teacher per seed and one for all seeds, are among them.
    """
    for name, usual in TEACHING.items():
        found = {usual if pd.isna(value) else str(value) for value in rows[name]}
        if len(found) > 1:
            raise Refused(
                f"wanted rows of one kind of teacher, found {name} {' and '.join(sorted(found))}",
                f"choose rows of one {name} first",
                where="aggregation",
                cause="a seed that searches its own teacher, one that borrows another's, and a teacher that drifts are "
                "three experiments (arXiv 2605.05813 reports them apart)",
            )
    return rows


def candidate_table(
    candidates: pd.DataFrame, rows: pd.DataFrame, thresholds: Thresholds = DECLARED.thresholds
) -> Table:
    """Every candidate of every search, on guard rows, judged anew; the best ones first within a seed.

    Args:
        candidates: from `load.candidates`.
        rows: the rows that the searches belong to, for the title.
        thresholds: the strict filter.
    """
    verdicts = [
        str(line["reason"] if pd.isna(line["info"]) else candidate_verdict(line, thresholds))
        for line in candidates.to_dict("records")
    ]
    frame = candidates.assign(verdict=verdicts, mark=["chosen" if chosen else "" for chosen in candidates["chosen"]])
    frame = frame.sort_values(["seed", "chosen", "score"], ascending=[True, False, False], kind="stable")
    fit = ("whitening", "covariance", "regulariser", "temperature", "initialisation", "info")
    usage = ("top1_margin", "high_margin_share", "hard_usage_kl", "soft_usage_kl", "min_mass", "score", "verdict")
    notes = ("fitted on train rows, scored on guard rows; failing a filter says nothing about a certificate",)
    title = clean(f"Candidates of every teacher search — {subject(rows)}")
    shown = present(frame, columns("seed", "mark", *fit, *usage))
    return Table("candidates", title, frame, shown, (caption(candidates), *notes))


def live_table(parts: Partition, view: View = DECLARED) -> Table:
    """Each mode under the frozen and under the live teacher of its seed, row by row."""
    rows = everything(parts)
    both = _both(rows)
    shown = with_taus(both.assign(clusters=np.exp(both["info"])), (view.tau,))
    shown = shown.assign(claim=claims(shown["margin"], view.tau))
    taught = ("teacher_status", "teacher_features", "info", "loss", "clusters", "teacher_drift")
    numbers = (tau_column(view.tau), "claim", "student_info", "psnr_01", "psnr_std")
    notes = (
        "a frozen teacher is a function of the input: one I_T in all modes of a seed. A live one reads the encoder in "
        "training; the printed tables of arXiv 2605.05813, with another I_T in every mode, are of this kind",
        "drift = E KL(cached row || live row); live rows are listed and never pooled with frozen ones",
    )
    return table("live", "Frozen and live teachers", rows, shown, (*CELL, *taught, *numbers), notes, view.tau)


def used_table(parts: Partition) -> Table:
    """What the raw and the used head of a protected rescue say of the same rows."""
    rows = everything(parts)
    names = (*CELL, "teacher_status", "info", "loss", "margin", "used_loss", "used_margin")
    known = rows.dropna(subset=["used_loss"])
    note = "only the raw head certifies; the used head is an aid of training, and its numbers stand here as diagnostics"
    return table("used", "Raw and used heads of the protected rescue", rows, known, names, (note,))


def _both(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the modes that were trained under both teachers, the two of a seed side by side."""
    twins = {mode: BY_NAME[mode].twin for mode in named("live")}
    pairs = rows.assign(pair=[twins.get(mode, mode) for mode in rows["mode"]])
    both = sorted({twins[mode] for mode in rows["mode"] if mode in twins})
    return pairs[pairs["pair"].isin(both)].sort_values(["config", "seed", "pair", "teacher_features"])
