"""Configs of a search: their scores, the Pareto front, and which parameters moved the margin.

Nothing is selected here. A config with a failed seed is incomplete: its means are NaN, never those of the survivors.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

from analysis.compare import CELL, CONFIG
from analysis.parameters import is_number
from analysis.views import DECLARED, Refused, Strict, View, strict_rows
from certvae.spec.modes import searched

LEAST_CONFIGS = 10
BINS = 4
MANY_VALUES = 6  # a numeric parameter with more values than this is cut into quartiles


def configs(strict: Strict, view: View = DECLARED) -> pd.DataFrame:
    """One line per config, from its strict-feasible seeds.

    Columns: study, config, split, mode, reference, margin and psnr_01 (means over seeds, of the mode that a search is
    about), margin_min, psnr_change (mean paired difference to the reference, dB), n, n_failed, complete, feasible
    (complete, and the PSNR constraint of `view` holds for the means), front (on the Pareto front of both means).

    Raises:
        Refused: for anything but `Strict`, or when no mode has its reference.
    """
    rows = strict_rows(strict)
    mode, reference = _pair(rows)
    fields = [*CELL, "split", "margin", "psnr_01"]
    ours, other = (rows.loc[rows["mode"] == name, fields] for name in (mode, reference))
    cells = ours.merge(other, on=[*CELL, "split"], how="outer", suffixes=("", "_reference"))
    cells = cells.assign(psnr_change=cells["psnr_01"] - cells["psnr_01_reference"])
    numbers = ["margin", "psnr_01", "psnr_change"]
    groups = cells.assign(whole=cells[numbers].notna().all(axis=1)).groupby([*CONFIG, "split"], sort=True)
    found = groups[numbers].mean().assign(margin_min=groups["margin"].min(), n=groups.size())
    found = found.assign(n_failed=found["n"] - groups["whole"].sum(), complete=groups["whole"].all())
    for name in (*numbers, "margin_min"):
        found[name] = found[name].where(found["complete"])
    return found.assign(
        mode=mode,
        reference=reference,
        feasible=found["complete"] & _constraint(found, view),
        front=pareto(found["margin"].to_numpy(), found["psnr_01"].to_numpy()),
    ).reset_index()


def pair_of(rows: pd.DataFrame) -> tuple[str, str] | None:
    """The mode that a search over these rows is about, and its reference; None when there is no such pair."""
    return searched(zip(rows["config"], rows["mode"], strict=True))


def ranked(scored: pd.DataFrame) -> pd.DataFrame:
    """Feasible configs first, then by falling mean margin: an order to look at, not a selection."""
    return scored.sort_values(["feasible", "margin", "config"], ascending=[False, False, True], ignore_index=True)


def pareto(margin: Float[np.ndarray, " n"], psnr: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """True where no other point is at least as good in both and better in one; never for a NaN."""
    front = np.zeros(len(margin), dtype=bool)
    known = np.flatnonzero(np.isfinite(margin) & np.isfinite(psnr))
    order = known[np.lexsort((-psnr[known], -margin[known]))]
    best, last = -np.inf, (np.nan, np.nan)
    for point in order:
        if psnr[point] > best or (margin[point], psnr[point]) == last:
            front[point], best, last = True, psnr[point], (margin[point], psnr[point])
    return front


def importance(scored: pd.DataFrame, varied: pd.DataFrame, score: str = "margin") -> pd.DataFrame:
    """How much each parameter alone moves the score, over the complete configs.

    Columns: parameter, importance, direction, n. Importance is epsilon squared of Kruskal and Wallis (Tomczak and
    Tomczak, 2014), (H - k + 1) / (n - k) and at least 0, over the k values of a parameter, or its quartiles when it has
    more than 6: the share of the variance of the score's ranks that lies between these groups, with its expectation
    under no effect taken off. It sees main effects of any shape and no interactions. Direction is Spearman's rank
    correlation, NaN for a parameter that is no number.

    Raises:
        Refused: fewer than 10 complete configs.
    """
    complete = scored.dropna(subset=score).drop_duplicates("config")
    if len(complete) < LEAST_CONFIGS:
        raise Refused(
            9,
            f"importance needs at least {LEAST_CONFIGS} complete configs, got {len(complete)}",
            where="importance",
            cause="with fewer the ranking of parameters is that of chance",
            remedy="search longer, or look at the slices",
        )
    values = complete[score].to_numpy(float)
    found = [_importance(name, varied.loc[complete["config"], name], values) for name in varied.columns]
    columns = ["parameter", "importance", "direction", "n"]
    return pd.DataFrame(found, columns=columns).sort_values("importance", ascending=False, ignore_index=True)


def _pair(rows: pd.DataFrame) -> tuple[str, str]:
    pair = pair_of(rows)
    if pair is None:
        raise Refused(
            10,
            f"wanted a mode and its reference, found {', '.join(sorted(set(rows['mode']))) or 'no rows'}",
            where="configs",
            cause="the PSNR constraint of a search is relative to a mode without alignment",
            remedy="give the rows of whole chains",
        )
    return pair


def _constraint(found: pd.DataFrame, view: View) -> pd.Series:
    """Both bounds of a view on the means; NaN meets none."""
    floor = -np.inf if view.psnr_floor is None else view.psnr_floor
    drop = np.inf if view.psnr_drop is None else view.psnr_drop
    return (found["psnr_01"] >= floor) & (found["psnr_change"] >= -drop)


def _importance(name: str, parameter: pd.Series, score: np.ndarray) -> tuple[str, float, float, int]:
    numeric = is_number(parameter)
    groups = [score[parameter.to_numpy() == value] for value in parameter.unique()]
    if numeric and len(groups) > MANY_VALUES:
        codes = pd.qcut(parameter.rank(method="first"), BINS, labels=False).to_numpy()
        groups = [score[codes == code] for code in range(BINS)]
    direction = _rank_correlation(parameter.to_numpy(float), score) if numeric else np.nan
    return name, _epsilon_squared(groups), direction, len(score)


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's: the correlation of ranks, NaN for a constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def _epsilon_squared(groups: list[np.ndarray]) -> float:
    k, n = len(groups), sum(map(len, groups))
    if k < 2 or n <= k or np.ptp(np.concatenate(groups)) == 0:
        return 0.0
    return max(0.0, float((stats.kruskal(*groups).statistic - k + 1) / (n - k)))
