"""Makes the first screen of a page: the question, its answer, the margins behind it, and the winner of a search.

Every mark stands for one network and none for a mean. Places are per cent of the width, so the figure is as wide as the
screen, and its words keep their size.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from certvae.certificate import FLOAT_SLACK
from certvae.spec.goal import BEST
from certvae.spec.modes import BY_NAME
from certvae.store.layout import VIEWS

from .captions import said_tau
from .parameters import told_apart
from .table import ABSENT, text
from .tables.answers import answer_lines
from .views import Partition, View, everything

Axis = tuple[float, float]
"""Its left and its right end, nats."""
QUESTION = "Does the latent path carry information about the input?"
NONE_STRICT = "No seed has a strict-feasible teacher: nothing is aggregated, and stress cases are listed apart."
MOST_NAMED = 4  # modes that a sentence names one by one
CONTROLS = {
    "head_only": "the head learns, and sends no gradient into the code",
    "untrained": "the network as it was initialised",
    "permuted": "the teacher's rows shuffled between images",
    "full_long": "full, for the epochs of no_align and rescue",
    "no_align": "the same network, not aligned",
    "vae": "the same network, not aligned",
}
"""What makes a claim believable: networks that the method must not, or need not, certify."""
MANY_MARKS = 12  # networks in one line of the figure; more are drawn without their bounds
MOST_LINES = 24


@dataclass(frozen=True)
class Mark:
    """A network: its row, where its margin and its bound stand across (per cent), and its side."""

    row: int
    x: float
    bound: float | None
    y: float
    sure: bool
    stress: bool


@dataclass(frozen=True)
class Line:
    """A mode, or a mode of one config: the words of its answer, and its networks."""

    number: int
    name: str
    remark: str
    control: bool
    head: str
    mean: str
    channel: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Strips:
    """The figure: lines over one axis in nats."""

    lines: tuple[Line, ...]
    left_out: int
    ticks: tuple[tuple[float, str], ...]
    axis: Axis
    zero: float
    tau: float


@dataclass(frozen=True)
class Winner:
    """What a search found, and whether fresh seeds agree."""

    name: str
    command: str
    sentence: str
    confirmation: str


@dataclass(frozen=True)
class Opening:
    """What the first screen of a page shows."""

    verdict: str
    sentence: str
    strips: Strips
    asked: tuple[int, ...]
    """Lines that the question is about."""
    winner: Winner | None

    @property
    def words(self) -> dict[str, Any]:
        """What the page's script says besides numbers."""
        return {"none": NONE_STRICT, "most": MOST_NAMED}


def opening(parts: Partition, view: View, winner: Winner | None = None) -> Opening:
    """The answer of these rows under a view."""
    rows = everything(parts)
    lines = answer_lines(parts, view)
    asked = _asked(lines)
    verdict, sentence = headline([lines[number] for number in asked], view, told_apart(rows))
    return Opening(verdict, sentence, strips(rows, lines, view, span(rows, view)), asked, winner)


def headline(asked: Sequence[Mapping[str, Any]], view: View, names: Mapping[str, str]) -> tuple[str, str]:
    """The verdict in one word, and the sentence after it.

    Args:
        asked: lines of `answers.answer_lines` that the question is about.
        view: tau.
        names: config -> what tells it from others; empty for one config.
    """
    seen = [line for line in asked if line["n"]]
    if not seen:
        return "Not asked.", NONE_STRICT
    certified, dead, unsure, n = (sum(line[name] for line in seen) for name in ("certified", "dead", "open", "n"))
    sure = "Yes." if certified == n and not dead and not unsure else "In part." if certified else "Not shown."
    each = " and ".join(f"{line['certified']} of {line['n']} for {_line_name(line, names)}" for line in seen)
    counts = each if len(seen) <= MOST_NAMED else f"{certified} of {n} over {len(seen)} lines"
    smallest, bound = (_least(line[name] for line in seen) for name in ("left_min", "bound_min"))
    whole = all(np.isfinite(line["bound_min"]) for line in seen if line["n_failed"] < line["n"])
    claimed = any(line["population"] != ABSENT for line in seen) and bound is not None and whole
    population = f", smallest population bound {text(bound, 'signed')} nats" if claimed else ""
    channels = f"; {dead} of {n} channels are dead (collapsed)" if dead else ""
    if unsure:
        channels += f"; {unsure} of {n} channels are open: their draws are not shown to carry information"
    return "Collapsed." if dead == n else sure, (
        f"The head is certified at tau = {said_tau(view.tau)} in strict-feasible seeds: {counts}; smallest margin left "
        f"{text(smallest, 'signed')} nats{population}{channels}."
    )


