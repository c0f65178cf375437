"""Checked dataclasses: every field is coerced and bounded when a spec is built, never later.

Bounds stand in the annotation, so that a reader sees them where the field is declared:

    alpha_kl: Annotated[float, AtLeast(0)] = 1.0
"""

import dataclasses
import difflib
import math
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from certvae.canonical import SEED_LIMIT
from certvae.errors import ConfigFault


@dataclass(frozen=True)
class AtLeast:
    """value >= low."""

    low: float

    def allows(self, value: float) -> bool:
        return value >= self.low

    def __str__(self) -> str:
        return f">= {self.low:g}"


@dataclass(frozen=True)
class Above:
    """value > low."""

    low: float

    def allows(self, value: float) -> bool:
        return value > self.low

    def __str__(self) -> str:
        return f"> {self.low:g}"


@dataclass(frozen=True)
class AtMost:
    """value <= high."""

    high: float

    def allows(self, value: float) -> bool:
        return value <= self.high

    def __str__(self) -> str:
        return f"<= {self.high:g}"


@dataclass(frozen=True)
class Below:
    """value < high."""

    high: float

    def allows(self, value: float) -> bool:
        return value < self.high

    def __str__(self) -> str:
        return f"< {self.high:g}"


Bound = AtLeast | Above | AtMost | Below


class Checked:
    """Base of all specs: `__post_init__` coerces and bounds each field by its annotation."""

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self), include_extras=True).items():
            value = _coerce(annotation, getattr(self, name), f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)


def refuse(where: str, wanted: str, found: Any, remedy: str) -> ConfigFault:
    """`lambda_ts must be > 0, got 0` as a fault: what we want, what we got, what to do."""
    field = where.rsplit(".", 1)[-1]
    shown = f"{found!r} ({type(found).__name__})" if isinstance(found, str | bool) else repr(found)
    return ConfigFault(
        3,
        f"{field} must be {wanted}, got {shown}",
        where=where,
        cause="a spec is checked when built",
        remedy=remedy,
    )


def nearest(word: str, known: tuple[str, ...]) -> str:
    """`did you mean ...?` when one of the known words is close, else the list of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"


def _coerce(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(_coerce(arguments[0], value, where), arguments[1:], where)
    if origin is Literal:
        return _choice(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments[0], value, where)
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    return _scalar(annotation, value, where)


def _bounded(value: Any, bounds: tuple[Any, ...], where: str) -> Any:
    limits = [bound for bound in bounds if isinstance(bound, Bound)]
    if value is not None and not all(limit.allows(item) for limit in limits for item in _items(value)):
        raise refuse(where, " and ".join(map(str, limits)), value, "give a value inside the bounds")
    return value


def _items(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _choice(known: tuple[str, ...], value: Any, where: str) -> Any:
    if value not in known or isinstance(value, bool):
        raise refuse(where, f"one of {', '.join(map(str, known))}", value, nearest(str(value), tuple(map(str, known))))
    return value


def _tuple(item: Any, values: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise refuse(where, "a list", values, "give several values, or one in a list")
    return tuple(_coerce(item, value, where) for value in values)


def _union(members: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        return _coerce(others[0], value, where)
    if not isinstance(value, tuple(others)):
        raise refuse(where, f"one of {', '.join(member.__name__ for member in others)}", value, "build one of these")
    return value


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(float(value), where)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if kind not in (int, float) and isinstance(value, kind):
        return value
    raise refuse(where, _words(kind), value, f"write it as {_words(kind)}")


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise refuse(where, "a finite number", value, "give a finite number")
    return value


def _words(kind: type) -> str:
    if dataclasses.is_dataclass(kind):
        return f"a {kind.__name__}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(kind, kind.__name__)


def check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Distinct seeds in [0, 2^32).

    Raises:
        ConfigFault: for none, a duplicate, or one outside.
    """
    if not seeds:
        raise refuse("seeds", "at least one seed", seeds, "give seeds such as 0 1 2")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
            raise refuse("seeds", f"whole numbers in [0, {SEED_LIMIT})", seed, "give seeds such as 0 1 2")
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise refuse("seeds", "distinct", repeated, "name each seed once: a seed is the unit of replication")
    return tuple(seeds)
