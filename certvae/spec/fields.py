"""Fields of a cell by their dotted path, as the command line names them: `training.learning_rate`, `lambda_ts`.

The branch `protocol` has no name of its own there. A last part that only one field has will do: `lambda_ts`.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any

from certvae.errors import ConfigFault
from certvae.spec.cell import CellSpec

UNNAMED = "protocol"
NOT_FIELDS = ("study", "seed")


def fields(base: CellSpec) -> dict[str, Any]:
    """{dotted path: value} of every field of a cell that is no branch."""
    return dict(_leaves(base, ""))


def path_of(base: CellSpec, name: str) -> str:
    """The path of the one field that this name means; the name may be a whole path, or the end of one.

    Raises:
        ConfigFault: no field ends so, or several do.
    """
    wanted, known = name.replace("-", "_").removeprefix(f"{UNNAMED}."), list(fields(base))
    found = [path for path in known if path == wanted] or [path for path in known if path.endswith(f".{wanted}")]
    if len(found) == 1:
        return found[0]
    near = found or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    near = near or [path for path in known if wanted.rpartition(".")[2] in path]
    raise ConfigFault(
        f"{name!r} names {len(found) or 'no'} fields of the cell",
        f"name one of {', '.join(near or known)}",
        where="a field of the cell",
    )


def replaced(base: CellSpec, path: str, value: Any) -> CellSpec:
    """The cell with another value at this path.

    Raises:
        ConfigFault: the cell refuses it, or there is no such field.
    """
    first, *rest = path_of(base, path).split(".")
    names = [first, *rest] if hasattr(base, first) else [UNNAMED, first, *rest]
    return _replaced(base, names, value)


def _replaced(branch: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    changed = _replaced(getattr(branch, name), rest, value) if rest else value
    return dataclasses.replace(branch, **{name: changed})


def _leaves(branch: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(branch):
        value, here = getattr(branch, field.name), f"{prefix}{field.name}"
        if not prefix and field.name in NOT_FIELDS:
            continue
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, "" if here == UNNAMED else f"{here}.")
        else:
            yield here, value
