"""The papers' tables as they were printed, and ours beside them.

What counts as reproduced is the pattern of signs. Rows measured on a substitute of a data set are not set beside
numbers of the original: only their signs are.
"""

from dataclasses import replace

import pandas as pd

from certvae.certificate import WORDS
from certvae.spec.modes import ordered

from .. import compare
from ..captions import caption, subject
from ..printed import PAPER_A, TAU_SENSITIVITY, Printed
from ..table import Table, clean, columns, present
from ..views import DECLARED, Refused, Strict, View, claims, strict_rows, tau_column, with_taus
from .margins import SEEDS, table

SIGNS = {WORDS[True]: "+", WORDS[False]: "−"}


def printed_table(printed: Printed) -> Table:
    """One printed table as it stands in the paper; lost cells are dashes."""
    rows = _at_tau(printed)
    shown = [column if column.name != "seed" else replace(column, form="text") for column in columns(*rows.columns)]
    title = f"Printed: {printed.title}"
    notes = (f"{printed.source}; K = {printed.classes}; margins at tau = {printed.tau:.2f} nats", printed.remark)
    return Table(f"printed_{printed.name}", title, rows, present(rows, shown), notes)


def beside_table(strict: Strict, printed: Printed) -> Table:
    """Per mode: printed and our strict-feasible means, minima and signs at the printed tau.

    Raises:
        Refused: for anything but `Strict` rows of one config, measured on the printed data set itself.
    """
    rows = _comparable(strict, printed.data)
    theirs, own = _at_tau(printed), tau_column(printed.tau)
    ours = rows.assign(**{own: rows["margin"] - printed.tau, f"posthoc_{own}": rows["affine_margin"] - printed.tau})
    theirs = theirs[theirs["teacher_status"] != "stress-case"]
    frame = _by_mode(theirs, own, "printed").join(_by_mode(ours, own, "ours"), how="outer")
    frame = frame.loc[ordered(frame.index)].rename_axis("mode").reset_index()
    shown = columns("mode", *(name for name in frame if name not in ("mode", "n_failed_printed")))
    notes = (
        caption(rows, printed.tau),
        f"printed: {printed.source}, without its stress cases; {printed.remark}",
        "signs, one per seed, are what counts as reproduced; seeds of the paper and ours are different networks",
    )
    title = clean(f"Printed and ours: {printed.title} — ours on {subject(rows)}")
    return Table(f"beside_{printed.name}", title, frame, present(frame, shown), tuple(map(clean, notes)))


def sign_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per mode: the printed sign of the margin and in how many seeds ours has it."""
    rows = strict_rows(strict)
    found = compare.signs(strict, view.tau)
    frame = found.assign(expected=found["expected"].map({"+": "+", "-": "−"}))
    shown = ("label", "mode", "expected", "certified", "agree", *SEEDS)
    notes = (
        "the papers print + for aligned modes and − for modes without alignment, on every data set",
        "a seed without a positive margin is not certified; that alone does not say that its latent is constant",
    )
    return table("signs", "Signs of the margin", rows, frame, shown, notes, view.tau)


def tau_beside_table(strict: Strict) -> Table:
    """Paper A's sensitivity to tau, with our minimum and mean beside its endpoints.

    Raises:
        Refused: see `beside_table`.
    """
    rows = _comparable(strict, *TAU_SENSITIVITY["data"])
    names = [name for name in TAU_SENSITIVITY.columns if name.startswith("margin_tau_")]
    taus = {name: float(name.removeprefix("margin_tau_")) for name in names}
    theirs = TAU_SENSITIVITY[TAU_SENSITIVITY["data"].isin(rows["data"])].assign(whose=PAPER_A)
    ours = with_taus(rows, taus.values()).groupby("mode", sort=False)[names]
    lines = [
        ours.agg(how).reset_index().assign(whose="ours", endpoint=f"{how} over strict-feasible seeds")
        for how in ("min", "mean")
    ]
    frame = pd.concat([theirs, *lines], ignore_index=True)
    title = clean(f"Printed and ours: sensitivity to tau — ours on {subject(rows)}")
    return Table("beside_tau", title, frame, columns("whose", "mode", "endpoint", *taus), (caption(rows),))


def comparable(strict: Strict, *data: str) -> bool:
    """True for rows of one config, measured on one of these data sets and on no substitute."""
    rows = strict_rows(strict)
    original = bool(rows["data"].isin(data).all()) and bool(rows["substitute"].isna().all())
    return rows["config"].nunique() == 1 and original


def _comparable(strict: Strict, *data: str) -> pd.DataFrame:
    rows = strict_rows(strict)
    if comparable(strict, *data):
        return rows
    raise Refused(
        f"wanted rows of one config on {' or '.join(dict.fromkeys(data))} itself, found {rows['config'].nunique()} "
        f"configs on {subject(rows)}",
        "compare the signs alone with sign_table",
        where="printed and ours",
        cause="numbers of another data set, of a substitute, or of several configs answer another question",
    )


def _at_tau(printed: Printed) -> pd.DataFrame:
    """The printed rows, with their tau in the names of the margins."""
    own = tau_column(printed.tau)
    return printed.rows.rename(columns={"margin_tau": own, "posthoc_margin_tau": f"posthoc_{own}"})


def _by_mode(rows: pd.DataFrame, margin: str, whose: str) -> pd.DataFrame:
    """Means, minimum and signs per mode, columns ending in `_<whose>`."""
    means = [f"posthoc_{margin}", "train_margin", "info", "loss", margin]
    known = rows.reindex(columns=["mode", "averaged", *means]).fillna({"averaged": 1})
    groups = known.groupby("mode", sort=False)
    averaged = groups["averaged"].max() > 1
    numbers = {name: "margin" if name == margin else name for name in means}
    marks = claims(rows[margin], 0.0).map(SIGNS).fillna("?").groupby(rows["mode"], sort=False)
    found = groups[means].mean().rename(columns={margin: f"{margin}_mean"})
    found = found.assign(
        **{f"{margin}_min": groups[margin].min().mask(averaged)},
        sign=pd.Series({mode: " ".join(found) + " (mean)" * int(averaged[mode]) for mode, found in marks}),
        n=groups["averaged"].sum(),
        n_failed=[compare.lacking(one.rename(columns=numbers), [*numbers.values()]) for _, one in groups],
    )
    return found.add_suffix(f"_{whose}")
