"""Makes the papers' tables from rows, each a `Table`: numbers in a frame, headings, and notes on their origin.

Strict-feasible rows are aggregated, stress cases are listed one by one. In a notebook:

    from certvae.analysis.load import load
    from certvae.analysis.views import DECLARED, partition

    strict, stress = partition(load("store", "tiny_fixed_q", split="certify"))
    summary_table(strict, DECLARED).frame
"""

from collections.abc import Sequence

import pandas as pd

from certvae.certificate import WORDS
from certvae.quality import Thresholds
from certvae.spec.quantities import BY_NAME, read_by

from .. import compare
from ..captions import caption, subject
from ..parameters import labels
from ..table import Column, Table, clean, columns, present
from ..views import (
    DECLARED,
    Partition,
    Stress,
    Strict,
    View,
    claims,
    everything,
    failed,
    strict_rows,
    tau_column,
    with_taus,
)

CELL = ("label", "seed", "mode")
SEEDS = ("n", "n_failed")
LACKING = "each number is over the seeds that have it; n_failed of them lack one that others have"
SURVIVORS = "mean, sd, min and max are over the seeds that have the number: seeds minus n_failed"


def summary_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per mode: the mean of each quantity, and mean, sd, min and max of the margin at every tau."""
    rows = with_taus(strict_rows(strict), view.columns)
    taus, own = [tau_column(tau) for tau in view.columns], tau_column(view.tau)
    frame = _wide(Strict(rows, strict.thresholds), ["info", "loss", "student_info", *taus])
    frame = frame.assign(n=frame[f"{own}_n"], n_failed=frame[f"{own}_n_failed"])
    means = (f"{name}_mean" for name in ("info", "loss", "student_info", *taus))
    shown = ("label", "mode", *means, *(f"{own}_{end}" for end in ("sd", "min", "max")), *SEEDS)
    notes = (SURVIVORS, "I_S, the information of the student, is a diagnostic and certifies nothing")
    return table("summary", "Strict-feasible seeds by mode", rows, frame, shown, notes, view.tau)


def seed_table(part: Strict | Stress, view: View = DECLARED) -> Table:
    """Every row on its own: strict-feasible ones, or stress cases with the thresholds that their teachers miss."""
    rows = part.rows if isinstance(part, Strict) else part.listed
    shown = with_taus(rows, view.columns).assign(claim=claims(rows["margin"], view.tau))
    shown_columns = ("info", "loss", *map(tau_column, view.columns), "claim", *read_by("seeds"))
    if isinstance(part, Strict):
        return table("seeds", "Every strict-feasible seed", rows, shown, (*CELL, *shown_columns), (), view.tau)
    note = "stress cases are listed one by one and never enter a mean, a minimum or a spread"
    names = (*CELL, "teacher_verdict", *shown_columns)
    return table("stress_cases", "Stress cases, one by one", rows, shown, names, (note,), view.tau)


def contrast_table(strict: Strict) -> Table:
    """Paired differences between modes, with t intervals and sign-flip p-values."""
    rows = strict_rows(strict)
    found = compare.contrasts(strict)
    of = {name: f"{BY_NAME[name].heading}, {BY_NAME[name].unit}" for name in set(found["quantity"])}
    frame = found.assign(contrast=found["mode"] + " − " + found["reference"], of=found["quantity"].map(of))
    shown = ("label", "contrast", "of", "mean", "low", "high", "p", "p_smallest", *SEEDS)
    notes = (
        "pairs share warm-up, teacher and data order; the interval is a paired t interval",
        "no p below the smallest possible one can be had with so few seeds, however large the difference",
    )
    return table("paired_differences", "Paired differences between modes", rows, frame, shown, notes)


def tau_table(parts: Partition, view: View = DECLARED) -> Table:
    """The margin at every tau and the population bound: minimum and mean over strict seeds, stress seeds one by one."""
    strict = with_taus(parts.strict.rows, view.columns)
    names = [*(tau_column(tau) for tau in view.columns), "population_bound"]
    by = [*compare.CONFIG, "mode"]
    pooled = strict.groupby(by, sort=False)
    worst = pooled[names].min().join(compare.counts(pooled, ("margin", "population_bound")))
    mean = pooled[names].mean().join(compare.counts(pooled, ("margin",)))
    mean["population_bound"] = float("nan")  # the mean of bounds bounds nothing
    ends = [line.assign(endpoint=f"{how} over strict-feasible seeds") for how, line in (("min", worst), ("mean", mean))]
    stress = with_taus(parts.stress.listed, view.columns).set_index(by)
    one_by_one = stress[names].assign(endpoint=["seed " + str(seed) + " (stress)" for seed in stress["seed"]], n=1)
    found = pd.concat([*ends, one_by_one.assign(n_failed=failed(stress).astype(int))])
    shown = ("label", "mode", "endpoint", *names, *SEEDS)
    note = "tau is a view on stored margins; the bound needs no tau and is a claim on the split certify only"
    return table("tau", "Sensitivity to tau", everything(parts), found.reset_index(), shown, (note, LACKING))


def claim_table(parts: Partition, view: View = DECLARED) -> Table:
    """The three separate claims of every row, in words, with the bounds behind the third."""
    rows = everything(parts)
    shown = rows.assign(
        on_rows=claims(rows["margin"], 0.0),
        at_tau=claims(rows["margin"], view.tau),
        in_population=claims(rows["population_bound"], 0.0).mask(rows["split"] != "certify", WORDS[None]),
    )
    names = (*CELL, "teacher_status", "on_rows", "at_tau", "in_population", *read_by("bounds"))
    notes = (
        "a positive margin proves that the head, hence the latent, is not constant; any other margin proves nothing",
        "the population claim is the bound by betting > 0 alone; all that are positive hold together with confidence "
        "1 − delta: looks at the same rows share delta, and so, by Holm, do the claims of one config",
    )
    return table("claims", "Three claims per row", rows, shown, names, notes, view.tau)


def reconstruction_table(parts: Partition) -> Table:
    """PSNR under its two names, row by row: two quantities, never compared or pooled with each other."""
    rows = everything(parts)
    names = (*CELL, "teacher_status", *read_by("reconstruction"))
    notes = (
        "both in dB with peak 1; [0,1] pixels is the project's metric and the constraint of searches",
        "standardised pixels is what paper A prints: another quantity, 11 to 12 dB lower on CIFAR",
    )
    return table("reconstruction", "Reconstruction in two pixel spaces", rows, rows, names, notes)


def teacher_table(parts: Partition, thresholds: Thresholds = DECLARED.thresholds) -> Table:
    """Quality control of the teacher of every seed, on the rows of this split, with the thresholds in the notes."""
    rows = everything(parts)
    best = rows.assign(share=rows["margin"] / rows["info"])
    taught = best[best["teacher_info"].notna()]
    teachers = taught.sort_values("margin", ascending=False).drop_duplicates([*compare.CONFIG, "seed"]).sort_index()
    names = ("label", "seed", "teacher_source", "teacher_status", *read_by("quality"), "share")
    notes = (
        f"strict-feasible: I_T ≥ {thresholds.info_share:g} log K, top-1 margin ≥ {thresholds.top1_margin:g}, "
        f"sharp rows ≥ {100 * thresholds.high_margin_share:g} %, usage KL at most {thresholds.usage_share:g} log K, "
        f"min mass ≥ {thresholds.min_mass_share:g} / K",
        "soft usage KL is KL(mean teacher row || uniform): the margin of a uniform student is minus this number",
    )
    return table("teachers", "Quality control of teachers", rows, teachers, names, notes)


def count_table(parts: Partition) -> Table:
    """How many seeds are behind the numbers, and how many searches found no strict-feasible teacher."""
    names = ("label", "cells", "strict", "stress", "no_teacher", "infeasible_searches", "diverged", "unknown")
    note = (
        "an infeasible search is one in which no candidate passed the filter: stress cases and seeds without a teacher"
    )
    return table("counts", "Seeds behind the numbers", everything(parts), compare.searches(parts), names, (note,))


def failure_table(parts: Partition) -> Table:
    """Every row without a margin, with the reason."""
    rows = everything(parts)
    note = "a failed run is counted in n_failed beside every mean and enters none"
    runs = rows[failed(rows)]
    runs = runs.assign(reason=runs["reason"].where(runs["outcome"] != "ok", "the margin is not finite"))
    return table("failures", "Runs without a margin", rows, runs, (*CELL, "outcome", "reason"), (note,))


def _wide(strict: Strict, quantities: list[str]) -> pd.DataFrame:
    """`compare.summary` with one line per config and mode, in its order, and columns `<quantity>_<statistic>`."""
    found = compare.summary(strict, quantities)
    by = [*compare.CONFIG, "mode"]
    groups = {
        name: lines.set_index(by)[["mean", "sd", "min", "max", "n", "n_failed"]].add_prefix(f"{name}_")
        for name, lines in ((name, found[found["quantity"] == name]) for name in quantities)
    }
    return pd.concat(groups.values(), axis=1).reset_index()


def table(
    name: str,
    title: str,
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    shown: Sequence[str | Column],
    notes: Sequence[str],
    tau: float | None = None,
    *,
    whole: bool = False,
) -> Table:
    """A table that names configs where there are several, and says where its rows come from.

    Args:
        rows: what the table is about: its caption and its title.
        frame: the lines.
        shown: names of columns, or columns; `label` names a config.
        notes: what a reader must know, after the caption.
        tau: nats, where margins are held against it.
        whole: columns without any value stay; else they are left out.
    """
    named = frame
    several = rows["config"].nunique() > 1 and "config" in frame
    if several:
        named = frame.assign(label=frame["config"].map(labels(rows)))
    every = (column for one in shown for column in ((one,) if isinstance(one, Column) else columns(one)))
    wanted = [column for column in every if column.name != "label" or several]
    known = present(named, wanted) if len(named) and not whole else tuple(wanted)
    origin = caption(rows, tau)
    return Table(name, clean(f"{title} — {subject(rows)}"), named, known, tuple(map(clean, (origin, *notes))))
