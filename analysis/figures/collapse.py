"""Collapse and rescue: margin, KL rate and active units against the KL weight, and where the data says a code dies.

rows = load.load("store", "collapse_and_rescue", split="certify")
collapse.collapse_and_rescue(rows, tau=0.10, forecast={"no_align": 1.4, "full": 5.8})
"""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from certvae.answers import DEAD_RATE
from certvae.spec.modes import ordered

from ..captions import caption, subject
from ..table import clean
from .drawing import (
    FORMULA,
    INK,
    MARGIN,
    boundary,
    canvas,
    drawn,
    legend,
    look,
    mode_handles,
    seeds_and_means,
    titled,
    weight_axis,
)

SHOWN = ("no_align", "full", "rescue", "guarded_full", "guarded_rescue")
SMALLEST = 1e-4  # nats: what is below is drawn there
RATE = f"KL rate, nats ({SMALLEST:g} or less at the bottom)"
PANELS = (("margin", MARGIN), ("kl_rate", RATE), ("active_units", "active units"))


@drawn
def collapse_and_rescue(rows: pd.DataFrame, tau: float, forecast: Mapping[str, float] | None = None) -> Figure:
    """Three panels; every seed is a point, lines join means over strict-feasible seeds, shaded where `no_align` has no
    channel.

    Args:
        rows: of configs that differ in alpha_kl, one split.
        tau: nats.
        forecast: mode -> the KL weight at which the data says that its code dies, drawn as a vertical line.
    """
    shown = rows[rows["mode"].isin(SHOWN)]
    modes, dead = ordered(shown["mode"]), _dead_from(shown)
    figure = canvas(10.4, 3.9)
    panels = figure.subplots(1, len(PANELS))
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for mode in modes:
            group = shown[shown["mode"] == mode]
            values = group[column].clip(lower=SMALLEST) if column == "kl_rate" else group[column]
            seeds_and_means(axes, group, values, look(mode, modes))
        axes.set_ylabel(label, **FORMULA)
        weight_axis(axes, shown["alpha_kl"], ".3g")
        if dead is not None:
            low, high = axes.get_xlim()
            axes.axvspan(dead, high, color="C1", alpha=0.1, linewidth=0)
            axes.set_xlim(low, high)
        for mode, weight in (forecast or {}).items():
            axes.axvline(weight, color=look(mode, modes).colour, linewidth=0.9, linestyle=":")
    panels[1].set_yscale("log")
    panels[1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    floor = panels[1].axhline(
        DEAD_RATE, color=INK, linewidth=0.8, linestyle="--", label=f"dead below a KL rate\nof {DEAD_RATE:g} nats"
    )
    line = boundary(panels[0], tau)
    legend(figure, [*mode_handles(modes), line, floor, *_explained(dead, forecast)])
    return titled(figure, f"Collapse, prevention and rescue — {clean(subject(rows))}", caption(rows, tau))


def _dead_from(rows: pd.DataFrame) -> float | None:
    """The KL weight from which on the plain code of every strict-feasible seed is dead, none of a failed run."""
    plain = rows[(rows["mode"] == "no_align") & (rows["teacher_status"] != "stress-case")]
    alive = (~(plain["kl_rate"] < DEAD_RATE)).groupby(plain["alpha_kl"]).any()
    beyond = alive.index[alive.index > max(alive.index[alive], default=-math.inf)]
    return float(beyond.min()) if len(beyond) else None


def _explained(dead: float | None, forecast: Mapping[str, float] | None) -> list[Line2D | Patch]:
    shaded = [] if dead is None else [Patch(facecolor="C1", alpha=0.1, label="no_align: channel dead\n(every seed)")]
    lines = [Line2D([], [], color=INK, linestyle=":", linewidth=0.9, label="collapse forecast\nfrom the data")]
    return [*shaded, *(lines if forecast else [])]
