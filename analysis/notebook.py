"""The final table and figures by name, for a result in Python: those of the report, of the rows that are at hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from certvae import answers
from certvae.errors import ConfigFault
from certvae.spec.validation import nearest

from . import figures, load, search
from .figures.search import search_caption
from .parameters import parameters
from .views import DECLARED, View, everything, partition

SHOWN = {
    "teacher_status": "teacher",
    "info": "I_T",
    "loss": "L_TS",
    "margin": "margin",
    "population_bound": "bound",
    "student_info": "I_S",
    "psnr_01": "PSNR",
    "active_units": "AU",
}
"""Columns of a row that the final table of a run shows, by their headings in a terminal."""
NAMES = ("margins", "curves", "tau", "psnr", "reconstructions", "teachers", "search", "slices")


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The final table by config (where there are several), seed and mode; nats and dB."""
    lines = [
        {"config": row["config"][:12], "seed": row["seed"], "mode": row["mode"]}
        | {heading: row.get(name) for name, heading in SHOWN.items()}
        | {"mean": answers.mean(row), "channel": answers.channel(row), "outcome": row["outcome"]}
        for row in rows
    ]
    frame = pd.DataFrame(lines, columns=["config", "seed", "mode", *SHOWN.values(), "mean", "channel", "outcome"])
    if frame["config"].nunique() > 1:
        return frame.set_index(["config", "seed", "mode"])
    return frame.drop(columns="config").set_index(["seed", "mode"])


def figure(
    store: Path | str, study: str, rows: Sequence[Mapping[str, Any]], name: str, tau: float | None = None
) -> Figure:
    """One figure of a study.

    Args:
        store: where curves, candidates and pictures of the rows lie.
        rows: of one version and environment, all splits.
        name: one of NAMES.
        tau: nats; the declared one when absent.

    Raises:
        ConfigFault: there is no such figure, or nothing to draw.
    """
    if name not in NAMES:
        raise ConfigFault(f"no figure is called {name!r}", nearest(name, NAMES), where="figure")
    frame = load.frame_of([dict(row) for row in rows]) if rows else pd.DataFrame()
    if frame.empty:
        raise _nothing(name, study)
    goal, seeds = load.searched(store, study) or (search.goal_of(frame), ())
    view = View(tau=DECLARED.tau if tau is None else tau, goal=goal)
    if name in ("search", "slices"):
        return _configs(name, frame, view, seeds, load.places(store, study))
    return _one(name, study, store, frame, view)


def _one(name: str, study: str, store: Path | str, frame: pd.DataFrame, view: View) -> Figure:
    """Of one config, on certify rows where these were opened."""
    split = next(split for split in ("certify", "guard", "train") if (frame["split"] == split).any())
    shown = frame[frame["split"] == split]
    parts = everything(partition(shown.reset_index(drop=True), view.thresholds))
    first = parts[parts["config"] == parts["config"].iloc[0]].reset_index(drop=True)
    match name:
        case "margins":
            return figures.margin_strips(parts, view.tau)
        case "tau":
            return figures.margin_against_tau(first, view.tau)
        case "psnr":
            return figures.margin_against_psnr(first, view)
        case "teachers":
            return figures.teacher_quality(load.candidates(store, first), view.thresholds)
        case "curves":
            return figures.margin_curves(load.curves(store, first), view.tau)
        case _:
            kept = load.pictures(store, first)
            if not kept:
                raise _nothing(name, study)
            return figures.reconstruction_grid([one for one in kept if one.seed == kept[0].seed], view.tau)


def _configs(
    name: str, frame: pd.DataFrame, view: View, seeds: Sequence[int], places: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Of all configs of a search, on guard rows."""
    guard = frame[(frame["split"] == "guard") & (frame["seed"].isin(seeds) if seeds else True)]
    tried = partition(guard.reset_index(drop=True), view.thresholds)
    rows, scored = everything(tried), search.configs(tried, view.goal, seeds, places=places)
    origin = search_caption(rows, scored, view.tau)
    if name == "search":
        return figures.config_tradeoff(scored, view, origin)
    return figures.slices(scored, parameters(rows), view, origin)


def _nothing(name: str, study: str) -> ConfigFault:
    return ConfigFault(f"{study} has nothing to draw as {name!r} yet", "run the study first", where="figure")
