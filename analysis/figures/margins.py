"""Pictures of margins: by seed and mode, against tau, against PSNR."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from certvae.certificate import FLOAT_SLACK
from certvae.spec.modes import ordered
from certvae.terminal import number_of

from ..captions import caption, subject
from ..compare import CELL
from ..parameters import told_apart
from ..table import clean
from ..views import View
from .drawing import (
    FORMULA,
    INK,
    MARGIN,
    boundary,
    canvas,
    drawn,
    legend,
    line_width,
    look,
    mode_handles,
    point,
    psnr_regions,
    titled,
    unclaimed,
)

MOST_LINES = 30
MANY_MARKS = 12  # networks of one line; more are drawn without their bounds
SPREAD = 0.6  # of the distance between lines, over which the networks of one are laid out
ZOOM = 0.3  # nats; the taus of the papers lie below
SIDES = (("C0", "o", "certified, bound to the left"), ("C1", "s", "not certified"), ("0.5", "D", "stress case, apart"))
"""Colour, marker and words of a network; a stress case is hollow."""


@drawn
def margin_strips(rows: pd.DataFrame, tau: float) -> Figure:
    """Every network at its margin G_0, its population bound to the left, one line per mode. Nothing is averaged.

    Args:
        rows: strict and stress rows of one split (`views.everything`); stress cases are hollow.
        tau: nats.
    """
    known = rows.dropna(subset="margin")
    lines = _line_names(rows)
    names = list(dict.fromkeys(lines))[:MOST_LINES]
    known = known.assign(line=lines[known.index])
    figure = canvas(8.6, 1.3 + 0.42 * len(names))
    axes = figure.subplots()
    for place, name in enumerate(names):
        _strip(axes, known[known["line"] == name], place, tau)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=INK, linewidth=0.8)
    low, high = axes.get_xlim()
    axes.axvspan(low, tau, color="0.5", alpha=0.13, linewidth=0)
    edge = axes.axvline(tau, color="C5", linewidth=1.1, linestyle="--", label=f"tau = {tau:.2f}")
    axes.set_xlim(low, high)
    axes.set_xlabel(MARGIN, **FORMULA)
    legend(figure, [*_sides(), edge])
    more = f" (first {len(names)} of {lines.nunique()} lines)" if lines.nunique() > len(names) else ""
    return titled(figure, f"Margins of all networks{more}", caption(rows, tau))


@drawn
def margin_against_tau(rows: pd.DataFrame, tau: float) -> Figure:
    """G_tau of every row near the papers' taus, and the number of strict-feasible seeds certified at each tau.

    Args:
        rows: strict and stress rows of one config and split; stress cases are thin and never counted.
        tau: nats.
    """
    modes = ordered(rows["mode"])
    figure = canvas(8.6, 3.6)
    near, counts = figure.subplots(1, 2)
    grid, width = np.array([0.0, ZOOM]), line_width(rows["seed"].nunique())
    for row in rows.dropna(subset="margin").to_dict("records"):
        one = look(row["mode"], modes)
        thin = row["teacher_status"] == "stress-case"
        near.plot(grid, row["margin"] - grid, color=one.colour, linestyle=one.line, linewidth=0.6 if thin else width)
    near.set_ylim(min(near.get_ylim()[0], -0.05), max(near.get_ylim()[1], 0.05))
    unclaimed(near, 0)
    near.axhline(0, color=INK, linewidth=1.1)
    near.set(xlabel="tau, nats", xlim=(0, ZOOM))
    near.set_ylabel(r"$G_\tau = G_0 - \tau$, nats", **FORMULA)
    near.set_title("every seed")
    strict = rows[rows["teacher_status"] == "strict-feasible"]
    _certified_counts(counts, strict, modes)
    for axes in (near, counts):
        axes.axvline(tau, color="0.5", linewidth=0.9, linestyle=":")
    shade = Patch(color="0.5", alpha=0.2, label="not certified")
    here = Line2D([], [], color="0.5", linewidth=0.9, linestyle=":", label=f"tau = {tau:.2f}")
    legend(figure, [*mode_handles(modes), shade, here])
    return titled(figure, "How large a safety buffer the margins bear", caption(rows, tau))


@drawn
def margin_against_psnr(rows: pd.DataFrame, view: View) -> Figure:
    """Every seed and mode: margin against PSNR, and against the change of PSNR with the feasible region.

    Args:
        rows: strict and stress rows of one config and split; stress cases are hollow.
        view: tau, and the goal with its PSNR constraint; a change of PSNR is paired to its reference.
    """
    reference = view.goal.reference
    modes = ordered(rows["mode"])
    base = rows.loc[rows["mode"] == reference, [*CELL, "psnr_01"]].rename(columns={"psnr_01": "base"})
    points = rows.merge(base, on=CELL, how="left")
    points = points.assign(change=points["psnr_01"] - points["base"])
    figure = canvas(8.6, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name in ((left, "psnr_01"), (right, "change")):
        for mode, group in points.groupby("mode", sort=False):
            one = look(str(mode), modes)
            hollow = (group["teacher_status"] == "stress-case").map({True: "none", False: one.colour})
            axes.scatter(
                group[name], group["margin"], s=30, marker=one.marker, facecolors=list(hollow), edgecolors=one.colour
            )
    left.set(xlabel="psnr_01, dB ([0,1] pixels)")
    left.set_ylabel(MARGIN, **FORMULA)
    right.set(xlabel=f"psnr_01 - psnr_01 of {reference}, dB")
    regions = psnr_regions(left, right, view)
    legend(figure, [*mode_handles(modes, line=False), boundary(left, view.tau), *regions])
    return titled(figure, f"Margin and reconstruction — {clean(subject(rows))}", caption(rows, view.tau))


def _strip(axes: Axes, networks: pd.DataFrame, place: int, tau: float) -> None:
    """One line: markers spread a little, so that equal margins are seen, and bounds where they are few."""
    spread = place + SPREAD * (np.arange(1, len(networks) + 1) / (len(networks) + 1) - 0.5)
    stressed = (networks["teacher_status"] == "stress-case").to_numpy()
    sure = (networks["margin"] - tau > FLOAT_SLACK).to_numpy()
    if len(networks) <= MANY_MARKS:
        for y, one in zip(spread, networks.to_dict("records"), strict=True):
            if np.isfinite(one["population_bound"]):
                colour = "0.5" if one["teacher_status"] == "stress-case" else "C0"
                axes.plot([one["population_bound"], one["margin"]], [y, y], color=colour, linewidth=1.2)
    for (colour, marker, _), mine in zip(SIDES, (sure & ~stressed, ~sure & ~stressed, stressed), strict=True):
        face = "none" if marker == "D" else colour
        axes.scatter(networks["margin"][mine], spread[mine], s=26, marker=marker, facecolors=face, edgecolors=colour)


def _sides() -> list[Line2D]:
    return [point(words, colour, marker, hollow=marker == "D") for colour, marker, words in SIDES]


def _certified_counts(axes: Axes, strict: pd.DataFrame, modes: list[str]) -> None:
    largest = float(np.log(strict["classes"].max())) if len(strict) else 1.0
    for mode in modes:
        margins = np.sort(strict.loc[strict["mode"] == mode, "margin"].dropna().to_numpy())
        positive = margins[margins > 0]
        taus = np.concatenate([[0.0], positive, [largest]])
        left = np.concatenate([[len(positive)], len(positive) - 1 - np.arange(len(positive)), [0]])
        one = look(mode, modes)
        axes.step(taus, left, where="post", color=one.colour, linestyle=one.line)
    axes.set(xlabel="tau, nats, up to ln K", ylabel="strict-feasible seeds certified")
    axes.set_title(f"of {number_of(strict['seed'].nunique(), 'strict-feasible seed')}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _line_names(rows: pd.DataFrame) -> pd.Series:
    """The mode of every row, with its config where there are several."""
    names = told_apart(rows)
    return rows["mode"] + ", " + rows["config"].map(names) if names else rows["mode"]
