"""Turns rows of the store into the runs that MLflow shows. Nothing here speaks to MLflow.

    config         one parent run per config: its spec, and aggregates over its seeds
    cell/step      one run per network: curve, numbers, margin against tau, files; one per preparation with a curve

Rows name immutable objects, so a run is a function of its rows: their digest tells whether a run that is there already
is the right one, and a ledger made anew is the same ledger. A network that several programs, machines or data trained
is shown as the newest program left it, the others stay in the store. Means are of one program, machine and data alone.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from certvae import answers
from certvae.canonical import digest, finite
from certvae.certificate import FLOAT_SLACK, PAPER_TAU, WORDS
from certvae.errors import redact
from certvae.quality import PAPER_TAUS, Status, statuses
from certvae.spec.quantities import read_by
from certvae.tracking.evidence import Evidence
from certvae.tracking.runs import (
    NOTE,
    DataUsed,
    Kind,
    Point,
    Run,
    RunStatus,
    cell_key,
    cell_name,
    config_name,
    curve_points,
    flattened,
    number,
    without_seed,
)

PROJECTION = 7  # a changed projection needs a new number: what the old one wrote is then written again
SPLITS = ("certify", "guard", "train")  # the better one first
HEADLINE = read_by("headline")
TAU_STEPS = range(0, 501, 25)  # thousandths of a nat: below log K for every K >= 2
STRESS: Status = "stress-case"
VERSION = "stage_version_"
JUDGED = ("key_trained", "key_judged", "key_fitted", "key_teacher")  # objects of the modes, and one without a curve
TOLD = (
    "data",
    "substitute",
    "preconditions",
    "withheld",
    "split",
    "teacher_status",
    "teacher_source",
    "outcome",
    "reason",
)  # tags that are read
FOLDED = "certvae.row"  # a tag with the texts of a row that only programs read, as JSON
ANSWERS = {"mean": answers.mean, "channel": answers.channel, "units": answers.units}  # tags
LONGEST_TAG = 5000  # characters; MLflow refuses more

Row = Mapping[str, Any]
Origin = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run that MLflow shall show: its key and rows, known before any object is read."""

    key: str
    rows: tuple[Row, ...]
    """By seed, then by split, the better one first."""
    parent: str | None = None
    step: str | None = None
    """Mode or preparation; None for a config."""
    prepared: str | None = None
    """Key of the object of a preparation."""

    @cached_property
    def digest(self) -> str:
        """Tells whether a run that is there already is the right one."""
        return digest([PROJECTION, self.step, [digest(row) for row in self.rows]])

    @property
    def status(self) -> RunStatus:
        """FAILED when a row of it is of a run that ended without numbers."""
        return "FINISHED" if self.prepared or all(row["outcome"] == "ok" for row in self.rows) else "FAILED"


def entries(rows: Iterable[Row], evidence: Evidence) -> list[Entry]:
    """The runs of a study's rows, parents before children, in an order that does not depend on that of the rows."""
    configs: dict[str, dict[str, list[Row]]] = {}
    for row in _shown(rows):
        configs.setdefault(row["config"], {}).setdefault(row["cell"], []).append(row)
    found = []
    for config, cells in configs.items():
        found.append(Entry(key=config, rows=tuple(row for rows in cells.values() for row in rows)))
        for cell, rows in cells.items():
            for step, (prepared, own) in _steps(rows, evidence).items():
                key = cell_key(cell, step)
                found.append(Entry(key=key, rows=tuple(own), parent=config, step=step, prepared=prepared))
    return found


def show(entry: Entry, evidence: Evidence) -> Run:
    """The run of an entry; reads the objects that its rows name."""
    if entry.step is None:
        return _config(entry)
    trained = [row for row in entry.rows if row["mode"] == entry.step]
    return _network(entry, trained, evidence) if trained else _preparation(entry, entry.step, evidence)


