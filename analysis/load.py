"""Loads the rows of a store as one frame, and what they point at: curves, teacher candidates, pictures.

    from certvae.analysis.compare import summary
    from certvae.analysis.views import partition

    frame = load("store", "tiny_fixed_q", split="certify")  # one line per stored row, numbers as they were measured
    strict, stress = partition(frame)
    summary(strict)

Rows of different code versions, environments or splits are not mixed unless asked: their numbers are not replications
of one experiment. Values that are not finite or not available are NaN: never feasible, never averaged in silence.
"""

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from certvae import answers
from certvae.looks import together
from certvae.spec.goal import BEST, RULE, Goal, ended_kind, proposed_kind
from certvae.spec.modes import ordered
from certvae.spec.quantities import QUANTITIES
from certvae.store import environments
from certvae.store.artifact import read_arrays, read_facts
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt, Folder, give_up, open_folder
from certvae.store.layout import VIEWS, existing
from certvae.store.log import commands
from certvae.store.records import documents, get_document, rows, studies
from certvae.store.store import OBJECTS

from .parameters import config_order
from .views import Refused

Found = TypeVar("Found")
Mixable = Literal["versions", "environments", "splits"]
IDENTITY = ("study", "config", "cell", "seed", "mode", "split", "outcome", "reason")
TEXTS = (
    *("data", "data_digest", "substitute", "environment", "program", "view"),
    *(one.name for one in QUANTITIES if one.form == "text" and one.name not in IDENTITY),
)
KEYS = ("key_warm_up", "key_teacher", "key_trained", "key_judged")
NUMBERS = tuple(one.name for one in QUANTITIES if one.form != "text" and one.name not in IDENTITY)
"""Present in every frame, NaN where a row has no such number."""
POINT = ("epoch", "guard_margin", "guard_student_info", "guard_psnr_01")
CANDIDATE = ("chosen", "classes", "info", "top1_margin", "min_mass")
VERSION = re.compile(r"(stage_)?version_")
STAGE_VERSION = "stage_version_"
"""Begins the columns that are absent, or missing, in rows that a stage had no part in."""
_KEY = re.compile(r"[0-9a-f]{64}")
_TRAINED = ("study", "config", "cell", "seed", "mode", "key_trained")


def load(
    store: Path | str,
    study: str | None = None,
    split: str | None = None,
    *,
    only: Mapping[str, str] | None = None,
    mix: Collection[Mixable] = (),
) -> pd.DataFrame:
    """All rows of a store, or of one study and split, ordered by study, config, seed and mode.

    Bounds are those of now: they pay for every look at the same certify rows, see `certvae.looks`.

    Args:
        store: the folder of a store; it is read, never made.
        only: column -> text that a row must show there, such as {"version_torch": "2.10.0"}; a row that was not made
            by a stage has no version of it, and stays.
        mix: what may differ between rows; nothing by default.

    Raises:
        StoreFault: the folder is no store.
        Refused: no row is left, or rows differ in what must not be mixed.
    """
    disk = open_store(store)
    wanted = {**({} if split is None else {"split": split}), **(only or {})}
    records = together(disk, rows(disk, study))
    chosen = _chosen(frame_of(records), wanted) if records else pd.DataFrame()
    if chosen.empty:
        raise _nothing(disk, study, wanted, records)
    _refuse_mixture(chosen, mix)
    return chosen


def open_store(store: Path | str) -> Disk:
    """Opens a store for reading: what is corrupt stays where it is. A folder that is none is refused, and none is made.

    Raises:
        StoreFault: no store, a damaged one, or one of another layout.
    """
    return Disk(existing(Path(store).resolve()).root, reading=True)


def searched(store: Path | str, study: str) -> tuple[Goal, tuple[int, ...]] | None:
    """The goal and the seeds of the search that a store holds for a study; None where nothing was searched."""
    rule = get_document(open_store(store), RULE, study)
    return None if rule is None else (Goal.of(rule["goal"]), tuple(rule["seeds"]))


def ended(store: Path | str, study: str) -> dict[str, str]:
    """Configs that a search ended before all of their cells had results -> why."""
    found = documents(open_store(store), ended_kind(study)).values()
    return {body["config"]: body["reason"] for body in found if "config" in body}


