"""Builds a cell again from the plain values that a row holds of it: the inverse of `canonical.plain`."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from certvae.canonical import TYPE
from certvae.errors import ConfigFault
from certvae.spec.cell import CellSpec


def read(body: Mapping[str, Any]) -> CellSpec:
    """The cell that a row was made of, as its column `spec` says.

    Raises:
        ConfigFault: it is no cell of this version: a class or a field of it is not known here, or a value is refused.
    """
    found = _built(body)
    if not isinstance(found, CellSpec):
        raise _unknown(str(body.get(TYPE)))
    return found


def _built(value: Any) -> Any:
    match value:
        case Mapping() if TYPE in value:
            fields = {name: _built(one) for name, one in value.items() if name != TYPE}
            kind = _kinds().get(value[TYPE])
            if kind is None or not fields.keys() <= {field.name for field in dataclasses.fields(kind)}:
                raise _unknown(value[TYPE])
            return kind(**fields)
        case Mapping():
            return {name: _built(one) for name, one in value.items()}
        case list():
            return tuple(map(_built, value))
        case _:
            return value


@functools.cache
def _kinds() -> dict[str, Any]:
    """Every class that a cell may be made of, by name."""
    return {kind.__name__: kind for kind in _below(CellSpec)}


def _below(kind: type) -> Iterator[type]:
    yield kind
    for annotation in get_type_hints(kind, include_extras=True).values():
        for inner in _classes(annotation):
            yield from _below(inner)


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


def _unknown(kind: str) -> ConfigFault:
    return ConfigFault(
        f"{kind} is no part of a cell of this version, or has other fields here",
        "read it with the version that made it: `version_certvae` of the row says which",
        where="the spec of a row",
    )
