"""VAEs that nobody aligned: the raw head, and what heads that are fitted afterwards find in the same latent.

baseline_table(strict)    means by method, and the printed signs; the printed numbers on the printed data set
verdict_table(parts)      every row with what may be said of head, mean and channel
"""

import pandas as pd

from certvae.spec.modes import ordered

from .. import compare
from ..printed import BASELINES
from ..table import Table
from ..views import DECLARED, Partition, Strict, View, claims, everything, strict_rows, tau_column
from .margins import CELL, LACKING, SEEDS, table
from .teachers import one_teaching

HEADS = ("margin", "relabelled_margin", "affine_margin", "short_affine_margin")
OTHERS = (
    *("student_info", "affine_student_info", "short_affine_student_info", "probe_accuracy"),
    *("psnr_01", "psnr_std", "active_units", "kl_rate", "binding_units", "used_codes"),
)
THEIRS = {
    "margin_tau": f"{tau_column(BASELINES.tau)}_printed",
    "posthoc_margin_tau": f"posthoc_{tau_column(BASELINES.tau)}_printed",
    "psnr_01": "psnr_01_printed",
    "active_units": "active_units_printed",
}
"""Printed columns that stand beside ours -> how they are called there."""


def baseline_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per method: mean margins of all heads at tau, information, reconstruction; printed signs or numbers beside them.

    Raises:
        Refused: for anything but `Strict`, or rows that were not taught alike.
    """
    rows = one_teaching(strict_rows(strict))
    found = compare.summary(Strict(rows, strict.thresholds), (*HEADS, *OTHERS))
    frame = found.pivot(index=[*compare.CONFIG, "mode"], columns="quantity", values="mean").reset_index()
    by = [*compare.CONFIG, "mode"]
    frame = frame.join(compare.counts(rows.groupby(by), (*HEADS, *OTHERS)), on=by)
    at_tau = {f"{name}{tau_column(view.tau).removeprefix('margin')}": frame[name] - view.tau for name in HEADS}
    frame = frame.assign(**at_tau).merge(_printed(rows), on="mode", how="left")
    frame = frame.sort_values("mode", key=lambda modes: modes.map(ordered(modes).index), ignore_index=True)
    notes = (
        LACKING,
        "the raw head of a baseline never heard of the teacher: not certified says that, and nothing of the latent",
        "every head reads the latent alone; fitted ones see train rows, are stopped on guard rows, and are judged here",
        "an affine head contains all constants: fitted to the end its train margin is never negative, so the printed "
        "post-hoc values are those of a head that was not; one stopped early after a start near uniform stands beside "
        f"the fitted one. Printed: {BASELINES.source}, tau = {BASELINES.tau:.2f}",
    )
    shown = ("mode", *at_tau, *OTHERS, *SEEDS, "sign_printed", *THEIRS.values())
    return table("baselines", "Baselines", rows, frame, shown, notes, view.tau)


def verdict_table(parts: Partition) -> Table:
    """Every row with what may be said of head, mean and channel: a channel collapses, and a head does not."""
    rows = everything(parts)
    note = (
        "head, mean and channel have evidence of their own; only a dead channel is a collapse, and a head that is not "
        "certified says nothing of the code"
    )
    shown = rows.assign(claim=claims(rows["margin"], 0.0))
    numbers = ("margin", "affine_population_bound", "sampled_affine_population_bound", "kl_rate")
    names = (*CELL, "teacher_status", "claim", "mean_word", "channel_word", *numbers)
    return table("verdicts", "What may be said of head, mean and channel", rows, shown, names, (note,), 0.0)


def _printed(rows: pd.DataFrame) -> pd.DataFrame:
    """Printed signs, raw and post-hoc, by mode; the numbers too where ours are of that data set itself."""
    theirs = BASELINES.rows
    pairs = zip(theirs["margin_tau"], theirs["posthoc_margin_tau"], strict=True)
    signs = [" ".join("+" if margin > 0 else "−" for margin in pair) for pair in pairs]
    found = theirs[["mode"]].assign(sign_printed=signs)
    if set(rows["data"]) != {BASELINES.data} or bool(rows["substitute"].notna().any()):
        return found
    return found.join(theirs[list(THEIRS)].rename(columns=THEIRS))
