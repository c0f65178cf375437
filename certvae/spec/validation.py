"""Specs are checked when they are built, never later: frozen pydantic dataclasses with their bounds at the fields.

    @spec
    class Objective:
        alpha_kl: Annotated[float, Ge(0)] = 1.0

A whole number is taken for a float and a list for a tuple. Nothing else is converted; NaN and infinities are refused.
"""

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, field
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

import pydantic.dataclasses
from annotated_types import Ge, Gt, Le, Lt

from certvae.canonical import SEED_LIMIT
from certvae.errors import ConfigFault

T = TypeVar("T")
_CONFIG = pydantic.ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
_SIGNS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}
_KINDS = {"float_type": "a number", "int_type": "a whole number", "string_type": "a text", "bool_type": "true or false"}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def spec(kind: type[T]) -> type[T]:
    """Makes a class a frozen dataclass of named fields that refuses a wrong one by a ConfigFault."""
    built: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(kind)
    build = built.__init__

    @functools.wraps(build)
    def checked(self: T, *values: Any, **fields: Any) -> None:
        try:
            build(self, *values, **{name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()})
        except pydantic.ValidationError as error:
            raise _refused(kind, error.errors(include_url=False)) from None

    built.__init__ = checked
    return built


def _refused(kind: type, errors: Sequence[Mapping[str, Any]]) -> ConfigFault:
    """The first wrong field in our words; a union has an error for each of its members."""
    field, *inner = map(str, errors[0]["loc"])
    annotation = list(_flat(get_type_hints(kind, include_extras=True).get(field)))
    wanted, remedy = _wanted(kind, errors, annotation)
    place = ".".join([kind.__name__, field]) + "".join(f"[{index}]" for index in inner if index.isdigit())
    return refuse(place, wanted, errors[0]["input"], remedy)


def _wanted(kind: type, errors: Sequence[Mapping[str, Any]], annotation: list[Any]) -> tuple[str, str]:
    """What the first of these errors wants, and what to do."""
    error = errors[0]
    match error["type"]:
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            bounds = [f"{_SIGNS[type(one)]} {astuple(one)[0]}" for one in annotation if type(one) in _SIGNS]
            return " and ".join(bounds), "give a value inside the bounds"
        case "literal_error":
            known = tuple(word for word in annotation if isinstance(word, str))
            return f"one of {', '.join(known)}", nearest(str(error["input"]), known)
        case "finite_number":
            return "a finite number", "give a finite number"
        case "tuple_type":
            return "a list", "give several values, or one in a list"
        case "too_short":
            return "a list with at least one value", "give one value or more"
        case "dataclass_exact_type" | "is_instance_of":
            names = [str(name) for one in errors if one["loc"][0] == error["loc"][0] for name in one["ctx"].values()]
            return (f"one of {', '.join(names)}" if names[1:] else f"a {names[0]}"), "build one"
        case "unexpected_keyword_argument":
            return f"a field of {kind.__name__}", nearest(str(error["loc"][0]), (*get_type_hints(kind),))
        case name if name in _KINDS:
            return _KINDS[name], f"write it as {_KINDS[name]}"
        case _:
            return "given by its name", error["msg"]


def _flat(annotation: Any) -> Iterator[Any]:
    """Types, words and bounds that an annotation is made of."""
    inner = get_args(annotation)
    yield from (part for one in inner for part in _flat(one)) if inner else (annotation,)


def refuse(where: str, wanted: str, found: Any, remedy: str) -> ConfigFault:
    """The fault for a field with a wrong value: `lambda_ts must be > 0, got 0`, and what to do."""
    field = where.rsplit(".", 1)[-1]
    shown = f"{found!r} ({type(found).__name__})" if isinstance(found, str | bool) else repr(found)
    return ConfigFault(f"{field} must be {wanted}, got {shown}", remedy, where=where)


def nearest(word: str, known: tuple[str, ...]) -> str:
    """`did you mean ...?` when one of the known words is close, else the list of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"


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
