"""Quality control of teachers: every candidate of every search against the thresholds, the chosen one ringed."""

from math import log

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from certvae.quality import Thresholds
from certvae.terminal import number_of

from ..captions import caption
from ..views import candidate_verdict
from .drawing import FORMULA, INK, canvas, drawn, legend, point, titled

MOST_TEACHERS = 12
SPREAD = 0.3  # half the width over which candidates of one search are laid out
_LOOKS = {"strict-feasible": ("C0", "o"), "stress-case": ("C1", "x")}


@drawn
def teacher_quality(candidates: pd.DataFrame, thresholds: Thresholds) -> Figure:
    """Six diagnostics of all candidates, judged anew, with the thresholds of the strict filter.

    Args:
        candidates: from `load.candidates`; those that could not be fitted have no numbers and are counted.
        thresholds: the strict filter.
    """
    seeds = sorted(candidates["seed"].unique().tolist())[:MOST_TEACHERS]
    shown = candidates[candidates["seed"].isin(seeds) & candidates["info"].notna()]
    judged = shown.assign(status=[candidate_verdict(one, thresholds).status for one in shown.to_dict("records")])
    figure = canvas(8.6, 4.8)
    panels = figure.subplots(2, 3, sharex=True)
    limits = _limits(thresholds, int(candidates["classes"].max()))
    for axes, (name, title, limit, at_least) in zip(panels.flat, limits, strict=True):
        _strip(axes, judged, name, seeds)
        axes.axhline(limit, color=INK, linewidth=1.1)
        low, high = axes.get_ylim()
        axes.axhspan(*((low, limit) if at_least else (limit, high)), color="0.5", alpha=0.13, linewidth=0)
        axes.set_ylim(low, high)
        axes.set_title(title, **FORMULA)
    for axes in panels[-1]:
        axes.set_xticks(range(len(seeds)), [str(seed) for seed in seeds])
        axes.set_xlabel("seed of the search")
    legend(figure, _handles())
    missing = int(candidates["info"].isna().sum())
    searches = number_of(candidates["seed"].nunique(), "search", "searches")
    counts = f"n = {len(candidates)} candidates of {searches}, {missing} not fitted"
    return titled(figure, "Quality control of teacher candidates", f"{counts} · {caption(candidates)} · no tau enters")


def _limits(thresholds: Thresholds, classes: int) -> list[tuple[str, str, float, bool]]:
    """(column, title, threshold, True when values must be at least that)."""
    top = log(classes)
    return [
        ("info", "information $I_T$, nats", thresholds.info_share * top, True),
        ("top1_margin", "top-1 margin", thresholds.top1_margin, True),
        ("high_margin_share", "share of sharp rows", thresholds.high_margin_share, True),
        ("hard_usage_kl", "hard usage KL, nats", thresholds.usage_share * top, False),
        ("soft_usage_kl", "soft usage KL, nats", thresholds.usage_share * top, False),
        ("min_mass", "min mass x K", thresholds.min_mass_share, True),
    ]


def _strip(axes: Axes, judged: pd.DataFrame, name: str, seeds: list[int]) -> None:
    scale = judged["classes"] if name == "min_mass" else 1.0
    values = judged.assign(value=judged[name] * scale)
    for place, seed in enumerate(seeds):
        search = values[values["seed"] == seed]
        x = place + np.linspace(-SPREAD, SPREAD, len(search)) if len(search) > 1 else np.array([float(place)])
        for status, (colour, marker) in _LOOKS.items():
            mine = (search["status"] == status).to_numpy()
            axes.scatter(x[mine], search["value"][mine], s=11, color=colour, marker=marker, linewidths=0.9)
        chosen = search["chosen"].to_numpy(bool)
        ring = {"facecolors": "none", "edgecolors": "C5", "linewidths": 1.6}
        axes.scatter(x[chosen], search["value"][chosen], s=75, marker="o", zorder=3, **ring)


def _handles() -> list[Line2D]:
    return [
        *(point(status, *look, markersize=4) for status, look in _LOOKS.items()),
        point("chosen", "C5", "o", hollow=True, markersize=8, markeredgewidth=1.6),
        Line2D([], [], color=INK, linewidth=1.1, label="threshold (shaded: misses it)"),
    ]
