"""Where teachers come from: every candidate of a search, teachers that drift, and heads that train in another's place.

candidate_table(candidates, rows)    every candidate, not the chosen one alone
live_table(parts)                    one mixture, read on frozen and on live features
used_table(parts)                    raw head and used head of a protected rescue
"""

import numpy as np
import pandas as pd

from analysis.captions import caption, subject
from analysis.table import Column, Table, clean, present
from analysis.tables.margins import CELL, PSNR_01, PSNR_STD, SEED, TEACHER, table
from analysis.views import DECLARED, Partition, Refused, View, claims, everything, tau_column, tau_heading, with_taus
from certvae.quality import Thresholds, from_row, judge

LIVE = "live_"
"""Modes of a live teacher have the names of the frozen ones with this before."""
TEACHING = {"teacher_features": "frozen", "teacher_seed": "own"}
"""Columns that say how a teacher came about, and what a row means that leaves one empty."""


def one_teaching(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, when all of them were taught alike: they may be averaged as replications of one experiment.

    Raises:
        Refused: frozen and live teachers, or a teacher per seed and one for all seeds, are among them.
    """
    for name, usual in TEACHING.items():
        found = {usual if pd.isna(value) else str(value) for value in with_columns(rows, name)[name]}
        if len(found) > 1:
            raise Refused(
                20,
                f"wanted rows of one kind of teacher, found {name} {' and '.join(sorted(found))}",
                where="aggregation",
                cause="a seed that searches its own teacher, one that borrows another's, and a teacher that drifts are "
                "three experiments (arXiv 2605.05813 reports them apart)",
                remedy=f"choose rows of one {name} first",
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
    verdicts = [_verdict(line, thresholds) for line in candidates.to_dict("records")]
    frame = candidates.assign(verdict=verdicts, mark=["chosen" if chosen else "" for chosen in candidates["chosen"]])
    frame = frame.sort_values(["seed", "chosen", "score"], ascending=[True, False, False], kind="stable")
    columns = (
        SEED,
        Column("mark", "", "text"),
        Column("whitening", "whitened dimensions", "count"),
        Column("covariance", "covariance", "text"),
        Column("regulariser", "regulariser", "short"),
        Column("temperature", "temperature", "short"),
        Column("initialisation", "start", "count"),
        Column("info", "I_T"),
        Column("top1_margin", "top-1 margin"),
        Column("high_margin_share", "sharp rows", "share"),
        Column("hard_usage_kl", "hard usage KL"),
        Column("soft_usage_kl", "soft usage KL"),
        Column("min_mass", "min mass"),
        Column("score", "score"),
        Column("verdict", "verdict", "text"),
    )
    notes = ("fitted on train rows, scored on guard rows; failing a filter says nothing about a certificate",)
    title = clean(f"Candidates of every teacher search — {subject(rows)}")
    return Table("candidates", title, frame, present(frame, columns), (caption(candidates), *notes))


def live_table(parts: Partition, view: View = DECLARED) -> Table:
    """Each mode under the frozen and under the live teacher of its seed, row by row."""
    rows = everything(parts)
    taught = _both(rows)
    shown = with_taus(taught.assign(clusters=np.exp(taught["info"])), (view.tau,))
    shown = shown.assign(claim=claims(shown["margin"], view.tau))
    columns = (
        *CELL,
        Column("teacher_status", "teacher before training", "text"),
        Column("teacher_features", "features", "text"),
        *TEACHER,
        Column("clusters", "exp I_T", "short"),
        Column("teacher_drift", "drift, nats"),
        Column(tau_column(view.tau), tau_heading(view.tau), "signed"),
        Column("claim", f"at tau = {view.tau:.2f}", "text"),
        Column("student_info", "I_S"),
        PSNR_01,
        PSNR_STD,
    )
    notes = (
        "a frozen teacher is a function of the input: one I_T in all modes of a seed. A live one reads the encoder in "
        "training; the printed tables of arXiv 2605.05813, with another I_T in every mode, are of this kind",
        "drift = E KL(cached row || live row); live rows are listed and never pooled with frozen ones",
    )
    return table("live", "Frozen and live teachers", rows, shown, columns, notes, view.tau)


def used_table(parts: Partition) -> Table:
    """What the raw and the used head of a protected rescue say of the same rows."""
    rows = everything(parts)
    known = with_columns(rows, "used_loss", "used_margin").dropna(subset=["used_loss"])
    columns = (
        *CELL,
        Column("teacher_status", "teacher", "text"),
        Column("info", "I_T"),
        Column("loss", "raw head: L_TS"),
        Column("margin", "raw head: G_0", "signed"),
        Column("used_loss", "used head: loss"),
        Column("used_margin", "used head: difference", "signed"),
    )
    note = "only the raw head certifies; the used head is an aid of training, and its numbers stand here as diagnostics"
    return table("used", "Raw and used heads of the protected rescue", rows, known, columns, (note,))


def with_columns(rows: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The rows with these columns too, NaN where no row of theirs has the number."""
    return rows.reindex(columns=[*rows, *(name for name in names if name not in rows)])


def _both(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the modes that were trained under both teachers, the two of a seed side by side."""
    named = with_columns(rows, "teacher_features", "teacher_drift")
    named = named.assign(pair=[mode.removeprefix(LIVE) for mode in named["mode"]])
    live = sorted({mode.removeprefix(LIVE) for mode in named["mode"] if mode.startswith(LIVE)})
    named = named.sort_values(["config", "seed", "pair", "teacher_features"])
    return named.merge(pd.DataFrame({"pair": live}, dtype=object), on="pair")


def _verdict(line: dict, thresholds: Thresholds) -> str:
    if pd.isna(line["info"]):
        return str(line["reason"])
    named = {f"teacher_{name}": value for name, value in line.items()}
    return str(judge(from_row({"classes": line["classes"], **named}), thresholds))