def places(store: Path | str, study: str) -> dict[str, dict[str, float]]:
    """Config -> where what the sampler of a search drew for it lies in its space, each coordinate in [0, 1]."""
    found = documents(open_store(store), proposed_kind(study))
    return {body["config"]: body["place"] for _, body in sorted(found.items()) if "place" in body}


def remembered(store: Path | str, study: str) -> dict[str, Any] | None:
    """The last command of a study, `study` (script or module) and `arguments`; None where nobody noted it."""
    return commands(open_store(store)).get(study)


def best(store: Path | str, study: str) -> str | None:
    """The config that a search has left in its file as the best; None where it left none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(Path(store, VIEWS, study, BEST).read_text())["config"]
    return None


def curves(store: Path | str, frame: pd.DataFrame) -> pd.DataFrame:
    """One line per (row, report point): the guard curves of all trained networks that `frame` points at.

    Columns: study, config, cell, seed, mode, key_trained, split (always guard), versions, and the fields of a point.
    A network whose object is gone has no lines.
    """
    disk = open_store(store)
    named = frame[[*_TRAINED, *_versions(frame)]].assign(split="guard").dropna(subset="key_trained")
    points = [
        {"key_trained": key, **point}
        for key, facts in objects(disk, named["key_trained"], read_facts)
        for point in facts.get("curve", [])
    ]
    shown = _lines(points, "key_trained", POINT)
    return named.merge(shown, on="key_trained", sort=False)


def candidates(store: Path | str, frame: pd.DataFrame) -> pd.DataFrame:
    """One line per candidate of every teacher search that `frame` points at, scored on guard rows.

    Columns: study, seed, key_teacher, split (always guard), versions, chosen, source, and the fields of a candidate.
    """
    disk = open_store(store)
    named = frame[["study", "seed", "key_teacher", *_versions(frame)]].assign(split="guard")
    named = named.dropna(subset="key_teacher").drop_duplicates("key_teacher")
    found = objects(disk, named["key_teacher"], read_facts)
    lines = [line for key, facts in found for line in _candidate_lines(key, facts)]
    shown = _lines(lines, "key_teacher", CANDIDATE)
    return named.merge(shown, on="key_teacher", sort=False)


def machines(store: Path | str, frame: pd.DataFrame) -> pd.DataFrame:
    """One line per part of every machine that made rows of `frame`, as far as the store remembers.

    Columns: machine (a number), part, found.
    """
    disk = open_store(store)
    tables = [table for one in frame["environment"].dropna().unique() for table in environments.of(disk, one)]
    lines = [(number, part, found) for number, table in enumerate(tables) for part, found in table.items()]
    return pd.DataFrame(lines, columns=["machine", "part", "found"])


@dataclass(frozen=True, eq=False)
class Pictures:
    """Rows spread over a split and their reconstructions by one network, uint8 (n, C, H, W)."""

    seed: int
    mode: str
    split: str
    originals: np.ndarray
    reconstructions: np.ndarray


def pictures(store: Path | str, frame: pd.DataFrame) -> list[Pictures]:
    """The pictures that were kept with each row of `frame`, in its order."""
    disk = open_store(store)
    judged = {row["key_judged"]: row for row in frame.dropna(subset="key_judged").to_dict("records")}
    found = ((judged[key], arrays) for key, arrays in objects(disk, judged, read_arrays))
    return [
        Pictures(row["seed"], row["mode"], row["split"], arrays["originals"], arrays["reconstructions"])
        for row, arrays in found
    ]


def _lines(lines: list[dict[str, Any]], key: str, numbers: tuple[str, ...]) -> pd.DataFrame:
    """Lines as a frame; without any, the columns are there all the same."""
    if lines:
        return pd.DataFrame(lines).astype({key: object})
    return pd.DataFrame({key: pd.Series(dtype=object), **{name: pd.Series(dtype=float) for name in numbers}})


def frame_of(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as one frame, one line each, ordered by study, config, seed and mode; nothing is refused."""
    frame = pd.DataFrame.from_records(records)
    frame = frame.reindex(columns=[*IDENTITY, *(name for name in frame if name not in IDENTITY)])
    texts = {name: frame[name].astype(object) if name in frame else None for name in (*TEXTS, *KEYS)}
    numbers = {name: pd.to_numeric(frame[name]) if name in frame else np.nan for name in NUMBERS}
    stages = {name: frame[name].astype("Int64") for name in frame if name.startswith(STAGE_VERSION)}
    said = {"mean_word": answers.mean, "channel_word": answers.channel, "units_word": answers.units}
    words = {name: list(map(answer, records)) for name, answer in said.items()}
    made = pd.DataFrame({**texts, **words, **numbers, **stages}, index=frame.index)  # at once: one by one is slow
    kept = frame[[name for name in frame if name not in made]]
    frame = pd.concat([kept, made], axis=1)[[*frame, *(name for name in made if name not in frame)]]
    places = {config: place for place, config in enumerate(config_order(frame))}
    modes = {mode: place for place, mode in enumerate(ordered(frame["mode"]))}
    order = frame.assign(config=frame["config"].map(places), mode=frame["mode"].map(modes))
    ordered_rows = frame.loc[order.sort_values(["study", "config", "seed", "mode", "split"]).index]
    return ordered_rows.reset_index(drop=True)


