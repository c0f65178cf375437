"""Writes every value in one canonical text (JSON), and derives digests and seeds from it.

Two values with the same meaning (1 and 1.0 in a float field, another key order, 0.0 and -0.0) have the same canonical
text and so the same digest. NaN and infinities have no canonical text: they are refused.
"""

import dataclasses
import functools
import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Literal, Protocol, runtime_checkable

from certvae.errors import ConfigFault

TYPE = "type"
SCHEMA = 1
SEED_LIMIT = 2**32
Purpose = Literal["warm_up", "teacher", "init", "order", "noise", "judge"]


@runtime_checkable
class Identified(Protocol):
    """A value that is named by a digest of its own instead of by its fields."""

    def identity(self) -> Any: ...


def plain(value: Any) -> Any:
    """The JSON value of a spec, an artifact, or a tree of plain values.

    Raises:
        ConfigFault: for NaN, infinities, keys that are no strings, and types that have no canonical text.
    """
    match value:
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise _no_text(value, f"{value} is not a finite number")
            return value + 0.0  # -0.0 becomes 0.0
        case str():
            return unicodedata.normalize("NFC", value)
        case Mapping():
            return _fields(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if _is_identified(type(value)):
            return plain(value.identity())
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {TYPE: type(value).__name__, **fields}
        case _:
            raise _no_text(value, f"a {type(value).__name__} has no canonical text")


def fields_of(value: Any, later: tuple[str, ...]) -> dict[str, Any]:
    """What an `identity` of a spec returns: its fields, without those of `later` that are at their default.

    A field that came after results had been named leaves no trace while nothing is asked of it, so these keep their
    names.
    """
    found = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    named = {field.name: one for field, one in found if field.name not in later or one != field.default}
    return {TYPE: type(value).__name__, **named}


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, ASCII escapes, floats by their shortest exact text."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every leaf of a tree of plain values; at the path of a branch stands its type."""
    for name, value in tree.items():
        here = path if path and name == TYPE else f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from leaves(value, here)
        else:
            yield here, value


def finite(value: Any) -> Any:
    """The same, or None for NaN and infinities: they have no canonical text."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stage_seed(seed: int, purpose: Purpose, *counters: int) -> int:
    """The seed, in [0, 2**32), of one random purpose of a cell, and of one epoch of it: each has its own stream.

    Everything is hashed into 32 bits, because torch's CPU generator reads no more of a seed than its low 32 bits.
    """
    return int.from_bytes(hashlib.sha256(canonical_json([SCHEMA, seed, purpose, *counters])).digest()[:4], "big")


@functools.cache
def _is_identified(kind: type) -> bool:
    """Asked once per type: to look for the methods of a protocol takes longer than all the rest."""
    return issubclass(kind, Identified)


def _fields(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    fields = {_key(key): plain(item) for key, item in mapping.items()}
    if len(fields) < len(mapping):
        raise _no_text(mapping, f"a key occurs twice once its letters are composed: {sorted(fields)}")
    return fields


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _no_text(key, f"a key must be a string, got {key!r}")
    return unicodedata.normalize("NFC", key)


def _no_text(value: Any, what: str) -> ConfigFault:
    hint = (
        "give paths to the command, not to a spec"
        if isinstance(value, PurePath)
        else "give a finite number or a string"
    )
    return ConfigFault(what, hint, where="canonical JSON", cause="the value cannot name a result")
