"""What differs between two cells: spec, program, environment and numbers, of one store or of two."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from certvae.canonical import leaves
from certvae.engine.progress import console, digits, listing
from certvae.engine.rows import Row
from certvae.looks import together
from certvae.spec.modes import ordered
from certvae.spec.quantities import QUANTITIES
from certvae.store.lookup import cell_of, newest
from certvae.store.program import PROGRAM
from certvae.store.store import Store

DIGESTS, DIGITS = (PROGRAM, "environment", "data_digest"), 12  # fields of a row, and what is shown of each
SPLITS = ("guard", "certify", "train")
NUMBERS = tuple(one for one in QUANTITIES if one.form != "text" and one.name not in ("seed", "split"))
ABSENT = "-"


@dataclass(frozen=True)
class Side:
    """One cell: its rows by (split, mode), and the store that they lie in."""

    rows: Mapping[tuple[str, str], Row]
    store: Store

    @property
    def first(self) -> Row:
        """One row of the cell: its rows share a spec and, as a rule, what they were made with."""
        return next(iter(self.rows.values()))

    def said(self, chosen: Callable[[str], bool]) -> dict[str, str]:
        """The chosen fields of its rows as texts; several values where the rows do not agree."""
        found: dict[str, list[str]] = {}
        for row in self.rows.values():
            for name, value in row.items():
                if chosen(name):
                    found.setdefault(name, []).append(str(value)[:DIGITS] if name in DIGESTS else str(value))
        return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items()}


def side(store: Store, prefix: str) -> Side:
    """The newest rows of the cell whose digest begins with `prefix`, with bounds at the looks of now.

    Raises:
        ConfigFault: the store has no such cell, or more than one.
    """
    every = store.rows()
    cell = cell_of(store, every, prefix)
    config = next(row["config"] for row in every if row["cell"] == cell)
    now = together(store.disk, [row for row in every if row["config"] == config])
    found = newest(store, (row for row in now if row["cell"] == cell))
    return Side({(row["split"], row["mode"]): row for row in found}, store)


def show(one: Side, two: Side) -> None:
    """Prints what `shown` returns."""
    console().print(shown(one, two))


def shown(one: Side, two: Side) -> Group:
    """A table per kind of difference: what the cells were asked for, what made them, and what came out."""
    specs = [dict(leaves(side.first["spec"])) for side in (one, two)]
    spec = _differing(*specs)
    programs = [side.said(lambda name: name == PROGRAM or name.startswith("stage_version_")) for side in (one, two)]
    places = [side.said(_of_environment) for side in (one, two)]
    return Group(
        f"{_named(one)} and {_named(two)}",
        _table("spec", ("field", "first", "second"), spec),
        _table("program", ("text or stage", "first", "second"), _differing(*programs)),
        _table("environment", ("what", "first", "second"), _differing(*places)),
        _table("numbers", ("split", "mode", "quantity", "first", "second", "second - first"), _numbers(one, two)),
    )


def _of_environment(name: str) -> bool:
    return name in ("environment", "device", "data", "data_digest", "substitute") or name.startswith("version_")


def _named(side: Side) -> str:
    row = side.first
    stale = ", stale" if any(map(side.store.is_stale, side.rows.values())) else ""
    return f"cell {row['cell'][:DIGITS]} (study {row['study']}, seed {row['seed']}{stale})"


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, ...]]:
    names = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    return [(name, str(one.get(name, ABSENT)), str(two.get(name, ABSENT))) for name in names]


def _numbers(one: Side, two: Side) -> Iterable[tuple[str, ...]]:
    """Every quantity of every network that both have, where it is not the same."""
    common = one.rows.keys() & two.rows.keys()
    for split in SPLITS:
        for mode in ordered({mode for there, mode in common if there == split}):
            first, second = one.rows[split, mode], two.rows[split, mode]
            for quantity in NUMBERS:
                pair = first.get(quantity.name), second.get(quantity.name)
                if pair[0] != pair[1]:
                    yield (split, mode, quantity.name, *(digits(one, ".6g") for one in pair), _gap(*pair))


def _gap(first: Any, second: Any) -> str:
    known = all(isinstance(value, int | float) for value in (first, second))
    return f"{second - first:+.3g}" if known else ABSENT


def _table(title: str, headings: Sequence[str], lines: Iterable[tuple[str, ...]]) -> Table | str:
    rows = list(lines)
    if not rows:
        return f"\n[bold]{title}[/]  the same"
    table = listing(*headings, right=["second - first"], title=f"\n{title}")
    for row in rows:
        table.add_row(*row)
    return table
