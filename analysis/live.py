"""Puts into a page the rows that it judges anew while thresholds move: rows, and no conclusion.

The page's script, `live.js`, partitions, counts and ranks as `views`, `tables.answers` and `search` do, with the same
floating-point operations in the same order; `tests/analysis/test_live.py` holds one against the other.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from certvae.certificate import FLOAT_SLACK

from .parameters import labels, told_apart
from .tables.answers import SHOWN
from .views import NO_TEACHER, QUALITY, Partition, View, everything

NETWORK = ("seed", "mode", "split", "outcome", "reason", "margin", "population_bound", "psnr_01")
CARD = ("info", "loss", "student_info", "kl_rate", "active_units", "mean_word", "channel_word", "units_word")
"""What a card of a network tells besides."""
TRIED = ("seed", "mode", "split", "outcome", "reason", "margin", "psnr_01")
NO_ROW, UNKNOWN = -2, -1
"""In place of a teacher: none was found, and none is known."""


def payload(
    parts: Partition,
    tried: Partition | None,
    view: View,
    seeds: tuple[int, ...],
    ended: Mapping[str, str] = MappingProxyType({}),
    places: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The rows of a page and of its search, the teachers behind them, and the view that the page was asked for.

    Args:
        parts: the rows that tables are about.
        tried: guard rows of all configs of a search, or None.
        view: as the page was asked for; where its sliders stand.
        seeds: those of the search; all that are there when empty.
        ended: configs that it ended early -> why.
        places: where each config lies in the space; empty where its goal is not pooled.
    """
    rows, guard = everything(parts), None if tried is None else everything(tried)
    teachers = _Teachers()
    return {
        "view": shown(view),
        "slack": FLOAT_SLACK,
        "goal": {name: getattr(view.goal, name) for name in ("mode", "reference", "score", "certainty")},
        "labels": told_apart(rows),
        "rows": _records(rows, (*NETWORK, *CARD), teachers),
        "tried": None if guard is None else _records(guard, TRIED, teachers),
        "names": {} if guard is None else labels(guard),
        "seeds": sorted(set(seeds) or (set() if guard is None else set(guard["seed"]))),
        "ended": dict(ended),
        "places": {config: dict(place) for config, place in places.items()} if view.goal.pooled else {},
        "shown": SHOWN,
        "teachers": teachers.found,
    }


def shown(view: View) -> dict[str, Any]:
    """A view as the page's script knows it."""
    bounds = {"psnr_floor": view.goal.psnr_floor, "psnr_drop": view.goal.psnr_drop}
    return {"tau": view.tau, **bounds, **dataclasses.asdict(view.thresholds)}


class _Teachers:
    """Distinct teachers by their numbers, in order of appearance; a failed row has that of the rows beside it."""

    def __init__(self) -> None:
        self.found: list[dict[str, float | None]] = []
        self._places: dict[tuple[object, ...], int] = {}

    def places(self, rows: pd.DataFrame) -> list[int]:
        known = rows["teacher_info"].notna()
        numbers = rows[list(QUALITY)].itertuples(index=False, name=None)
        own = [self._place(teacher) if one else UNKNOWN for teacher, one in zip(numbers, known, strict=True)]
        siblings: dict[str, int] = {}
        for key, place in zip(rows["key_teacher"], own, strict=True):
            if place >= 0 and isinstance(key, str):
                siblings.setdefault(key, place)
        keys = (key if isinstance(key, str) else "" for key in rows["key_teacher"])
        found = [place if place >= 0 else siblings.get(key, UNKNOWN) for place, key in zip(own, keys, strict=True)]
        none = rows["outcome"] == NO_TEACHER
        return [NO_ROW if absent else place for absent, place in zip(none, found, strict=True)]

    def _place(self, teacher: tuple[object, ...]) -> int:
        key = tuple(None if pd.isna(value) else value for value in teacher)
        if key not in self._places:
            self._places[key] = len(self.found)
            self.found.append(_teacher(dict(zip(QUALITY, key, strict=True))))
        return self._places[key]


def _teacher(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    plain = {name.removeprefix("teacher_"): finite(value) for name, value in numbers.items()}
    return {**plain, "log_k": float(np.log(int(numbers["classes"])))}


def _records(rows: pd.DataFrame, names: tuple[str, ...], teachers: _Teachers) -> dict[str, list[Any]]:
    """Columns of plain values; configs as places in a list, which shortens ten thousand rows."""
    configs = list(dict.fromkeys(rows["config"]))
    places = {config: place for place, config in enumerate(configs)}
    return {
        "configs": configs,
        "config": [places[config] for config in rows["config"]],
        "teacher": teachers.places(rows),
        **{name: [finite(value) for value in rows[name]] for name in names},
    }


def finite(value: Any) -> Any:
    """A plain value of JSON: None for what is missing or not finite."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)