def _chosen(frame: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    for name, text in wanted.items():
        if name not in frame:
            raise Refused(
                f"rows have no column {name!r}",
                f"use one of {', '.join(sorted(frame.columns))}",
                where="load",
                cause="`only` names a column of a row",
            )
        shown = frame[name].astype("string")
        frame = frame[(shown == text).fillna(name.startswith(STAGE_VERSION))]
    return frame.reset_index(drop=True)


def _refuse_mixture(frame: pd.DataFrame, mix: Collection[Mixable]) -> None:
    kinds: dict[Mixable, list[str]] = {
        "versions": _versions(frame),
        "environments": ["environment"],
        "splits": ["split"],
    }
    for kind, columns in kinds.items():
        counts = {name: frame[name].value_counts().sort_index() for name in columns}
        differing = {name: count for name, count in counts.items() if len(count) > 1}
        if differing and kind not in mix:
            raise _mixed(kind, differing)


def _mixed(kind: str, differing: Mapping[str, pd.Series]) -> Refused:
    shown = "; ".join(
        f"{name}: " + ", ".join(f"{value} ({count} rows)" for value, count in counts.items())
        for name, counts in differing.items()
    )
    newest = {name: str(counts.index[-1]) for name, counts in differing.items()}
    options = " ".join(f"--only {name}={value}" for name, value in newest.items())
    return Refused(
        f"wanted rows of one set of {kind}, found {shown}",
        f"choose, for example with {options}, or ask for the mixture with --mix {kind} (in Python: "
        f"only={newest} or mix={{{kind!r}}})",
        where="load",
        cause=f"rows of different {kind} are no replications of one experiment",
    )


def _nothing(disk: Disk, study: str | None, wanted: Mapping[str, str], found: list[dict]) -> Refused:
    splits = sorted({row["split"] for row in found}) if study is not None else []
    asked = ", ".join([f"study {study!r}"] * (study is not None) + [f"{k} {v!r}" for k, v in wanted.items()])
    there = f"studies with rows: {', '.join(studies(disk)) or 'none'}"
    return Refused(
        f"wanted rows of {asked or 'any study'}, found none",
        "name one of these, or run the study first",
        where=str(disk.root),
        cause=there + (f"; splits of this study: {', '.join(splits)}" if splits else ""),
    )


def _versions(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if VERSION.match(name)]


def objects(disk: Disk, keys: Collection[str], read: Callable[[Folder], Found]) -> Iterator[tuple[str, Found]]:
    """Every distinct key with what is read of its published object; those that are gone are left out.

    Raises:
        Corrupt: it is not what was published; nothing is moved.
    """
    for key in dict.fromkeys(key for key in keys if _KEY.fullmatch(key)):
        try:
            folder = open_folder(disk, disk.root / OBJECTS / key)
            found = None if folder is None else read(folder)
        except Corrupt as corrupt:
            give_up(disk, corrupt)
        if found is not None:
            yield key, found


def _candidate_lines(key: str, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    chosen = facts.get("chosen", {})
    return [
        {
            "key_teacher": key,
            "classes": facts["classes"],
            "source": facts["source"],
            "chosen": chosen.items() <= candidate.items(),
            **candidate,
        }
        for candidate in facts.get("candidates", [])
    ]
