"""One look for all pictures: the style file, how a mode is drawn, the boundary of the certificate, and saving.

A picture is a matplotlib `Figure` of its own, made without pyplot: drawing one changes nothing global. Saved files hold
no date, so equal figures are equal bytes.
"""

import functools
import io
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from certvae.spec.modes import MODES, ordered

from ..views import View

STYLE = Path(__file__).parents[1] / "certvae.mplstyle"
LEGEND_INCHES = 2.2  # what a legend beside the axes takes from a title
INK = "0.35"
MARGIN = "margin $G_0$, nats"
FORMULA: dict[str, Any] = {"parse_math": True}
"""For a label of ours that holds a symbol; no other text is read as a formula."""
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
P = ParamSpec("P")


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of a mode: any one of them is enough to tell modes apart."""

    colour: str
    line: str
    marker: str


_SOLID, _DASHED, _DASH_DOT, _DOTTED = "-", "--", "-.", ":"
LOOKS = (
    Look("C0", _SOLID, "o"),
    Look("C1", _DASHED, "s"),
    Look("C2", _DASH_DOT, "^"),
    Look("C3", _DOTTED, "D"),
)
"""Of the modes that always look the same."""
_LINES, _MARKERS = (_DOTTED, _DASHED, _DASH_DOT, _SOLID), "vDPX*<>p"


def look(mode: str, modes: Iterable[str]) -> Look:
    """How a mode is drawn among others; the papers' modes always look the same."""
    fixed = {one.name: LOOKS[one.look] for one in MODES if one.look is not None}
    if mode in fixed:
        return fixed[mode]
    number = ordered(one for one in modes if one not in fixed).index(mode)
    return Look(f"C{(3 + number) % 7}", _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)])


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws with the style file alone, whatever the user's own settings are."""

    @functools.wraps(function)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(), style.context(STYLE, after_reset=True):
            return function(*args, **kwargs)

    return with_style


class Shown(Figure):
    """A figure that a notebook shows, whatever its backend is."""

    def _repr_png_(self) -> bytes:
        return saved(self, "png")


def canvas(width: float, height: float) -> Figure:
    """An empty figure, inches; labels, legends and captions never overlap axes."""
    return Shown(figsize=(width, height), layout="constrained")


def titled(figure: Figure, title: str, caption: str) -> Figure:
    """Puts the title on top, beside the legend, and the caption below, wrapped to the width of the figure."""
    width = figure.get_figwidth()
    room = width - (LEGEND_INCHES if figure.legends else 0)
    figure.suptitle(textwrap.fill(title, int(room * 11)), x=0.01, ha="left")
    words = textwrap.fill(caption, int(width * 17))
    figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color=INK)
    return figure


def legend(figure: Figure, handles: Iterable[Any]) -> None:
    """One legend for the whole figure, to the right of its axes."""
    figure.legend(handles=list(handles), loc="outside right upper")


def mode_handles(modes: Iterable[str], *, line: bool = True) -> list[Line2D]:
    """Legend entries, in the papers' order."""
    names = ordered(modes)
    looks = {name: look(name, names) for name in names}
    return [
        Line2D([], [], color=one.colour, linestyle=one.line if line else "", marker=one.marker, label=name)
        for name, one in looks.items()
    ]


def point(label: str, colour: str, marker: str, *, hollow: bool = False, **how: Any) -> Line2D:
    """The legend entry of a marker."""
    face = "none" if hollow else colour
    return Line2D([], [], linestyle="", color=colour, marker=marker, label=label, markerfacecolor=face, **how)


def seeds_and_means(axes: Axes, rows: pd.DataFrame, values: pd.Series, one: Look) -> None:
    """Values of one mode over alpha_kl: every seed a hollow point, and a line through means over strict-feasible seeds,
    which is broken where one of them has no value."""
    weights, strict = rows["alpha_kl"], rows["teacher_status"] != "stress-case"
    means = values[strict].groupby(weights[strict]).agg(lambda found: found.mean(skipna=False))
    axes.plot(means.index, means, color=one.colour, linestyle=one.line, linewidth=1.2)
    axes.scatter(weights, values, s=16, marker=one.marker, facecolors="none", edgecolors=one.colour)


def weight_axis(axes: Axes, weights: pd.Series, digits: str, **scale: Any) -> None:
    """A logarithmic axis of KL weights with a tick at each of them, and no other."""
    axes.set_xscale("log", **scale)
    levels = sorted(set(weights))
    axes.set_xticks(levels, [f"{level:{digits}}" for level in levels])
    axes.minorticks_off()
    axes.set_xlabel("alpha_kl")


def line_width(lines: int) -> float:
    """The width of a line: thinner when many seeds are drawn over each other."""
    return 1.6 if lines <= 4 else 0.8


def boundary(axes: Axes, tau: float) -> Line2D:
    """The margin that a certificate at tau needs, in nats: shaded below, where nothing is claimed."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, tau - 0.06 * (high - low)), max(high, tau + 0.06 * (high - low)))
    unclaimed(axes, tau)
    return axes.axhline(tau, color=INK, linewidth=1.1, label=f"margin above tau = {tau:.2f}")


def unclaimed(axes: Axes, below: float) -> None:
    """Shades everything below a margin, where nothing is claimed; the limits of the axes stay."""
    low, high = axes.get_ylim()
    axes.axhspan(low - 10 * (high - low), below, color="0.5", alpha=0.13, linewidth=0)  # shared axes may yet grow
    axes.set_ylim(low, high)


def psnr_regions(absolute: Axes, change: Axes, view: View) -> list[Patch]:
    """The feasible region of each PSNR constraint in force, on the axes whose x it bounds; one legend entry."""
    bounds = [(absolute, view.goal.psnr_floor, 1), (change, view.goal.psnr_drop, -1)]
    return [feasible_region(axes, sign * bound, view.tau) for axes, bound, sign in bounds if bound is not None][:1]


def feasible_region(axes: Axes, least: float, tau: float) -> Patch:
    """Shades what is certified at tau and meets a bound on PSNR, in dB on the x axis; returns the legend entry."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    pad = 0.08 * (max(right, least) - min(left, least))
    left, right = min(left, least - pad), max(right, least) + pad
    low, high = min(low, tau), max(high, tau + 0.06 * (high - low))
    axes.fill_between([least, right], tau, high, color="C2", alpha=0.14, linewidth=0)
    axes.plot([least, least, right], [high, tau, tau], color="C2", linewidth=0.9)
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return Patch(facecolor="C2", alpha=0.14, label="certified and\nPSNR constraint met")


def saved(figure: Figure, kind: Literal["png", "pdf"]) -> bytes:
    """The bytes of a figure as a PNG or PDF file."""
    out = io.BytesIO()
    with mpl.rc_context(), style.context(STYLE, after_reset=True):
        figure.savefig(out, format=kind, metadata=METADATA[kind])
    figure.set_layout_engine("none")  # the places were found; finding them again for the next file takes as long
    return out.getvalue()
