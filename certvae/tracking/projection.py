"""What MLflow shall show of a study: rows of the store in, runs out. Nothing here speaks to MLflow.

    config                one parent run per config: its spec, and aggregates over its seeds
      cell x mode         one run per trained network: curve, numbers, margin against tau, files
      cell x warm_up      one run per preparation that has a curve of its own

Rows name immutable objects, so a run is a function of its rows: their digest tells whether a run that is there already
is the right one, and a ledger made anew is the same ledger. Rows of other data or machines make other runs, and so does
code that trains another network. Code that judges the same network again changes its run; means are of one code alone.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from certvae.canonical import digest, finite
from certvae.errors import redact
from certvae.quality import PAPER_TAUS, Status
from certvae.tracking.evidence import Evidence
from certvae.tracking.runs import (
    DIGEST,
    KEY,
    NOTE,
    OPEN,
    DataUsed,
    Point,
    Run,
    RunStatus,
    cell_name,
    config_name,
    curve_points,
    flattened,
    number,
    without_seed,
)

PROJECTION = 2  # a changed projection needs a new number: runs that the old one wrote are then written again
SPLITS = ("certify", "guard", "train")  # the better one first
HEADLINE = ("info", "loss", "margin", "population_bound", "student_info", "psnr_01", "kl_rate", "active_units")
TAU_STEPS = range(0, 501, 25)  # thousandths of a nat: below log K for every K >= 2
STRICT: Status = "strict-feasible"
VERSION = "stage_version_"
JUDGED = ("key_trained", "key_judged", "key_teacher")  # objects of the modes, and one without a curve

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Which run there shall be, known before any object is read."""

    key: str
    open_key: str
    """Key of the run that was begun live, if one was."""
    parent: str | None
    step: str | None
    """Mode or preparation; None for a config."""
    prepared: str | None
    """Key of the object of a preparation."""
    digest: str
    rows: tuple[Row, ...]
    """By seed, then by split, the better one first."""

    @property
    def status(self) -> RunStatus:
        """FAILED when a row of it is of a run that ended without numbers."""
        return "FINISHED" if self.prepared or all(row["outcome"] == "ok" for row in self.rows) else "FAILED"


def entries(rows: Iterable[Row], evidence: Evidence) -> list[Entry]:
    """The runs of a study's rows, parents before children, in an order that does not depend on that of the rows."""
    families: dict[tuple[str, str], list[Row]] = {}
    for row in _newest(rows):
        families.setdefault((row["config"], _origin(row)), []).append(row)
    return [entry for (config, origin), rows in families.items() for entry in _family(config, origin, rows, evidence)]


def show(entry: Entry, evidence: Evidence) -> Run:
    """The run of an entry; reads the objects that its rows name."""
    if entry.step is None:
        return _config(entry)
    trained = [row for row in entry.rows if row["mode"] == entry.step]
    return _cell(entry, trained, evidence) if trained else _preparation(entry, entry.step, evidence)