def _shown(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in order: of each network of a cell the newest one, a row per split, that which paid for most looks."""
    networks: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(map(_known, rows), key=_order):
        networks.setdefault((row["cell"], row["mode"]), []).append(row)
    for group in networks.values():
        common = set.intersection(*({name for name in row if name.startswith(VERSION)} for row in group))
        newest = min(group, key=lambda row: tuple(-row[name] for name in sorted(common)))
        splits: dict[str, Row] = {}
        for row in group:
            if _network_of(row) == _network_of(newest):
                splits.setdefault(row["split"], row)
        yield from splits.values()


def _steps(rows: list[Row], evidence: Evidence) -> dict[str, tuple[str | None, list[Row]]]:
    """{step: (key of its object if it is a preparation, rows)} of all that one cell trained."""
    modes = dict.fromkeys(row["mode"] for row in rows)
    found: dict[str, tuple[str | None, list[Row]]] = {}
    for row in rows:
        for step, key in _preparations(row, evidence).items():
            if found.setdefault(step, (key, []))[0] == key:
                found[step][1].append(row)
    for step in evidence.begun_steps(rows[0]["cell"]):
        if step not in modes:
            found.setdefault(step, (None, rows))
    return found | {mode: (None, [row for row in rows if row["mode"] == mode]) for mode in modes}


def _preparations(row: Row, evidence: Evidence) -> dict[str, str]:
    """{step: key of its object} of what trained before a mode did."""
    keys = {name.removeprefix("key_"): row[name] for name in row if name.startswith("key_") and name not in JUDGED}
    if row.get("teacher_seed") is not None and "warm_up" in keys:
        keys["teacher_warm_up"] = keys.pop("warm_up")  # the teacher of all seeds read the features of its own
    return {step: key for step, key in keys.items() if "curve" in evidence.facts(key)}


def _config(entry: Entry) -> Run:
    first = entry.rows[0]
    tags = {
        "kind": "config",
        "config": config_name(first["config"]),
        **_named(first, ("data", "substitute", "preconditions")),
    }
    known = zip(entry.rows, statuses(entry.rows), strict=True)
    judged = [{**row, "teacher_status": status} for row, status in known]
    points = [point for group in _replications(judged) for point in _aggregates(group)]
    return Run(
        key=entry.key,
        parent=None,
        name=config_name(first["config"]),
        status=entry.status,
        tags=tags,
        params=without_seed(flattened(first["spec"])),
        points=tuple(sorted(points)),
        data=DataUsed(name=first["data"], digest=first["data_digest"]),
    )


def _preparation(entry: Entry, step: str, evidence: Evidence) -> Run:
    first, key = entry.rows[0], entry.prepared
    told = ("data", "substitute", *(() if key else ("outcome", "reason")))
    curve = evidence.facts(key).get("curve") or evidence.begun_curve(first["cell"], step)
    return _child(entry, "preparation", told, {}, _curve(curve), evidence.checkpoint(key), evidence.seconds(key))


def _network(entry: Entry, rows: list[Row], evidence: Evidence) -> Run:
    best, step = rows[0], str(entry.step)
    key = best.get("key_trained")
    curve = evidence.facts(key).get("curve") or evidence.begun_curve(best["cell"], step)
    points = [*_curve(curve), *_numbers(best, HEADLINE, ""), *_by_tau(best)]
    for row in rows:
        points += _numbers(row, _measured(row), f"{row['split']}/")
    more = {NOTE: _note(best), FOLDED: _folded(best)}
    if "look" in best:
        more["look"] = f"{best['look']} of {best['looks']}"
    more |= {name: word for name, answer in ANSWERS.items() if (word := answer(best))}
    if (margin := number(best.get("margin"))) is not None:
        more["words"] = WORDS[margin - PAPER_TAU > FLOAT_SLACK if best.get("view", "mu") == "mu" else None]
    return _child(entry, "network", TOLD, more, points, _files(rows, evidence), evidence.seconds(key))


def _child(
    entry: Entry,
    kind: Kind,
    told: Iterable[str],
    more: Mapping[str, str],
    points: list[Point],
    files: dict[str, bytes],
    seconds: float,
) -> Run:
    row, step = entry.rows[0], str(entry.step)
    place = {"kind": kind, "config": config_name(row["config"]), "mode": step, "seed": str(row["seed"])}
    return Run(
        key=entry.key,
        parent=entry.parent,
        name=cell_name(step, row["seed"], row["config"]),
        status=entry.status,
        tags=place | _named(row, told) | {name: redact(text) for name, text in more.items()},
        params=flattened(row["spec"]),
        points=tuple(sorted(points)),
        files=files,
        seconds=seconds,
    )


def _aggregates(rows: list[Row]) -> list[Point]:
    """Mean and minimum over strict-feasible seeds of one mode on one split; what failed is counted, never averaged.

    Stress cases, failed ones too, are counted apart and enter no mean. A strict-feasible seed whose margin is not
    finite has failed, and so has a failed one whose teacher nobody knows.
    """
    strict = [row for row in rows if row["teacher_status"] != STRESS]
    whole = [row for row in strict if None not in (row.get("margin"), row.get("psnr_01"))]
    counts = {"n": len(whole), "n_stress": len(rows) - len(strict), "n_failed": len(strict) - len(whole)}
    told: dict[str, float] = {**counts}
    for name in ("margin", "psnr_01") if whole else ():
        values = [row[name] for row in whole]
        told |= {f"{name}_mean": math.fsum(values) / len(values), f"{name}_min": min(values)}
    return [Point(f"{rows[0]['split']}/{rows[0]['mode']}/{name}", 0, float(value)) for name, value in told.items()]


def _replications(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each mode on each split that the newest code made, of the machine and data that have most seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["split"], row["mode"]), []).append(row)
    for group in groups.values():
        newest = min(map(_code, group))
        current = [row for row in group if _code(row) == newest]
        counts = Counter(map(_origin, current))
        most = max(counts, key=lambda origin: (counts[origin], origin))
        yield [row for row in current if _origin(row) == most]


def _by_tau(row: Row) -> list[Point]:
    """G_tau = G_0 - tau (arXiv 2605.05813) as a line over tau, and at the three buffers that get a column."""
    margin = number(row.get("margin"))
    if margin is None:
        return []
    points = [Point(at_tau(tau), 0, margin - tau) for tau in PAPER_TAUS]
    for step in TAU_STEPS:
        points += [Point("margin_by_tau", step, margin - step / 1000), Point("tau", step, step / 1000)]
    return points


def at_tau(tau: float) -> str:
    """How the margin at a buffer is called: short enough for the head of a column."""
    return f"G_{tau:.2f}"


def _numbers(row: Row, names: Iterable[str], prefix: str) -> list[Point]:
    values = {name: number(row.get(name)) for name in names}
    return [Point(f"{prefix}{name}", 0, value) for name, value in values.items() if value is not None]


def _measured(row: Row) -> list[str]:
    """Names of all numbers that were measured: those that are no version and repeat nothing of the spec."""
    chosen = {name.rpartition(".")[2] for name in flattened(row["spec"])}
    return [name for name in row if name not in chosen and not name.startswith(VERSION)]


def _curve(curve: Iterable[Mapping[str, Any]]) -> list[Point]:
    return [point for epoch in curve for point in curve_points(epoch)]


def _named(row: Row, names: Iterable[str]) -> dict[str, str]:
    """Tags of a row, without those that say nothing."""
    return {name: redact(str(row[name])) for name in names if row.get(name) not in (None, "")}


def _folded(row: Row) -> str:
    """The texts that no reader of a table wants, and the names of headline numbers that are not finite, as JSON."""
    rest = {name: value for name, value in row.items() if isinstance(value, str) and name not in TOLD}
    versions = {name.removeprefix(VERSION): row[name] for name in sorted(row) if name.startswith(VERSION)}
    missing = [name for name in HEADLINE if name in row and row[name] is None]
    text = json.dumps({**rest, "stage_versions": versions, "unavailable": missing}, sort_keys=True)
    return text if len(text) <= LONGEST_TAG else "see certificate.json"


def _note(row: Row) -> str:
    """What the page of a run says in words."""
    if row["outcome"] != "ok":
        return f"{row['outcome']}: {row['reason']}"
    told = {"margin": "nats", "population_bound": "nats", "psnr_01": "dB"}
    numbers = [f"{name} {row[name]:+.4f} {unit}" for name, unit in told.items() if row.get(name) is not None]
    return f"{row['teacher_status']}, split {row['split']}: {', '.join(numbers)}"


def _files(rows: list[Row], evidence: Evidence) -> dict[str, bytes]:
    facts = {row["split"]: {name: value for name, value in row.items() if name != "spec"} for row in rows}
    text = json.dumps({"spec": rows[0]["spec"], **facts}, sort_keys=True)
    best = rows[0]
    return {
        "certificate.json": redact(text).encode(),
        **evidence.checkpoint(best.get("key_trained")),
        **evidence.teacher_report(best.get("key_teacher")),
        **evidence.reconstructions(best.get("key_judged")),
    }


def _network_of(row: Row) -> tuple[str | None, ...]:
    """The network that a row judges: its object, and the machine and the data that it comes from."""
    return row.get("key_trained"), *_origin(row)


def _origin(row: Row) -> Origin:
    """Which machine and data a row comes from; numbers of different ones are never pooled."""
    return row["environment"], row["data_digest"]


def _code(row: Row) -> tuple[tuple[str, int], ...]:
    """Versions of the stages that a row was made by, ordered so that newer ones come first."""
    return tuple((name, -row[name]) for name in sorted(row) if name.startswith(VERSION))


def _order(row: Row) -> tuple:
    """Seeds in order, the better split first, then newer code."""
    split = SPLITS.index(row["split"])
    return row["config"], row["seed"], row["mode"], split, _code(row), -row.get("looks", 0), digest(row)


def _known(row: Row) -> Row:
    """The row with None for what is not finite: that never goes to MLflow."""
    return {name: finite(value) for name, value in row.items()}
