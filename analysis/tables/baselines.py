"""VAEs that nobody aligned: the raw head, and what heads that are fitted afterwards find in the same latent.

baseline_table(strict)    means by method, and the printed signs; the printed numbers on the printed data set
verdict_table(parts)      every row with what may be said of its code
"""

import pandas as pd

from analysis import compare
from analysis.printed import BASELINES
from analysis.table import Column, Table
from analysis.tables.margins import CELL, MODE, PSNR_01, PSNR_STD, SEEDS, SURVIVORS, table
from analysis.tables.teachers import one_teaching, with_columns
from analysis.views import DECLARED, Partition, Strict, View, everything, strict_rows, tau_heading
from certvae.certificate import FLOAT_SLACK, WORDS
from certvae.spec.modes import ordered

HEADS = {
    "margin": "raw head",
    "relabelled_margin": "raw head, classes renamed",
    "affine_margin": "best affine head",
    "short_affine_margin": "affine head, stopped early",
}
MEANS = (
    *(*HEADS, "student_info", "affine_student_info", "short_affine_student_info", "probe_accuracy"),
    *("psnr_01", "psnr_std", "active_units", "kl_rate", "binding_units", "used_codes"),
)
ALIVE = {"active_units": 0, "kl_rate": 0.05}
"""A code without active units, and with a KL rate below this many nats, may be constant."""


def baseline_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per method: mean margins of all heads at tau, information, reconstruction; printed signs or numbers beside them.

    Raises:
        Refused: for anything but `Strict`, or rows that were not taught alike.
    """
    rows = with_columns(one_teaching(strict_rows(strict)), *MEANS)
    found = compare.summary(Strict(rows, strict.thresholds), MEANS)
    frame = found.pivot(index=[*compare.CONFIG, "mode"], columns="quantity", values="mean").reset_index()
    counts = found[found["quantity"] == "margin"].set_index([*compare.CONFIG, "mode"])[["n", "n_failed"]]
    frame = frame.join(counts, on=[*compare.CONFIG, "mode"])
    frame = frame.assign(**{name: frame[name] - view.tau for name in HEADS})
    frame = frame.merge(_printed(rows), on="mode", how="left")
    frame = frame.sort_values("mode", key=lambda modes: modes.map(ordered(modes).index), ignore_index=True)
    notes = (
        SURVIVORS,
        "the raw head of a baseline never heard of the teacher: not certified says that, and nothing of the latent",
        "every head reads the latent alone; fitted ones see train rows, are stopped on guard rows, and are judged here",
        "an affine head contains all constants: fitted to the end its train margin is never negative, so the printed "
        "post-hoc values are those of a head that was not; one stopped early after a start near uniform stands beside "
        f"the fitted one. Printed: {BASELINES.source}, tau = {BASELINES.tau:.2f}",
    )
    return table("baselines", "Baselines", rows, frame, _columns(view), notes, view.tau)


def verdict_table(parts: Partition) -> Table:
    """Every row with what may be said of its code: collapse is a word for a code, and not for a head."""
    rows = everything(parts)
    known = with_columns(rows, "affine_margin", "affine_population_bound")
    columns = (
        *CELL,
        Column("teacher_status", "teacher", "text"),
        Column("margin", "raw head: G_0", "signed"),
        Column("affine_margin", "best affine head: G_0", "signed"),
        Column("affine_population_bound", "best affine head: L2", "signed"),
        Column("active_units", "active units", "count"),
        Column("kl_rate", "KL, nats", "decibel"),
        Column("code", "code", "text"),
    )
    note = (
        "a code is called constant only when no unit is active, its KL rate is below 0.05 nats and the best affine "
        "head has no positive bound; otherwise a head that is not certified says nothing of the code"
    )
    shown = known.assign(code=code_words(known))
    return table("verdicts", "Heads that are not certified, and codes that are constant", rows, shown, columns, (note,))


def code_words(rows: pd.DataFrame) -> pd.Series:
    """`certified`, `head not certified, code alive`, `constant code`, or `not known` for each row."""
    words = pd.Series("head not certified, code alive", index=rows.index, dtype=object)
    still = (rows["active_units"] <= ALIVE["active_units"]) & (rows["kl_rate"] < ALIVE["kl_rate"])
    words = words.mask(still & (rows["affine_population_bound"] <= 0), "constant code")
    words = words.mask(rows["affine_population_bound"].isna() & still, "not known")
    words = words.mask(rows["margin"].isna(), "not known")
    return words.mask(rows["margin"] > FLOAT_SLACK, WORDS[True])


def _columns(view: View) -> tuple[Column, ...]:
    symbol = tau_heading(view.tau)
    return (
        MODE,
        *(Column(name, f"{heading}: {symbol}", "signed") for name, heading in HEADS.items()),
        Column("student_info", "raw head: I_S"),
        Column("affine_student_info", "best affine head: I_S"),
        PSNR_01,
        PSNR_STD,
        Column("active_units", "active units", "decibel"),
        Column("kl_rate", "KL, nats", "decibel"),
        Column("probe_accuracy", "label probe", "share"),
        Column("binding_units", "units on which free bits bind", "decibel"),
        Column("used_codes", "codes in use", "decibel"),
        *SEEDS,
        Column("printed_signs", "printed signs, raw and post-hoc", "text"),
        Column("printed_margin", f"printed: raw {tau_heading(BASELINES.tau)}", "signed"),
        Column("printed_affine", f"printed: post-hoc {tau_heading(BASELINES.tau)}", "signed"),
        Column("printed_psnr", "printed: PSNR", "decibel"),
        Column("printed_units", "printed: active units", "count"),
    )


def _printed(rows: pd.DataFrame) -> pd.DataFrame:
    """Printed signs by mode; the numbers too where ours are of the same data set and of no substitute."""
    theirs = BASELINES.rows
    pairs = zip(theirs["margin_tau"], theirs["posthoc_margin_tau"], strict=True)
    signs = [" ".join("+" if margin > 0 else "−" for margin in pair) for pair in pairs]
    found = pd.DataFrame({"mode": theirs["mode"], "printed_signs": signs})
    if set(rows["data"]) != {BASELINES.data} or bool(rows["substitute"].notna().any()):
        return found
    return found.assign(
        printed_margin=theirs["margin_tau"],
        printed_affine=theirs["posthoc_margin_tau"],
        printed_psnr=theirs["psnr_01"],
        printed_units=theirs["active_units"],
    )