def _newest(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in order, one per network and split: of the newest code, and then the one that paid for most looks."""
    seen = set()
    for row in sorted(map(_known, rows), key=_order):
        place = row["cell"], row["mode"], row["split"], _origin(row, row.get("key_trained"))
        if place not in seen:
            seen.add(place)
            yield row


def _family(config: str, origin: str, family: list[Row], evidence: Evidence) -> Iterator[Entry]:
    parent = f"{config}/{origin}"
    yield _entry(family, key=parent, open_key=f"{OPEN}{config}", parent=None, step=None)
    cells: dict[str, list[Row]] = {}
    for row in family:
        cells.setdefault(row["cell"], []).append(row)
    for cell, rows in cells.items():
        for (step, made), (prepared, shown) in _steps(rows, evidence).items():
            place = {"key": f"{cell}/{step}/{made}", "open_key": f"{OPEN}{cell}/{step}", "parent": parent}
            yield _entry(shown, **place, step=step, prepared=prepared)


def _steps(rows: list[Row], evidence: Evidence) -> dict[tuple[str, str], tuple[str | None, list[Row]]]:
    """{(step, what made it): (key of its object if it is a preparation, rows)} of all that one cell trained."""
    modes = {row["mode"] for row in rows}
    found: dict[tuple[str, str], tuple[str | None, list[Row]]] = {}
    for row in rows:
        for step, prepared in _preparations(row, evidence).items():
            found.setdefault((step, _origin(row, prepared)), (prepared, []))[1].append(row)
    for step in evidence.begun_steps(rows[0]["cell"]):
        if step not in modes | {known for known, _ in found}:
            found[step, _origin(rows[0])] = (None, rows)
    for row in rows:
        found.setdefault((row["mode"], _origin(row, row.get("key_trained"))), (None, []))[1].append(row)
    return found


def _entry(
    rows: list[Row], *, key: str, open_key: str, parent: str | None, step: str | None, prepared: str | None = None
) -> Entry:
    told = digest([PROJECTION, step, [digest(row) for row in rows]])
    place = {"key": key, "open_key": open_key, "parent": parent, "step": step, "prepared": prepared}
    return Entry(**place, digest=told, rows=tuple(rows))


def _preparations(row: Row, evidence: Evidence) -> dict[str, str]:
    """{step: key of its object} of what trained before a mode did."""
    keys = {name.removeprefix("key_"): row[name] for name in row if name.startswith("key_") and name not in JUDGED}
    if row.get("teacher_seed") is not None and "warm_up" in keys:
        keys["teacher_warm_up"] = keys.pop("warm_up")  # the teacher of all seeds read the features of its own
    return {step: key for step, key in keys.items() if "curve" in evidence.facts(key)}


def _config(entry: Entry) -> Run:
    first = entry.rows[0]
    tags = _tags(entry, first, ("study", "config", "data", "substitute"), kind="config")
    points = [point for group in _replications(entry.rows) for point in _aggregates(group)]
    return Run(
        key=entry.key,
        parent=None,
        name=config_name(first["config"]),
        status=entry.status,
        tags=tags,
        params=without_seed(flattened(first["spec"])),
        points=tuple(sorted(points)),
        data=_data_used(first),
    )


def _preparation(entry: Entry, step: str, evidence: Evidence) -> Run:
    first, key = entry.rows[0], entry.prepared
    facts = evidence.facts(key)
    reason = {} if key else {"outcome": first["outcome"], "reason": first["reason"]}
    told = ("study", "config", "cell", "seed", "data", "substitute")
    tags = _tags(entry, first, told, kind="cell", mode=step, stage=evidence.stage(key) or step, **reason)
    curve = facts.get("curve") or evidence.begun_curve(first["cell"], step)
    return Run(
        key=entry.key,
        parent=entry.parent,
        name=cell_name(step, first["seed"], first["config"]),
        status=entry.status,
        tags=tags,
        params=flattened(first["spec"]),
        points=tuple(sorted(_curve(curve))),
        files=evidence.checkpoint(key),
        data=_data_used(first),
        seconds=evidence.seconds(key),
    )


def _cell(entry: Entry, rows: list[Row], evidence: Evidence) -> Run:
    best, step = rows[0], str(entry.step)
    key = best.get("key_trained")
    curve = evidence.facts(key).get("curve") or evidence.begun_curve(best["cell"], step)
    points = [*_curve(curve), *_numbers(best, HEADLINE, ""), *_by_tau(best)]
    for row in rows:
        points += _numbers(row, _measured(row), f"{row['split']}/")
    missing = [name for name in HEADLINE if name in best and best[name] is None]
    told = [name for name, value in best.items() if isinstance(value, str)]
    versions = [f"{name.removeprefix(VERSION)} {best[name]}" for name in sorted(best) if name.startswith(VERSION)]
    more = {"stage_versions": ", ".join(versions), "unavailable": ", ".join(missing), NOTE: _note(best)}
    tags = _tags(entry, best, (*told, "seed"), kind="cell", stage=evidence.stage(key), **more)
    return Run(
        key=entry.key,
        parent=entry.parent,
        name=cell_name(step, best["seed"], best["config"]),
        status=entry.status,
        tags=tags,
        params=flattened(best["spec"]),
        points=tuple(sorted(points)),
        files=_files(rows, evidence),
        data=_data_used(best),
        seconds=evidence.seconds(key),
    )


def _aggregates(rows: list[Row]) -> list[Point]:
    """Mean and minimum over strict-feasible seeds of one mode on one split; what failed is counted, never averaged.

    Stress cases are counted apart and enter no mean. A strict-feasible seed whose margin is not finite has failed.
    """
    ok = [row for row in rows if row["outcome"] == "ok"]
    strict = [row for row in ok if row.get("teacher_status") == STRICT]
    whole = [row for row in strict if None not in (row.get("margin"), row.get("psnr_01"))]
    stress = len(ok) - len(strict)
    told: dict[str, float] = {"n": len(whole), "n_stress": stress, "n_failed": len(rows) - len(whole) - stress}
    for name in ("margin", "psnr_01") if whole else ():
        values = [row[name] for row in whole]
        told |= {f"{name}_mean": math.fsum(values) / len(values), f"{name}_min": min(values)}
    return [Point(f"{rows[0]['split']}/{rows[0]['mode']}/{name}", 0, float(value)) for name, value in told.items()]


def _replications(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each mode on each split that the newest code made; seeds that only older code made do not count."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["split"], row["mode"]), []).append(row)
    for group in groups.values():
        newest = min(map(_code, group))
        yield [row for row in group if _code(row) == newest]


def _by_tau(row: Row) -> list[Point]:
    """G_tau = G_0 - tau (arXiv 2605.05813) as a line over tau, and at the three buffers that get a column."""
    margin = number(row.get("margin"))
    if margin is None:
        return []
    points = [Point(f"margin_tau_{tau:.2f}", 0, margin - tau) for tau in PAPER_TAUS]
    for step in TAU_STEPS:
        points += [Point("margin_by_tau", step, margin - step / 1000), Point("tau", step, step / 1000)]
    return points


def _numbers(row: Row, names: Iterable[str], prefix: str) -> list[Point]:
    values = {name: number(row.get(name)) for name in names}
    return [Point(f"{prefix}{name}", 0, value) for name, value in values.items() if value is not None]


def _measured(row: Row) -> list[str]:
    """Names of all numbers that were measured: those that are no version and repeat nothing of the spec."""
    chosen = {name.rpartition(".")[2] for name in flattened(row["spec"])}
    return [name for name in row if name not in chosen and not name.startswith(VERSION)]


def _curve(curve: Iterable[Mapping[str, Any]]) -> list[Point]:
    return [point for epoch in curve for point in curve_points(epoch)]


def _tags(entry: Entry, row: Row, names: Iterable[str], **more: str | None) -> dict[str, str]:
    named = {name: row.get(name) for name in names} | more
    texts = {name: str(value) for name, value in named.items() if value not in (None, "")}
    safe = redact("\0".join(texts.values())).split("\0")
    return {KEY: entry.key, DIGEST: entry.digest, **dict(zip(texts, safe, strict=True))}


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


def _data_used(row: Row) -> DataUsed:
    return DataUsed(name=row["data"], digest=row["data_digest"])


def _origin(row: Row, made: str | None = None) -> str:
    """Which machine and data a row comes from, and which object; numbers of different ones are never pooled."""
    return digest([row["environment"], row["data_digest"], made])[:16]


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