def span(rows: pd.DataFrame, view: View) -> Axis:
    """From where to where margins and bounds of these rows are drawn, nats."""
    values = np.concatenate([rows["margin"].to_numpy(float), rows["population_bound"].to_numpy(float), [0.0, view.tau]])
    known = values[np.isfinite(values)]
    pad = 0.06 * max(np.ptp(known), 0.1)
    return float(known.min() - pad), float(known.max() + pad)


def strips(rows: pd.DataFrame, lines: Sequence[Mapping[str, Any]], view: View, axis: Axis) -> Strips:
    """Every network at its margin, with its bound to the left, one line per config and mode."""
    names = told_apart(rows)
    groups = rows.groupby(["study", "config", "mode", "split"], sort=False).indices.values()
    found = [
        _line(number, line, rows.iloc[places], places, names, axis, view)
        for number, (line, places) in enumerate(zip(lines, groups, strict=True))
    ]
    shown = sorted(found[:MOST_LINES], key=lambda line: line.control)
    ticks = [tick for tick in MaxNLocator(6).tick_values(*axis) if axis[0] <= tick <= axis[1]]
    return Strips(
        tuple(shown),
        len(found) - len(shown),
        tuple((_across(tick, axis), f"{tick:g}".replace("-", "−")) for tick in ticks),
        axis,
        _across(0.0, axis),
        _across(view.tau, axis),
    )


def command(remembered: Mapping[str, Any] | None, store: Path, study: str, seeds: Sequence[int]) -> str:
    """A command line on the winner of a search, under the name of its study: under another it would be another look.

    It can be typed here, or in the folder where script and store lie; those of different folders have a PATH to fill
    in, for a page that is passed on names no folder of this machine.

    Args:
        remembered: the last command of the study, from the log of its store; None where nobody noted it.
        store: its folder.
        seeds: fresh ones that ran the config which the search has left in its file: the same cells, and nothing to
            train. Without any the search goes on, and confirms its winner.
    """
    if remembered is None:
        return ""
    script, place = Path(remembered["study"]), store.absolute()
    together = not seeds or script.parent == place.parent  # without seeds the store alone is named
    script, place = (_near(path, Path() if together else Path("PATH")) for path in (script, place))
    again = ["--config", place / VIEWS / study / BEST, "--seeds", *seeds, "--store", place]
    words = [script, "--study", study, *again] if seeds else [place, "--study", study]
    return shlex.join(["certvae", "run", *map(str, words)])


def _near(path: Path, elsewhere: Path) -> Path:
    """From here, where it lies below, or is the name of a module; else by its own name below `elsewhere`."""
    if not path.is_absolute():
        return path
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else elsewhere / path.name


def _asked(lines: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The lines whose heads were asked to follow the teacher; all but controls where nobody was."""
    kinds = [BY_NAME.get(str(line["mode"])) for line in lines]
    own = [number for number, kind in enumerate(kinds) if kind is None or kind.family != "control"]
    aligned = [number for number in own if (kind := kinds[number]) is None or kind.sign != "-"]
    return tuple(aligned or own or range(len(lines)))


def _line(
    number: int,
    line: Mapping[str, Any],
    group: pd.DataFrame,
    places: np.ndarray,
    names: Mapping[str, str],
    axis: Axis,
    view: View,
) -> Line:
    mode = str(line["mode"])
    kind = BY_NAME.get(mode)
    control = kind is not None and (kind.family == "control" or mode in CONTROLS)
    known = [place for place in range(len(group)) if np.isfinite(group["margin"].iloc[place])]
    many = len(known) > MANY_MARKS
    marks = (
        _mark(int(places[place]), group.iloc[place], (order + 1) / (len(known) + 1), many, axis, view)
        for order, place in enumerate(known)
    )
    words = (str(line[name]) for name in ("head", "mean_answer", "channel_answer"))
    return Line(number, _line_name(line, names), CONTROLS.get(mode, ""), control, *words, tuple(marks))


def _mark(row: int, network: pd.Series, y: float, many: bool, axis: Axis, view: View) -> Mark:
    bound = network["population_bound"]
    drawn = None if many or not np.isfinite(bound) else _across(bound, axis)
    sure = bool(network["margin"] - view.tau > FLOAT_SLACK)
    stress = network["teacher_status"] == "stress-case"
    return Mark(row, _across(network["margin"], axis), drawn, round(100 * y, 1), sure, stress)


def _across(value: float, axis: Axis) -> float:
    """Per cent from the left."""
    return round(100 * (float(value) - axis[0]) / (axis[1] - axis[0]), 3)


def _line_name(line: Mapping[str, Any], names: Mapping[str, str]) -> str:
    label = names.get(str(line["config"]))
    return f"{line['mode']}, {label}" if label else str(line["mode"])


def _least(values: Iterable[float]) -> float | None:
    return min((value for value in values if np.isfinite(value)), default=None)
