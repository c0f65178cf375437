"""Rows to the tables of the papers, each a `Table`: numbers in a frame, headings, and notes that name their origin.

Strict-feasible rows are aggregated, stress cases are listed one by one. In a notebook:

    from analysis.load import load
    from analysis.views import DECLARED, partition

    strict, stress = partition(load("store", "tiny_fixed_q", split="certify"))
    summary_table(strict, DECLARED).frame
"""

from collections.abc import Sequence

import pandas as pd

from analysis import compare
from analysis.captions import caption, subject
from analysis.parameters import labels
from analysis.table import Column, Table, clean, present
from analysis.views import (
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
    tau_heading,
    with_taus,
)
from certvae.certificate import WORDS
from certvae.quality import Thresholds

CONFIG = Column("label", "config", "text")
SEED = Column("seed", "seed", "count")
MODE = Column("mode", "mode", "text")
CELL = (CONFIG, SEED, MODE)
TEACHER = (Column("info", "I_T"), Column("loss", "L_TS"))
HEALTH = (
    Column("student_info", "I_S"),
    Column("student_used_classes", "classes used", "count"),
    Column("active_units", "active units", "count"),
    Column("kl_rate", "KL, nats", "decibel"),
)
PSNR_01 = Column("psnr_01", "PSNR, [0,1] pixels", "decibel")
PSNR_STD = Column("psnr_std", "PSNR, standardised pixels", "decibel")
LATENT_ONLY = Column("psnr_01_latent_only", "PSNR, [0,1] pixels, mean teacher row in the decoder", "decibel")
SEEDS = (Column("n", "seeds", "count"), Column("n_failed", "n_failed", "count"))
SURVIVORS = "mean, sd, min and max are over the seeds that have the number: seeds minus n_failed"


