"""Guard curves: prevention, collapse of the margin without alignment, and rescue, seed by seed."""

from math import ceil

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from certvae.spec.modes import BY_NAME, ordered

from ..captions import caption
from .drawing import (
    FORMULA,
    MARGIN,
    boundary,
    canvas,
    drawn,
    legend,
    line_width,
    look,
    mode_handles,
    titled,
)

COLUMNS = 4
MOST_PANELS = 16
BEFORE = 10  # report points of no_align that are shown before a rescue begins


@drawn
def margin_curves(curves: pd.DataFrame, tau: float) -> Figure:
    """The guard margin over epochs, one panel per seed, with the boundary of the certificate.

    Args:
        curves: from `load.curves`, rows of one config.
        tau: nats.

    A mode that starts where another one ended is drawn after it.
    """
    seeds = sorted(curves["seed"].unique().tolist())[:MOST_PANELS]
    modes = ordered(curves["mode"])
    columns = min(COLUMNS, len(seeds))
    figure = canvas(2.6 + 2.0 * columns, 1.1 + 2.3 * ceil(len(seeds) / columns))
    panels = figure.subplots(ceil(len(seeds) / columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(seeds) :]:
        axes.set_visible(False)
    for axes, seed in zip(panels.flat, seeds, strict=False):
        _chain(axes, curves[curves["seed"] == seed], modes)
        axes.set_title(f"seed {seed}")
    lines = [boundary(axes, tau) for axes in panels.flat[: len(seeds)]]
    figure.supylabel(f"guard {MARGIN}", fontsize=9, **FORMULA)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    legend(figure, [*mode_handles(modes), lines[0]])
    left = curves["seed"].nunique() - len(seeds)
    more = f" (first {len(seeds)} of {len(seeds) + left} seeds)" if left else ""
    return titled(figure, f"Prevention, loss and rescue of the certificate{more}", caption(curves, tau))


@drawn
def rescue_transitions(curves: pd.DataFrame, tau: float) -> Figure:
    """Margin and student information around the start of rescue, all seeds.

    Args:
        curves: from `load.curves`, with the modes no_align and rescue.
        tau: nats.
    """
    figure = canvas(8.0, 3.6)
    left, right = figure.subplots(1, 2, sharex=True)
    width = line_width(curves["seed"].nunique())
    for _, chain in curves.groupby("seed", sort=True):
        before, after = chain[chain["mode"] == "no_align"], chain[chain["mode"] == "rescue"]
        ending = before.assign(epoch=before["epoch"] - before["epoch"].max()).tail(BEFORE)
        for axes, name in ((left, "guard_margin"), (right, "guard_student_info")):
            _line(axes, ending, name, "no_align", width=width)
            _line(axes, after, name, "rescue", width=width)
            _joint(axes, ending, after, name)
    for axes in (left, right):
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.set_xlabel("epochs since rescue began")
    left.set_ylabel(f"guard {MARGIN}", **FORMULA)
    right.set_ylabel("student information $I_S$, nats (diagnostic)", **FORMULA)
    legend(figure, [*mode_handles(["no_align", "rescue"]), boundary(left, tau)])
    return titled(figure, "Rescue of the checkpoint that lost its certificate", caption(_both(curves), tau))


def _both(curves: pd.DataFrame) -> pd.DataFrame:
    return curves[curves["mode"].isin(["no_align", "rescue"])]


def _chain(axes: Axes, chain: pd.DataFrame, modes: list[str]) -> None:
    for mode in modes:
        points = chain[chain["mode"] == mode]
        before = chain[chain["mode"] == (BY_NAME[mode].continues if mode in BY_NAME else None)]
        shifted = points.assign(epoch=points["epoch"] + before["epoch"].max()) if len(before) else points
        _line(axes, shifted, "guard_margin", mode, modes)
        _joint(axes, before, shifted, "guard_margin")


def _line(
    axes: Axes, points: pd.DataFrame, name: str, mode: str, modes: list[str] | None = None, width: float = 1.6
) -> None:
    one = look(mode, modes or [mode])
    every = max(1, len(points) // 5)
    line = {"color": one.colour, "linestyle": one.line, "marker": one.marker, "linewidth": width}
    axes.plot(points["epoch"], points[name], markevery=every, **line)


def _joint(axes: Axes, before: pd.DataFrame, after: pd.DataFrame, name: str) -> None:
    """The same network: the last point without alignment and the first of rescue."""
    if len(before) and len(after):
        ends = pd.concat([before.tail(1), after.head(1)])
        axes.plot(ends["epoch"], ends[name], color="0.5", linewidth=0.9, linestyle=":")
