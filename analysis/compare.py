"""Aggregates strict-feasible rows: per mode, between paired modes, and how many runs are behind the numbers.

The seed is the unit of replication, and modes are paired by teacher: `full - no_align` of one seed shares warm-up,
teacher and data order. With a handful of seeds that means a paired t interval and every seed shown.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from certvae.certificate import WORDS
from certvae.spec.modes import contrasts as known_contrasts
from certvae.spec.modes import expected_sign
from certvae.spec.quantities import read_by

from .intervals import LEVEL, interval, sign_flip
from .views import NO_TEACHER, UNKNOWN, Partition, Refused, Strict, claims, everything, strict_rows

if TYPE_CHECKING:
    from pandas.api.typing import DataFrameGroupBy

CONFIG = ["study", "config"]
CELL = ["study", "config", "seed"]


def summary(strict: Strict, quantities: Sequence[str] = read_by("summary")) -> pd.DataFrame:
    """One line per config, mode and quantity: mean, sd and worst values over seeds.

    Columns: study, config, mode, quantity, split, mean, sd, min, max, n (seeds that were run), n_failed (of these,
    without this number). Mean, sd, min and max are over the n - n_failed others: read them with n_failed beside them.

    Raises:
        Refused: for anything but `Strict`.
    """
    rows = strict_rows(strict)
    by = [*CONFIG, "mode", "split"]
    tall = rows.melt(id_vars=[*by, "seed"], value_vars=list(quantities), var_name="quantity")
    groups = tall.assign(value=pd.to_numeric(tall["value"])).groupby([*by, "quantity"], sort=False)["value"]
    found = groups.agg(["mean", "std", "min", "max", "size", "count"]).reset_index()
    found = found.assign(n_failed=found["size"] - found["count"])
    return found.rename(columns={"std": "sd", "size": "n"}).drop(columns="count")


def lacking(rows: pd.DataFrame, numbers: Sequence[str]) -> int:
    """How many of these rows, one for each seed, lack the margin, or one of these numbers that another of them has."""
    known = rows[list(numbers)]
    expected = known.notna().any() | (known.columns == "margin")
    return int(known.loc[:, expected].isna().any(axis=1).sum())


def counts(groups: "DataFrameGroupBy", numbers: Sequence[str]) -> pd.DataFrame:
    """`n` seeds of each group, and `n_failed` of them that lack a number; of no group as well."""
    return pd.DataFrame({"n": groups.size(), "n_failed": [lacking(rows, numbers) for _, rows in groups]}, dtype=int)


def differences(strict: Strict, mode: str, reference: str, quantity: str = "margin") -> pd.DataFrame:
    """`quantity` of `mode` minus that of `reference`, one line per config and seed; NaN where either is missing.

    Columns: study, config, seed, split, difference.

    Raises:
        Refused: for anything but `Strict`, or when a pair does not share its teacher.
    """
    rows = strict_rows(strict)
    fields = [*CELL, "split", "key_teacher", quantity]
    ours, other = (rows.loc[rows["mode"] == name, fields] for name in (mode, reference))
    pairs = ours.merge(other, on=[*CELL, "split"], how="outer", suffixes=("", "_reference"))
    _refuse_other_teacher(pairs, mode, reference)
    place = {config: number for number, config in enumerate(rows["config"].unique())}  # a merge sorts by digest
    pairs = pairs.sort_values("config", key=lambda configs: configs.map(place), kind="stable", ignore_index=True)
    return pairs[[*CELL, "split"]].assign(difference=pairs[quantity] - pairs[f"{quantity}_reference"])


def contrast(strict: Strict, mode: str, reference: str, quantity: str = "margin") -> pd.DataFrame:
    """One line per config: the mean paired difference with its interval and its sign-flip p-value.

    Columns: study, config, split, mode, reference, quantity, mean, low, high, level, method, p, p_smallest, n, n_failed
    (pairs). The interval is NaN for fewer than two finished pairs.

    Raises:
        Refused: see `differences`.
    """
    pairs = differences(strict, mode, reference, quantity)
    lines = [
        {**dict(zip([*CONFIG, "split"], key, strict=True)), **paired(group["difference"].to_numpy())}
        for key, group in pairs.groupby([*CONFIG, "split"], sort=False)
    ]
    named = pd.DataFrame(lines, columns=[*CONFIG, "split", *_PAIRED])
    return named.assign(mode=mode, reference=reference, quantity=quantity, level=LEVEL, method="t")


def contrasts(strict: Strict, quantities: Sequence[str] = ("margin", "psnr_01")) -> pd.DataFrame:
    """Every comparison of the papers whose modes are there, for each quantity; columns as in `contrast`."""
    pairs = known_contrasts(strict_rows(strict)["mode"])
    found = [contrast(strict, *pair, quantity) for pair in pairs for quantity in quantities]
    return pd.concat(found, ignore_index=True) if found else contrast(strict, "", "").iloc[:0]


def signs(strict: Strict, tau: float) -> pd.DataFrame:
    """Seeds certified at tau, per config and mode, beside the sign that the papers print.

    Columns: study, config, mode, split, expected, certified, n, n_failed, agree (seeds whose sign is the printed one).
    """
    rows = strict_rows(strict)
    words = claims(rows["margin"], tau)
    marked = rows.assign(certified=words == WORDS[True], refused=words == WORDS[False], missing=rows["margin"].isna())
    groups = marked.groupby([*CONFIG, "mode", "split"], sort=False)
    found = groups.agg(
        n=("seed", "size"), n_failed=("missing", "sum"), certified=("certified", "sum"), refused=("refused", "sum")
    ).reset_index()
    expected = found["mode"].map({mode: expected_sign(mode) for mode in set(found["mode"])})
    agree = found["certified"].where(expected == "+", found["refused"]).where(expected.notna())
    return found.assign(expected=expected, agree=agree).drop(columns="refused")


def searches(parts: Partition) -> pd.DataFrame:
    """How many seeds are behind the numbers, one line per study and config.

    Columns: study, config, split, cells, strict, stress, no_teacher (searches that found none), infeasible_searches
    (stress + no_teacher: no candidate passed the filter), unknown, diverged (rows, not seeds).
    """
    rows = everything(parts)
    cells = rows.groupby([*CELL, "split"], sort=False).agg(
        none=("outcome", lambda found: (found == NO_TEACHER).all()),
        stressed=("teacher_status", lambda found: (found == "stress-case").any()),
        unknown=("teacher_status", lambda found: (found == UNKNOWN).all()),
        diverged=("outcome", lambda found: (found == "diverged").sum()),
    )
    cells = cells.assign(
        cells=1,
        no_teacher=cells["none"],
        stress=cells["stressed"] & ~cells["none"],
        strict=~cells["stressed"] & ~cells["unknown"],
        infeasible_searches=cells["stressed"],
    )
    shown = ["cells", "strict", "stress", "no_teacher", "infeasible_searches", "unknown", "diverged"]
    return cells.groupby([*CONFIG, "split"], sort=False)[shown].sum().astype(int).reset_index()


_PAIRED = ("mean", "low", "high", "p", "p_smallest", "n", "n_failed")


def paired(differences: np.ndarray) -> dict[str, Any]:
    """Mean, interval and sign-flip p-value of differences, NaN among them counted as failed."""
    found = differences[np.isfinite(differences)]
    counts = {"n": len(differences), "n_failed": len(differences) - len(found)}
    if not len(found):
        return dict.fromkeys(_PAIRED, np.nan) | counts
    flips = sign_flip(found)
    limits = interval(found) if len(found) > 1 else None
    return counts | {
        "mean": found.mean(),
        "low": limits.low if limits else np.nan,
        "high": limits.high if limits else np.nan,
        "p": flips.p,
        "p_smallest": flips.smallest,
    }


def _refuse_other_teacher(pairs: pd.DataFrame, mode: str, reference: str) -> None:
    both = pairs.dropna(subset=["key_teacher", "key_teacher_reference"])
    other = both[both["key_teacher"] != both["key_teacher_reference"]]
    if len(other):
        raise Refused(
            f"wanted {mode} and {reference} of one teacher, found two teachers for seed {other.iloc[0]['seed']}",
            "compare the modes of one chain",
            where="paired difference",
            cause="modes are paired by teacher: between teachers a margin differs for other reasons",
        )
