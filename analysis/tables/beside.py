"""The papers' tables as they were printed, and ours beside them.

What counts as reproduced is the pattern of signs. Rows measured on a substitute of a data set are not set beside
numbers of the original: only their signs are.
"""

import pandas as pd

from analysis import compare
from analysis.captions import caption, subject
from analysis.printed import PAPER_A, TAU_SENSITIVITY, Printed
from analysis.table import Column, Table, clean, present
from analysis.tables.margins import CONFIG, HEALTH, MODE, PSNR_01, PSNR_STD, SEEDS, TEACHER, table
from analysis.views import DECLARED, Refused, Strict, View, claims, strict_rows, tau_heading, with_taus
from certvae.certificate import WORDS
from certvae.spec.modes import ordered

_MEANS = ("info", "loss", "posthoc_margin_tau", "train_margin")
SIGNS = {WORDS[True]: "+", WORDS[False]: "−"}


def printed_table(printed: Printed) -> Table:
    """One printed table as it stands in the paper; lost cells are dashes."""
    columns = (
        Column("seed", "seed", "text"),
        Column("teacher_status", "teacher", "text"),
        Column("mode", "mode", "text"),
        *TEACHER,
        Column("margin_tau", tau_heading(printed.tau), "signed"),
        Column("posthoc_margin_tau", f"post-hoc {tau_heading(printed.tau)}", "signed"),
        Column("posthoc_student_info", "post-hoc I_S"),
        Column("probe", "linear probe"),
        *HEALTH,
        PSNR_01,
        PSNR_STD,
        Column("reconstruction", "reconstruction, nats", "decibel"),
    )
    title = f"Printed: {printed.title}"
    notes = (f"{printed.source}; K = {printed.classes}; margins at tau = {printed.tau:.2f} nats", printed.remark)
    return Table(f"printed_{printed.name}", title, printed.rows, present(printed.rows, columns), notes)


def beside_table(strict: Strict, printed: Printed) -> Table:
    """Per mode: printed and our strict-feasible means, minima and signs at the printed tau.

    Raises:
        Refused: for anything but `Strict` rows of one config, measured on the printed data set itself.
    """
    rows = _comparable(strict, printed.data)
    theirs = printed.rows[printed.rows["teacher_status"] != "stress-case"]
    ours = rows.assign(margin_tau=rows["margin"] - printed.tau)
    if "affine_margin" in rows:
        ours = ours.assign(posthoc_margin_tau=rows["affine_margin"] - printed.tau)
    frame = _by_mode(theirs, "printed").join(_by_mode(ours, "ours"), how="outer")
    frame = frame.loc[ordered(frame.index)].rename_axis("mode").reset_index()
    symbol = tau_heading(printed.tau)
    columns = [Column("mode", "mode", "text")]
    for whose in ("printed", "ours"):
        columns += [
            Column(f"posthoc_margin_tau_{whose}", f"{whose}: post-hoc {symbol}", "signed"),
            Column(f"train_margin_{whose}", f"{whose}: G_0 on train rows", "signed"),
            Column(f"info_{whose}", f"{whose}: I_T"),
            Column(f"loss_{whose}", f"{whose}: L_TS"),
            Column(f"margin_mean_{whose}", f"{whose}: {symbol} mean", "signed"),
            Column(f"margin_min_{whose}", f"{whose}: {symbol} min", "signed"),
            Column(f"sign_{whose}", f"{whose}: signs", "text"),
            Column(f"n_{whose}", f"{whose}: seeds", "count"),
        ]
    columns.append(Column("n_failed_ours", "ours: n_failed", "count"))
    notes = (
        caption(rows, printed.tau),
        f"printed: {printed.source}, without its stress cases; {printed.remark}",
        "signs, one per seed, are what counts as reproduced; seeds of the paper and ours are different networks",
    )
    title = clean(f"Printed and ours: {printed.title} — ours on {subject(rows)}")
    return Table(f"beside_{printed.name}", title, frame, present(frame, columns), tuple(map(clean, notes)))


def sign_table(strict: Strict, view: View = DECLARED) -> Table:
    """Per mode: the printed sign of the margin and in how many seeds ours has it."""
    rows = strict_rows(strict)
    found = compare.signs(strict, view.tau)
    frame = found.assign(expected=found["expected"].map({"+": "+", "-": "−"}))
    columns = (
        CONFIG,
        MODE,
        Column("expected", "printed sign", "text"),
        Column("certified", f"certified at tau = {view.tau:.2f}", "count"),
        Column("agree", "seeds with the printed sign", "count"),
        *SEEDS,
    )
    notes = (
        "the papers print + for aligned modes and − for modes without alignment, on every data set",
        "a seed without a positive margin is not certified; that alone does not say that its latent is constant",
    )
    return table("signs", "Signs of the margin", rows, frame, columns, notes, view.tau)


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
    columns = (
        Column("whose", "whose", "text"),
        Column("mode", "mode", "text"),
        Column("endpoint", "endpoint", "text"),
        *(Column(name, tau_heading(tau), "signed") for name, tau in taus.items()),
    )
    title = clean(f"Printed and ours: sensitivity to tau — ours on {subject(rows)}")
    return Table("beside_tau", title, frame, columns, (caption(rows),))


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
        11,
        f"wanted rows of one config on {' or '.join(dict.fromkeys(data))} itself, found {rows['config'].nunique()} "
        f"configs on {subject(rows)}",
        where="printed and ours",
        cause="numbers of another data set, of a substitute, or of several configs answer another question",
        remedy="compare the signs alone with sign_table",
    )


def _by_mode(rows: pd.DataFrame, whose: str) -> pd.DataFrame:
    """Means, minimum and signs per mode, columns ending in `_<whose>`."""
    known = rows.reindex(columns=["mode", "margin_tau", "averaged", *_MEANS])
    groups = known.fillna({"averaged": 1}).groupby("mode", sort=False)
    averaged = groups["averaged"].max() > 1
    marks = claims(rows["margin_tau"], 0.0).map(SIGNS).fillna("?").groupby(rows["mode"], sort=False)
    found = pd.DataFrame(
        {
            **{name: groups[name].mean() for name in _MEANS},
            "margin_mean": groups["margin_tau"].mean(),
            "margin_min": groups["margin_tau"].min().mask(averaged),
            "sign": pd.Series({mode: " ".join(found) + " (mean)" * int(averaged[mode]) for mode, found in marks}),
            "n": groups["averaged"].sum(),
            "n_failed": groups["margin_tau"].agg(lambda found: int(found.isna().sum())),
        }
    )
    return found.add_suffix(f"_{whose}")
