"""Values from a command line as configs: `--values lambda_ts 1 5 25` runs a study at each of them.

Given for several fields, the study runs at every combination. Each config is a look at the certify rows, as always.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from certvae.engine.study import Study
from certvae.errors import ConfigFault
from certvae.spec.cell import CellSpec
from certvae.spec.fields import fields, path_of, replaced

TRUTH = {"true": True, "false": False}


def at_values(study: Study, given: Sequence[Sequence[str]]) -> Study:
    """The study with its configs taken at every combination of these values; unchanged without values."""
    if not given:
        return study
    return dataclasses.replace(study, configs=lambda base: configs_at(given, study.configs(base)))


def configs_at(given: Sequence[Sequence[str]], configs: Sequence[CellSpec]) -> tuple[CellSpec, ...]:
    """Every config at every combination of these values, each once: a config of the study may have one already.

    Raises:
        ConfigFault: no single value is what the field holds, a field of the data, one without values or named twice,
            or a value that the field refuses.
    """
    paths = [path_of(configs[0], words[0] if words else "") for words in given]
    if data := [(path, words[1:]) for path, words in zip(paths, given, strict=True) if path.startswith("data.")]:
        path, values = data[0]
        runs = " and ".join(f"--{path.replace('_', '-')} {value}" for value in values)
        raise _refused(
            path, "other data are another study", f"run the command once with each, in place of this: {runs}"
        )
    if repeated := [path for path in paths if paths.count(path) > 1]:
        raise _refused(repeated[0], f"{repeated[0]} is named twice", "give all values of a field at once")
    if empty := [path for path, words in zip(paths, given, strict=True) if len(words) == 1]:
        raise _refused(empty[0], "there is no value after the field", "write --values FIELD VALUE VALUE ...")
    found = configs
    for path, (_, *words) in zip(paths, given, strict=True):
        pairs = itertools.product(found, words)
        found = [replaced(config, path, _value(path, word, fields(config)[path])) for config, word in pairs]
    return tuple(dict.fromkeys(found))


def _value(path: str, word: str, usual: Any) -> bool | int | float | str:
    """What a word means in place of a value of this kind."""
    try:
        match usual:
            case bool():
                return TRUTH[word]
            case int() | float() | str():
                return type(usual)(word)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[type(usual)]
        raise _refused(path, f"wanted {wanted}, got {word!r}", f"give such a one; it is {usual} otherwise") from None
    remedy = "name a field of one number, word, or true and false; --help lists them"
    raise _refused(path, f"{path} is {usual!r}, which is no single value", remedy)


def _refused(path: str, what: str, remedy: str) -> ConfigFault:
    return ConfigFault(what, remedy, where=f"--values {path}")
