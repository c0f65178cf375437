"""Pictures of a search: margin against PSNR with the Pareto front, importance of parameters, slices."""

from collections.abc import Iterable
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from ..captions import seeds, versions
from ..parameters import is_number
from ..views import View
from .drawing import FORMULA, MARGIN, boundary, canvas, drawn, legend, point, psnr_regions, titled

COLUMNS = 3
MOST_SLICES = 9
RATIO = 30  # positive values that span more than this are shown on a logarithmic axis


@drawn
def config_tradeoff(scored: pd.DataFrame, view: View, origin: str) -> Figure:
    """One point per complete config: score against mean PSNR with the Pareto front, and the feasible region.

    Args:
        scored: from `search.configs`.
        view: tau, and the goal that made `scored`.
        origin: the caption of the rows behind it.
    """
    figure = canvas(8.6, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name in ((left, "psnr_01"), (right, "psnr_change")):
        _points(axes, scored, name)
    front = scored[scored["front"]].sort_values("psnr_01")
    (line,) = left.plot(front["psnr_01"], front["score"], color="C5", linewidth=1.4, zorder=3, label="Pareto front")
    left.set(xlabel="mean psnr_01, dB ([0,1] pixels)")
    left.set_ylabel(_score_label(view), **FORMULA)
    right.set(xlabel=f"mean psnr_01 - psnr_01 of {view.goal.reference}, dB")
    regions = psnr_regions(left, right, view)
    legend(figure, [*_handles(), line, *_boundaries([left], view), *regions])
    incomplete = int((~scored["complete"]).sum())
    title = f"{len(scored)} configs of {view.goal.mode}, {incomplete} incomplete and not shown"
    return titled(figure, title, origin)


@drawn
def parameter_importance(found: pd.DataFrame, origin: str) -> Figure:
    """Bars of `search.importance`, with the direction of each effect."""
    figure = canvas(8.0, 1.5 + 0.36 * len(found))
    axes = figure.subplots()
    places = np.arange(len(found))[::-1]
    axes.barh(places, found["importance"], color="C0", height=0.6)
    for place, share, direction in zip(places, found["importance"], found["direction"], strict=True):
        word = f"{share:.2f}" + ("" if np.isnan(direction) else f"   rank correlation {direction:+.2f}")
        axes.text(1.02, place, word, va="center", fontsize=8.5, transform=axes.get_yaxis_transform())
    axes.set_yticks(places, found["parameter"])
    axes.set_xlim(0, 1)
    axes.set_xlabel("epsilon squared of Kruskal and Wallis (main effects)")
    return titled(figure, "Which parameters move the score", origin)


@drawn
def slices(scored: pd.DataFrame, varied: pd.DataFrame, view: View, origin: str) -> Figure:
    """The score of every complete config against each parameter that differs."""
    names = list(varied)[:MOST_SLICES]
    columns = min(COLUMNS, len(names))
    lines = ceil(len(names) / columns)
    figure = canvas(2.0 + 2.3 * columns, 1.2 + 2.2 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    values = scored.merge(varied.add_prefix("by "), left_on="config", right_index=True)
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, names, strict=False):
        _slice(axes, values, f"by {name}")
        axes.set_xlabel(name)
    shown = _boundaries(panels.flat[: len(names)], view)
    figure.supylabel(_score_label(view), fontsize=9, **FORMULA)
    legend(figure, [*_handles(), *shown[:1]])
    return titled(figure, "Slices of the search", origin)


def search_caption(rows: pd.DataFrame, scored: pd.DataFrame, tau: float) -> str:
    """Split, configs, seeds per config, failures, tau, versions."""
    failures = int(scored["n_failed"].sum())
    parts = (
        f"split {' and '.join(sorted(set(scored['split'])))}",
        f"n = {len(scored)} configs, {seeds(rows['seed'])}",
        f"n_failed = {failures} of {int(scored['cells'].sum())} cells",
        f"tau = {tau:.2f} nats",
        versions(rows),
    )
    return " · ".join(parts)


def _score_label(view: View) -> str:
    return f"{view.goal.score} {MARGIN}" if view.goal.kind == "margin" else view.goal.sought


def _boundaries(panels: Iterable[Axes], view: View) -> list[Line2D]:
    """The boundary of the certificate, where the score is a margin."""
    return [boundary(axes, view.tau) for axes in panels] if view.goal.kind == "margin" else []


def _slice(axes: Axes, values: pd.DataFrame, name: str) -> None:
    column = values[name]
    if not is_number(column):
        names = sorted(column.astype(str).unique())
        axes.set_xticks(range(len(names)), [one[:14] for one in names])
        values = values.assign(**{name: column.astype(str).map({one: x for x, one in enumerate(names)})})
    elif column.min() > 0 and column.max() > RATIO * column.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    _points(axes, values, name)


def _points(axes: Axes, scored: pd.DataFrame, name: str) -> None:
    size = min(18.0, max(4.0, 4000 / len(scored)))
    for feasible, (colour, marker) in _LOOKS.items():
        mine = scored[scored["feasible"] == feasible].dropna(subset="score")
        axes.scatter(mine[name], mine["score"], s=size, color=colour, marker=marker, linewidths=1.0, alpha=0.8)


_LOOKS = {True: ("C0", "o"), False: ("C1", "x")}


def _handles() -> list[Line2D]:
    words = {True: "meets the constraint", False: "does not"}
    return [point(words[feasible], *look) for feasible, look in _LOOKS.items()]
