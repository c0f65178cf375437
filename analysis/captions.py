"""Writes what every table and picture says of its rows: split, seeds, n, failures, tau, versions, substitutes."""

from collections.abc import Iterable

import pandas as pd

from certvae.terminal import number_of

from .views import failed

SHOWN_SEEDS = 8


def caption(frame: pd.DataFrame, tau: float | None = None) -> str:
    """One line: split, seeds, rows per seed, failed runs, tau and versions of the rows of `frame`."""
    parts = [
        "split " + _listed(frame["split"]),
        f"n = {seeds(frame['seed'])}" + _inputs(frame),
        *(_configs(frame) if "config" in frame else []),
        *([f"n_failed = {int(failed(frame).sum())} of {number_of(len(frame), 'row')}"] if "outcome" in frame else []),
        *([] if tau is None else [f"tau = {said_tau(tau)} nats"]),
        *(sorted(set(frame["preconditions"].dropna())) if "preconditions" in frame else []),
        versions(frame),
    ]
    return " · ".join(part for part in parts if part)


def said_tau(tau: float) -> str:
    """A buffer in two digits where they are all that it has, nats."""
    return f"{tau:.2f}" if round(tau, 2) == tau else f"{tau:g}"


def subject(frame: pd.DataFrame) -> str:
    """The data set, how it departs from a published one, and where the teacher comes from: part of every title."""
    data = _listed(frame["data"])
    substitutes = sorted(set(frame["substitute"].dropna()))
    replaced = f" ({'; '.join(substitutes)})" if substitutes else ""
    return f"{data}{replaced}, teacher {_listed(frame['teacher_source'].dropna()) or 'unknown'}{_teaching(frame)}"


def seeds(values: Iterable[int]) -> str:
    """`3 seeds (0, 1, 2)`, or their number alone when they are many."""
    found = sorted(set(values))
    return number_of(len(found), "seed") + (f" ({', '.join(map(str, found))})" if len(found) <= SHOWN_SEEDS else "")


def versions(frame: pd.DataFrame, prefix: str = "version_") -> str:
    """`certvae 0.1.0, torch 2.10.0`: all values of every package version, or of every stage; several where rows were
    mixed on purpose.

    Args:
        prefix: how the columns begin; those of stages by `load.STAGE_VERSION`.
    """
    columns = sorted(name for name in frame.columns if name.startswith(prefix))
    found = {name.removeprefix(prefix): _listed(frame[name].dropna()) for name in columns}
    return ", ".join(f"{name} {value}" for name, value in found.items() if value)


def _configs(frame: pd.DataFrame) -> list[str]:
    found = frame["config"].unique()
    return [f"config {found[0][:8]}"] if len(found) == 1 else [f"{len(found)} configs"]


def _teaching(frame: pd.DataFrame) -> str:
    """What sets a teacher apart: it drifts with the encoder, or one teacher serves all seeds."""
    live = (frame["teacher_features"] == "live").any()
    shared = sorted(set(frame["teacher_seed"].dropna().astype(int)))
    drifting = ", drifting with the encoder in modes live_*" if live else ""
    return drifting + (f", that of seed {' and '.join(map(str, shared))} for all seeds" if shared else "")


def _inputs(frame: pd.DataFrame) -> str:
    counts = _listed(sorted(set(frame["n"].dropna()))) if "n" in frame else ""
    return f" x {counts} inputs" if counts else ""


def _listed(values: Iterable[object]) -> str:
    return " and ".join(dict.fromkeys(map(_text, values)))


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
