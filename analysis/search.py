"""Configs of a search, judged by the goal that the search had, and which parameters moved the score.

Which config is feasible and which is best, `certvae.spec.goal` says, here as in the search itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import nan
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy import stats

from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.modes import searched
from certvae.spec.noise import Noise
from certvae.spec.ranking import pareto_front, ranked

from .parameters import is_number
from .views import Partition, Refused, everything

LEAST_CONFIGS = 10
BINS = 4
MANY_VALUES = 6  # a numeric parameter with more values than this is cut into quartiles


def configs(
    parts: Partition,
    goal: Goal,
    seeds: Iterable[int] = (),
    ended: Mapping[str, str] = MappingProxyType({}),
    places: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> pd.DataFrame:
    """One line per config, the best first, from the guard rows of its strict-feasible seeds.

    Columns: study, config, split, mode, reference, score, margin_min and psnr_01 (mean over seeds) of the mode,
    psnr_change (mean paired difference to the reference, dB), slack (in the unit of the goal), kept (a probability),
    n (seeds scored), n_failed, n_stress, cells, outcome, reason, complete, feasible, front. A config with a failed
    seed has no score.

    Args:
        parts: rows of one study.
        goal: what the search maximised, see `load.searched`.
        seeds: those of the search; by default all that are there.
        ended: configs that the search ended early -> why, see `load.ended`: the reason of what is incomplete.
        places: where each config lies in the space, see `load.places`.

    Raises:
        Refused: no guard row.
    """
    rows = everything(parts)
    guard = rows[rows["split"] == "guard"]
    guard = guard[guard["seed"].isin(list(seeds))] if seeds else guard
    if guard.empty:
        raise Refused(
            f"wanted guard rows, found {', '.join(sorted(set(rows['split']))) or 'none'}",
            "load the rows of split guard",
            where="configs",
            cause="a search is judged on the guard split, so that certify rows are new to its winner",
        )
    found = judged(guard, goal, seeds, ended, places)
    front, noise = {one.config for one in pareto_front(found)}, Noise.pooled(found)
    given = {"study": guard["study"].iloc[0], "split": "guard", "mode": goal.mode, "reference": goal.reference}
    lines = [
        {
            **given,
            **_line(one),
            "kept": noise.kept(one) if noise.is_known and one.score is not None else nan,
            "cells": len(set(seeds) or set(guard["seed"])),
            "front": one.config in front,
        }
        for one in ranked(found, goal.certainty)
    ]
    return pd.DataFrame(lines)


def judged(
    guard: pd.DataFrame,
    goal: Goal,
    seeds: Iterable[int],
    ended: Mapping[str, str],
    places: Mapping[str, Mapping[str, float]],
) -> list[Judged]:
    """Every config as its search judges it, over its strict-feasible seeds.

    Args:
        guard: guard rows of one study.
        goal, seeds, ended, places: as in `configs`.
    """
    wanted, found = sorted(set(seeds) or set(guard["seed"])), []
    for config, lines in guard.groupby("config", sort=False):
        one = judge(str(config), wanted, lines.to_dict("records"), goal, places.get(str(config)))
        stopped = one.outcome == "incomplete" and one.config in ended
        found.append(replace(one, reason=ended[one.config]) if stopped else one)
    return found


def _line(one: Judged) -> dict[str, object]:
    scored = one.score is not None
    return {
        **{
            name: getattr(one, name)
            for name in ("config", "outcome", "reason", "n", "n_failed", "n_stress", "feasible")
        },
        "reason": one.reason or None,
        "complete": scored,
        "score": one.score if scored else nan,
        "margin_min": min(one.margins, default=nan),
        "psnr_01": one.psnr if scored else nan,
        "psnr_change": nan if one.psnr_drop is None else -one.psnr_drop,
        "slack": one.slack if scored else nan,
    }


def goal_of(rows: pd.DataFrame) -> Goal:
    """The usual goal for rows of no search: about the mode that most configs have together with its reference."""
    pair = searched(zip(rows["config"], rows["mode"], strict=True))
    return Goal() if pair is None else Goal(mode=pair[0], reference=pair[1])


def importance(scored: pd.DataFrame, varied: pd.DataFrame) -> pd.DataFrame:
    """How much each parameter alone moves the score, over the complete configs.

    Columns: parameter, importance, direction, configs. Importance is epsilon squared of Kruskal and Wallis (Tomczak and
    Tomczak, 2014), (H - k + 1) / (n - k) and at least 0, over the k values of a parameter, or its quartiles when it has
    more than 6: the share of the variance of the score's ranks that lies between these groups, with its expectation
    under no effect taken off. It sees main effects of any shape and no interactions. Direction is Spearman's rank
    correlation, NaN for a parameter that is no number.

    Raises:
        Refused: fewer than 10 complete configs.
    """
    complete = scored.dropna(subset="score").drop_duplicates("config")
    if len(complete) < LEAST_CONFIGS:
        raise Refused(
            f"importance needs at least {LEAST_CONFIGS} complete configs, got {len(complete)}",
            "search longer, or look at the slices",
            where="importance",
            cause="with fewer the ranking of parameters is that of chance",
        )
    values = complete["score"].to_numpy(float)
    found = [_importance(name, varied.loc[complete["config"], name], values) for name in varied.columns]
    columns = ["parameter", "importance", "direction", "configs"]
    return pd.DataFrame(found, columns=columns).sort_values("importance", ascending=False, ignore_index=True)


def _importance(name: str, parameter: pd.Series, score: np.ndarray) -> tuple[str, float, float, int]:
    numeric = is_number(parameter)
    groups = [score[parameter.to_numpy() == value] for value in parameter.unique()]
    if numeric and len(groups) > MANY_VALUES:
        codes = pd.qcut(parameter.rank(method="first"), BINS, labels=False).to_numpy()
        groups = [score[codes == code] for code in range(BINS)]
    direction = _rank_correlation(parameter.to_numpy(float), score) if numeric else np.nan
    return name, _epsilon_squared(groups), direction, len(score)


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's; NaN for a constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return nan
    return float(stats.spearmanr(x, y).statistic)


def _epsilon_squared(groups: list[np.ndarray]) -> float:
    k, n = len(groups), sum(map(len, groups))
    if k < 2 or n <= k or np.ptp(np.concatenate(groups)) == 0:
        return 0.0
    return max(0.0, float((stats.kruskal(*groups).statistic - k + 1) / (n - k)))
