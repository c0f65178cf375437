"""A run as MLflow shows it: name, tags, parameters, points. From a spec alone while a cell is in training.

point     (name, step, value)      step: the epoch for curve/*, 1000 tau for margin_by_tau and tau, 0 for numbers
units     nats for information, dB for PSNR, seconds for durations; what is not finite is never shown
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from certvae.canonical import TYPE, leaves, plain
from certvae.spec.cell import CellSpec
from certvae.spec.modes import ORDER

KEY, DIGEST, NOTE = "certvae.key", "certvae.digest", "mlflow.note.content"
EVENT_FIELDS = ("stage", "epochs", "steps", "step", "epoch", "loss")  # of a live event; all else is a number to show

Kind = Literal["config", "network", "preparation"]
RunStatus = Literal["RUNNING", "FINISHED", "FAILED"]


class Point(NamedTuple):
    """One number at one step."""

    name: str
    step: int
    value: float

    @property
    def timestamp(self) -> int:
        """Milliseconds, a function of the step: the same point logged twice is one point."""
        return 1000 * self.step


@dataclass(frozen=True, kw_only=True)
class DataUsed:
    """The data set as MLflow records it."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """All of one MLflow run, except its id and its times."""

    key: str
    """The config, or `cell/step`: known from the start, and what a run is found by."""
    parent: str | None
    name: str
    status: RunStatus
    tags: dict[str, str]
    params: dict[str, str]
    points: tuple[Point, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    data: DataUsed | None = None
    seconds: float = 0.0


def cell_key(cell: str, step: str) -> str:
    """Key of the run of one step of a cell."""
    return f"{cell}/{step}"


def begun(spec: CellSpec, step: str) -> tuple[Run, Run]:
    """The parent and child run that are shown while a cell trains: what its rows will say, as far as it is known."""
    params, told = flattened(plain(spec)), {"config": config_name(spec.config), "data": spec.data.name}
    kind: Kind = "network" if step in ORDER else "preparation"
    return (
        Run(
            key=spec.config,
            parent=None,
            name=config_name(spec.config),
            status="RUNNING",
            tags={"kind": "config", **told},
            params=without_seed(params),
        ),
        Run(
            key=cell_key(spec.cell, step),
            parent=spec.config,
            name=cell_name(step, spec.seed, spec.config),
            status="RUNNING",
            tags={"kind": kind, **told, "mode": step, "seed": str(spec.seed)},
            params=params,
        ),
    )


def curve_points(point: Mapping[str, Any]) -> list[Point]:
    """The finite numbers of one epoch, of a stored curve or of a live event."""
    numbers = {name: number(value) for name, value in point.items() if name not in EVENT_FIELDS}
    step = int(point["epoch"])
    return [Point(f"curve/{name}", step, value) for name, value in numbers.items() if value is not None]


def flattened(spec: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that MLflow shows of a spec: dotted names and short texts.

    The type of a branch is told where its name does not tell it.

    Columns are narrow, so the name of the branch that holds most of a spec, `protocol`, is left out.
    """
    told = {path: value for path, value in leaves(spec) if path not in ("study", TYPE) and not _names(path, value)}
    return {path.removeprefix("protocol."): _text(told[path]) for path in sorted(told)}


def config_name(config: str) -> str:
    """Name of a parent run."""
    return f"config {config[:6]}"


def cell_name(step: str, seed: int, config: str) -> str:
    """Name of a child run: legends cut long ones, so what differs comes first."""
    return f"{step} seed {seed} {config[:6]}"


def number(value: Any) -> float | None:
    """The value as a finite float, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def without_seed(params: dict[str, str]) -> dict[str, str]:
    """Parameters of a config: those of its cells, but for the seed."""
    return {name: text for name, text in params.items() if name != "seed"}


def _names(path: str, kind: Any) -> bool:
    """Whether a branch is called as its type, such as `warm_up`."""
    return str(kind).lower() == path.rpartition(".")[2].replace("_", "")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