def summary_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per mode: the mean of each quantity, and mean, sd, min and max of the margin at every tau."""
    rows = with_taus(strict_rows(strict), view.columns)
    taus = {tau: tau_column(tau) for tau in view.columns}
    frame = _wide(Strict(rows, strict.thresholds), ["info", "loss", "student_info", *taus.values()])
    frame = frame.assign(n=frame[f"{taus[view.tau]}_n"], n_failed=frame[f"{taus[view.tau]}_n_failed"])
    shown = [
        *(
            Column(f"{name}_mean", heading)
            for name, heading in (("info", "I_T"), ("loss", "L_TS"), ("student_info", "I_S"))
        ),
        *(Column(f"{name}_mean", f"{tau_heading(tau)} mean", "signed") for tau, name in taus.items()),
        Column(f"{taus[view.tau]}_sd", "sd"),
        *(Column(f"{taus[view.tau]}_{end}", f"{tau_heading(view.tau)} {end}", "signed") for end in ("min", "max")),
    ]
    notes = (SURVIVORS, "I_S, the information of the student, is a diagnostic and certifies nothing")
    return table(
        "summary", "Strict-feasible seeds by mode", rows, frame, (CONFIG, MODE, *shown, *SEEDS), notes, view.tau
    )


def seed_table(part: Strict | Stress, view: View = DECLARED) -> Table:
    """Every row on its own: strict-feasible ones, or stress cases with the thresholds that their teachers miss."""
    rows = part.rows if isinstance(part, Strict) else part.listed
    shown = with_taus(rows, view.columns).assign(claim=claims(rows["margin"], view.tau))
    taus = [Column(tau_column(tau), tau_heading(tau), "signed") for tau in view.columns]
    columns = (*TEACHER, *taus, Column("claim", f"at tau = {view.tau:.2f}", "text"), *HEALTH)
    if isinstance(part, Strict):
        return table("seeds", "Every strict-feasible seed", rows, shown, (*CELL, *columns), (), view.tau)
    reasons = Column("teacher_verdict", "why the teacher is a stress case", "text")
    note = "stress cases are listed one by one and never enter a mean, a minimum or a spread"
    return table("stress_cases", "Stress cases, one by one", rows, shown, (*CELL, reasons, *columns), (note,), view.tau)


def contrast_table(strict: Strict) -> Table:
    """Paired differences between modes, with t intervals and sign-flip p-values."""
    rows = strict_rows(strict)
    found = compare.contrasts(strict)
    frame = found.assign(contrast=found["mode"] + " − " + found["reference"], of=found["quantity"].map(_OF))
    columns = (
        CONFIG,
        Column("contrast", "difference", "text"),
        Column("of", "of", "text"),
        Column("mean", "mean", "signed"),
        Column("low", "95 % low", "signed"),
        Column("high", "95 % high", "signed"),
        Column("p", "sign-flip p", "p"),
        Column("p_smallest", "smallest p possible", "p"),
        *SEEDS,
    )
    notes = (
        "pairs share warm-up, teacher and data order; the interval is a paired t interval",
        "no p below the smallest possible one can be had with so few seeds, however large the difference",
    )
    return table("paired_differences", "Paired differences between modes", rows, frame, columns, notes)


def tau_table(parts: Partition, view: View = DECLARED) -> Table:
    """The margin at every tau and the population bound: minimum and mean over strict seeds, stress seeds one by one."""
    strict = with_taus(parts.strict.rows, view.columns)
    names = [*(tau_column(tau) for tau in view.columns), "population_bound"]
    by = [*compare.CONFIG, "mode"]
    pooled = strict.groupby(by, sort=False)
    lines = [pooled[names].agg(how).assign(endpoint=f"{how} over strict-feasible seeds") for how in ("min", "mean")]
    lines[1]["population_bound"] = float("nan")  # the mean of bounds bounds nothing
    counts = pooled.agg(n=("seed", "size"), n_failed=("margin", lambda found: int(found.isna().sum())))
    stress = with_taus(parts.stress.listed, view.columns).set_index(by)
    one_by_one = stress[names].assign(endpoint=["seed " + str(seed) + " (stress)" for seed in stress["seed"]], n=1)
    found = pd.concat([*(line.join(counts) for line in lines), one_by_one.assign(n_failed=failed(stress).astype(int))])
    columns = (
        CONFIG,
        MODE,
        Column("endpoint", "endpoint", "text"),
        *(Column(tau_column(tau), tau_heading(tau), "signed") for tau in view.columns),
        Column("population_bound", "population bound L2", "signed"),
        *SEEDS,
    )
    note = "tau is a view on stored margins; the bound L2 needs no tau and is a claim on the split certify only"
    return table("tau", "Sensitivity to tau", everything(parts), found.reset_index(), columns, (note, SURVIVORS))


def claim_table(parts: Partition, view: View = DECLARED) -> Table:
    """The three separate claims of every row, in words, with the bounds behind the third."""
    rows = everything(parts)
    shown = rows.assign(
        on_rows=claims(rows["margin"], 0.0),
        at_tau=claims(rows["margin"], view.tau),
        in_population=claims(rows["population_bound"], 0.0).mask(rows["split"] != "certify", WORDS[None]),
    )
    columns = (
        *CELL,
        Column("teacher_status", "teacher", "text"),
        Column("on_rows", "on these rows", "text"),
        Column("at_tau", f"at tau = {view.tau:.2f}", "text"),
        Column("in_population", "in the population", "text"),
        Column("population_bound", "L2, empirical Bernstein", "signed"),
        Column("mcdiarmid_bound", "L1, McDiarmid", "signed"),
        Column("brier_bound", "L4, Brier margin", "signed"),
        Column("wald_bound", "normal limit (descriptive)", "signed"),
        Column("delta", "delta", "short"),
        Column("looks", "looks", "count"),
    )
    notes = (
        "a positive margin proves that the head, hence the latent, is not constant; any other margin proves nothing",
        "the population claim is L2 > 0 alone, with error probability delta shared by all looks at the split certify",
    )
    return table("claims", "Three claims per row", rows, shown, columns, notes, view.tau)


def reconstruction_table(parts: Partition) -> Table:
    """PSNR under its two names, row by row: two quantities, never compared or pooled with each other."""
    rows = everything(parts)
    columns = (*CELL, Column("teacher_status", "teacher", "text"), PSNR_01, LATENT_ONLY, PSNR_STD)
    notes = (
        "both in dB with peak 1; [0,1] pixels is the project's metric and the constraint of searches",
        "standardised pixels is what paper A prints: another quantity, 11 to 12 dB lower on CIFAR",
    )
    return table("reconstruction", "Reconstruction in two pixel spaces", rows, rows, columns, notes)


def teacher_table(parts: Partition, thresholds: Thresholds = DECLARED.thresholds) -> Table:
    """Quality control of the teacher of every seed, on the rows of this split, with the thresholds in the notes."""
    rows = everything(parts)
    best = rows.assign(share=rows["margin"] / rows["info"])
    taught = best[best["teacher_info"].notna()]
    teachers = taught.sort_values("margin", ascending=False).drop_duplicates([*compare.CONFIG, "seed"]).sort_index()
    columns = (
        CONFIG,
        SEED,
        Column("teacher_source", "source", "text"),
        Column("teacher_status", "status", "text"),
        Column("teacher_info", "I_T"),
        Column("teacher_top1_margin", "top-1 margin"),
        Column("teacher_high_margin_share", "sharp rows", "share"),
        Column("teacher_hard_usage_kl", "hard usage KL"),
        Column("teacher_soft_usage_kl", "soft usage KL"),
        Column("teacher_min_mass", "min mass"),
        Column("share", "best G_0 / I_T", "short"),
    )
    notes = (
        f"strict-feasible: I_T ≥ {thresholds.info_share:g} log K, top-1 margin ≥ {thresholds.top1_margin:g}, "
        f"sharp rows ≥ {100 * thresholds.high_margin_share:g} %, usage KL at most {thresholds.usage_share:g} log K, "
        f"min mass ≥ {thresholds.min_mass_share:g} / K",
        "soft usage KL is KL(mean teacher row || uniform): the margin of a uniform student is minus this number",
    )
    return table("teachers", "Quality control of teachers", rows, teachers, columns, notes)


def count_table(parts: Partition) -> Table:
    """How many seeds are behind the numbers, and how many searches found no strict-feasible teacher."""
    columns = (
        CONFIG,
        Column("cells", "seeds run", "count"),
        Column("strict", "strict-feasible", "count"),
        Column("stress", "stress cases", "count"),
        Column("no_teacher", "no teacher at all", "count"),
        Column("infeasible_searches", "infeasible searches", "count"),
        Column("diverged", "diverged rows", "count"),
        Column("unknown", "teacher unknown", "count"),
    )
    note = (
        "an infeasible search is one in which no candidate passed the filter: stress cases and seeds without a teacher"
    )
    return table("counts", "Seeds behind the numbers", everything(parts), compare.searches(parts), columns, (note,))


def failure_table(parts: Partition) -> Table:
    """Every row without a margin, with the reason."""
    rows = everything(parts)
    columns = (*CELL, Column("outcome", "outcome", "text"), Column("reason", "reason", "text"))
    note = "a failed run is counted in n_failed beside every mean and enters none"
    runs = rows[failed(rows)]
    runs = runs.assign(reason=runs["reason"].where(runs["outcome"] != "ok", "the margin is not finite"))
    return table("failures", "Runs without a margin", rows, runs, columns, (note,))


def _wide(strict: Strict, quantities: list[str]) -> pd.DataFrame:
    """`compare.summary` with one line per config and mode, in its order, and columns `<quantity>_<statistic>`."""
    found = compare.summary(strict, quantities)
    by = [*compare.CONFIG, "mode"]
    groups = {
        name: lines.set_index(by)[["mean", "sd", "min", "max", "n", "n_failed"]].add_prefix(f"{name}_")
        for name, lines in ((name, found[found["quantity"] == name]) for name in quantities)
    }
    return pd.concat(groups.values(), axis=1).reset_index()


_OF = {"margin": "margin, nats", "psnr_01": "PSNR, [0,1] pixels, dB"}


def table(
    name: str,
    title: str,
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    notes: Sequence[str],
    tau: float | None = None,
) -> Table:
    """Names configs where there are several, drops columns that are empty, and says where the rows come from."""
    named = frame
    several = rows["config"].nunique() > 1 and "config" in frame
    if several:
        named = frame.assign(label=frame["config"].map(labels(rows)))
    shown = [column for column in columns if column.name != "label" or several]
    known = present(named, shown) if len(named) else tuple(shown)
    origin = caption(rows, tau)
    return Table(name, clean(f"{title} — {subject(rows)}"), named, known, tuple(map(clean, (origin, *notes))))
