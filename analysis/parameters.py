"""The fields of specs that differ between configs, and how configs are named and ordered by them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from certvae.canonical import leaves

MOST_NAMED = 3  # parameters; with more the name of a config is its digest


def parameters(frame: pd.DataFrame) -> pd.DataFrame:
    """The fields of the spec that differ between configs, one line per config (the index), by their shortest names."""
    varied = _varied(frame)
    return varied.rename(columns=_short_names(varied.columns.tolist()))


def fields(frame: pd.DataFrame) -> pd.DataFrame:
    """As `parameters`, by the names of a command line, such as `objective.alpha_kl`, without types."""
    varied = _varied(frame)
    told = varied[[name for name in varied.columns if not name.endswith("type")]]
    return told.rename(columns=lambda name: name.removeprefix("protocol."))


def differing(frames: Iterable[pd.DataFrame]) -> dict[str, list[str]]:
    """Field -> its values in each frame, as texts, for the fields of specs on which the frames do not agree."""
    found = [_whole(frame) for frame in frames]
    names = dict.fromkeys(name for one in found for name in one.columns)
    texts = {name: [_values(one, name) for one in found] for name in names}
    return {name.removeprefix("protocol."): told for name, told in texts.items() if len(set(told)) > 1}


def config_order(frame: pd.DataFrame) -> list[str]:
    """The configs by rising values of what differs between them, so that alpha_kl 1, 2, 4, 8 are read in this order."""
    varied = parameters(frame)
    columns = varied.columns.tolist()
    ordered = (
        varied.sort_values(columns, key=lambda one: one if is_number(one) else one.astype(str)) if columns else varied
    )
    return [*ordered.index, *sorted(set(frame["config"]) - set(ordered.index))]


def labels(frame: pd.DataFrame) -> dict[str, str]:
    """A readable name per config: its varied parameters when they are few, else the start of its digest.

    A field that only some configs have follows from the type of its branch, which is enough where it tells them apart.
    """
    varied = parameters(frame)
    digests = {config: config[:8] for config in frame["config"].unique()}
    for chosen in (varied.dropna(axis="columns"), varied):
        named = _named(chosen) if 1 <= chosen.shape[1] <= MOST_NAMED else {}
        if named and len(set(named.values())) == len(named):
            return digests | named
    return digests


def told_apart(frame: pd.DataFrame) -> dict[str, str]:
    """`labels` where there are several configs; nothing where there is one, which needs no name."""
    return labels(frame) if frame["config"].nunique() > 1 else {}


def is_number(values: pd.Series) -> bool:
    """True for a parameter whose values can be ordered on an axis."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """All fields of the spec, one line per config."""
    specs = frame.dropna(subset="spec").drop_duplicates("config")
    found = pd.DataFrame([_fields(spec) for spec in specs["spec"]], index=pd.Index(specs["config"]))
    return found.drop(columns=["seed", "study"], errors="ignore")


def _values(fields: pd.DataFrame, name: str) -> str:
    """The distinct values of a field, as texts."""
    return ", ".join(dict.fromkeys(map(_shown, fields[name]))) if name in fields else "–"


def _varied(frame: pd.DataFrame) -> pd.DataFrame:
    found = _whole(frame)
    return found[[name for name in found.columns if found[name].nunique(dropna=False) > 1]]


def _fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {path: json.dumps(value) if isinstance(value, list) else value for path, value in leaves(spec)}


def _short_names(paths: list[str]) -> dict[str, str]:
    """The last words of each path that no other path shares."""
    words = {path: path.split(".") for path in paths}
    return {
        path: next(
            tail
            for length in range(1, len(parts) + 1)
            for tail in (".".join(parts[-length:]),)
            if sum(other == tail or other.endswith(f".{tail}") for other in paths) == 1
        )
        for path, parts in words.items()
    }


def _named(varied: pd.DataFrame) -> dict[str, str]:
    lines = ((str(config), line.items()) for config, line in varied.iterrows())
    return {config: ", ".join(f"{name} {_shown(value)}" for name, value in line) for config, line in lines}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
