"""Pictures of margins: by seed and mode, against tau, against PSNR."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from certvae.certificate import FLOAT_SLACK
from certvae.spec.modes import ordered

from ..captions import caption, subject
from ..compare import CELL
from ..parameters import labels
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
    psnr_regions,
    titled,
    unclaimed,
)

MOST_LINES = 30
HALF = 0.5  # of the colour map: brighter cells bear black ink
ZOOM = 0.3  # nats; the taus of the papers lie below


@drawn
def heat_map(rows: pd.DataFrame, tau: float) -> Figure:
    """Seeds x modes: the margin G_0 of every row, those certified at tau in bold. Nothing is averaged.

    Args:
        rows: strict and stress rows of one split (`views.everything`).
        tau: nats.
    """
    named = rows.assign(line=_line_names(rows))
    modes, lines = ordered(named["mode"]), list(dict.fromkeys(named["line"]))[:MOST_LINES]
    table = named.set_index(["line", "mode"])["margin"].unstack()
    margins = table.loc[lines, modes].to_numpy(float)
    figure = canvas(max(5.5, 2.8 + 1.25 * len(modes)), 1.5 + 0.34 * len(lines))
    axes = figure.subplots()
    image = axes.imshow(margins, aspect="auto")
    axes.set_xticks(range(len(modes)), modes)
    axes.set_yticks(range(len(lines)), lines)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _write_margins(axes, margins, image, tau)
    figure.colorbar(image, ax=axes).ax.set_ylabel(MARGIN, **FORMULA)
    more = f"; first {len(lines)} of {len(table)} lines" if len(table) > len(lines) else ""
    return titled(figure, f"Margin by seed and mode (bold: certified at tau{more})", caption(rows, tau))


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


def _write_margins(axes: Axes, margins: np.ndarray, image: AxesImage, tau: float) -> None:
    """The number in every cell, in ink that can be read on its colour."""
    dark = np.ma.filled(np.ma.asarray(image.norm(margins)), 1.0) < HALF
    for (y, x), margin in np.ndenumerate(margins):
        known = np.isfinite(margin)
        word = f"{margin:+.3f}" if known else "no number"
        ink = "white" if dark[y, x] else "black"
        weight = "bold" if known and margin - tau > FLOAT_SLACK else "normal"
        axes.text(x, y, word, ha="center", va="center", fontsize=8.5, color=ink, weight=weight)


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
    axes.set_title(f"of {strict['seed'].nunique()} strict-feasible seeds")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _line_names(rows: pd.DataFrame) -> list[str]:
    names = labels(rows) if rows["config"].nunique() > 1 else {}
    stress = rows["teacher_status"].map({"stress-case": " (stress)"}).fillna("")
    seeds = "seed " + rows["seed"].astype(str) + stress
    return [f"{names[config]}, {seed}" if names else seed for config, seed in zip(rows["config"], seeds, strict=True)]
