"""Pictures of the simplex witness (arXiv 2605.18224): the idea, the margin-energy path, escapes, and KL stress.

    from certvae.analysis.load import load

    rows = load("store", "mnist_simplex", split="guard")
    teacher = teacher_rows("store", rows["key_teacher"].iloc[0])
    margin_energy(rows, teacher, tau=0.10)

Each is a pure function of frames and arrays. Energies are nats of KL to N(0, I): half the squared length of a mean.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from certvae.equilibrium import equilibrium_margin, margin_energy_path, path_lower_bound
from certvae.spec.modes import ordered
from certvae.store.artifact import read_arrays

from ..captions import caption, subject
from ..load import objects, open_store
from ..table import clean
from ..views import Refused
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
    seeds_and_means,
    titled,
    weight_axis,
)

Rows = Float[np.ndarray, "n K"]
GAIN = 5.0  # beta of the path
MOST_TEACHER_ROWS = 4000  # of a path: its margin is a mean over rows, and more change nothing that can be seen
ESCAPE_PANELS = (
    ("guard_margin", f"guard {MARGIN}", False),
    ("guard_force_norm", r"escape force $\sqrt{E\|F\|^2}$", False),
    ("guard_gradient_norm", r"$\|\partial L_{TS}/\partial\theta\|$", True),
    ("guard_variance_mu_witness", r"tr Cov $\mu$ inside $W$", False),
    ("guard_variance_mu_rest", r"tr Cov $\mu$ outside $W$", False),
    ("guard_kl_rate_witness", "KL rate inside W (outside: thin), nats", False),
)
"""(column, label, whether the axis is logarithmic)."""
STRESS_PANELS = (
    ("margin", "witness on means"),
    ("sampled_margin", "witness on draws"),
    ("sampled_affine_margin", "affine head on draws"),
)


def teacher_rows(store: Path | str, key: str, split: str = "guard") -> Rows:
    """The cached teacher rows of a teacher artifact, float64, renormalised; at most 4,000, evenly spaced.

    Raises:
        Refused: the object is gone.
    """
    disk = open_store(store)
    there = dict(objects(disk, [key], read_arrays))
    if key not in there:
        raise Refused(
            f"wanted the teacher {key[:12]}, found none",
            "run the study again on this store: it is made anew",
            where=str(disk.root),
        )
    found = there[key][f"targets_{split}"].astype(np.float64)
    found = found[:: max(1, -(-len(found) // MOST_TEACHER_ROWS))]
    return found / found.sum(axis=1, keepdims=True)


def first_teachers(store: Path | str, rows: pd.DataFrame) -> dict[str, Rows]:
    """Guard teacher rows of the first seed of every config whose rows are of a simplex witness, by config."""
    known = rows[rows["mean_square_mu_witness"].notna()].sort_values("seed")
    keys = dict(reversed(list(zip(known["config"], known["key_teacher"], strict=True))))
    return {config: teacher_rows(store, key) for config, key in keys.items()}


@drawn
def margin_energy(rows: pd.DataFrame, teacher: Rows, tau: float) -> Figure:
    """Margin against the energy that a code spends inside W: the analytic path, its chord bound, and trained networks.

    Args:
        rows: rows of one config and split, all modes; every seed is a point.
        teacher: teacher rows of one seed, the path's.
        tau: nats.
    """
    modes = ordered(rows["mode"])
    figure = canvas(8.6, 3.8)
    near, far = figure.subplots(1, 2)
    scales = np.concatenate([np.linspace(0, 0.1, 21), np.linspace(0.1, 1.25, 47)[1:]])
    path = margin_energy_path(teacher, scales, GAIN)
    inside = scales <= 1
    bound = path_lower_bound(teacher, scales[inside])
    for axes in (near, far):
        axes.plot(path.energies, path.margins, color=INK, linewidth=1.4)
        axes.plot(path.energies[inside], bound, color=INK, linewidth=0.9, linestyle=":")
        axes.plot(path.energies[inside][-1], path.margins[inside][-1], color=INK, marker="*", markersize=9)
        for mode, group in rows.groupby("mode", sort=False):
            one = look(str(mode), modes)
            energy = group["mean_square_mu_witness"] / 2
            axes.scatter(energy, group["margin"], s=26, marker=one.marker, facecolors="none", edgecolors=one.colour)
        axes.set_xlabel("energy inside W, nats")
    near.set_xlim(0, 1.25 * float(path.energies[inside][-1]))
    near.set_ylim(-0.1, 1.08 * float(path.margins.max()))
    near.set_title("the path of the analytic code")
    far.set_title("and what trained networks spend")
    near.set_ylabel(MARGIN, **FORMULA)
    theory = [
        Line2D([], [], color=INK, label="code a mu*, 0 <= a <= 1.25"),
        Line2D([], [], color=INK, linestyle=":", label="chord bound (a <= 1)"),
        Line2D([], [], color=INK, linestyle="", marker="*", markersize=9, label="analytic code, a = 1"),
    ]
    legend(figure, [*theory, *mode_handles(modes, line=False), boundary(far, tau)])
    boundary(near, tau)
    return titled(figure, f"What a certificate costs — {clean(subject(rows))}", caption(rows, tau))


@drawn
def escape_panels(curves: pd.DataFrame, tau: float, floor: float | None = None) -> Figure:
    """The way out of three low-margin starts: margin, force, parameter gradient, and spread and KL in and outside W.

    Args:
        curves: from `load.curves`, modes escape_*; point 0 is the start itself.
        tau: nats.
        floor: the force norm that no constant code falls below (`force_floor` of a row).
    """
    modes = ordered(curves["mode"])
    width = line_width(len(set(curves["seed"])))
    figure = canvas(9.6, 5.6)
    panels = figure.subplots(2, 3, sharex=True)
    for axes, (column, label, logarithmic) in zip(panels.flat, ESCAPE_PANELS, strict=True):
        _trajectories(axes, curves, column, modes, width)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(label, **FORMULA)
    _trajectories(panels[1, 2], curves, "guard_kl_rate_rest", modes, 0.5)
    for axes in panels[1]:
        axes.set_xlabel("report point")
    handles = [*mode_handles(modes), boundary(panels[0, 0], tau)]
    if floor is not None:
        text = "least force at any constant code"
        handles.append(panels[0, 1].axhline(floor, color=INK, linewidth=0.9, linestyle=":", label=text))
    legend(figure, handles)
    return titled(figure, "Escape from collapse: the force never has a dead zone", caption(curves, tau))


@drawn
def stress_grid(rows: pd.DataFrame, teacher: Rows, tau: float) -> Figure:
    """Margins against alpha_kl: on means, on draws, of the affine head on draws; and the equilibrium without images.

    Args:
        rows: certify rows of configs that differ in alpha_kl; every seed is a point, lines join means over
            strict-feasible seeds.
        teacher: teacher rows of one seed, for the equilibrium curve.
        tau: nats.
    """
    modes = ordered(rows["mode"])
    figure = canvas(10.4, 3.8)
    panels = figure.subplots(1, 4, sharey=True)
    for axes, (column, label) in zip(panels, STRESS_PANELS, strict=False):
        for mode, group in rows.groupby("mode", sort=False):
            seeds_and_means(axes, group, group[column], look(str(mode), modes))
        axes.set_title(label)
    _equilibrium(panels[3], rows, teacher)
    for axes in panels:
        weight_axis(axes, rows["alpha_kl"], "g", base=2)
    panels[0].set_ylabel(MARGIN, **FORMULA)
    lines = [boundary(axes, tau) for axes in panels]
    legend(figure, [*mode_handles(modes), lines[0]])
    return titled(figure, f"Margins under KL stress — {clean(subject(rows))}", caption(rows, tau))


def _trajectories(axes: Axes, curves: pd.DataFrame, column: str, modes: list[str], width: float) -> None:
    for mode in modes:
        one = look(mode, modes)
        for _, points in curves[curves["mode"] == mode].groupby("seed"):
            axes.plot(points["epoch"], points[column], color=one.colour, linestyle=one.line, linewidth=width)


def _equilibrium(axes: Axes, rows: pd.DataFrame, teacher: Rows) -> None:
    """The margin that alignment and KL alone would settle at, for the weights of the aligned modes."""
    weights = {(row["alpha_kl"], row["lambda_ts"], row["beta"]) for row in rows.to_dict("records") if row["lambda_ts"]}
    found = [
        (alpha_kl, equilibrium_margin(teacher, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta))
        for alpha_kl, lambda_ts, beta in sorted(weights)
    ]
    axes.plot(*zip(*found, strict=True), color=INK, marker="o", markersize=4)
    axes.set_title("theory, no images")
