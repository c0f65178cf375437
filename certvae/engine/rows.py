"""The rows of a study in memory: read once from the store, then fed by the cells that end."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from certvae.engine.dispatch import Cell
from certvae.spec.cell import CellSpec

Row = Mapping[str, Any]
Modes = Callable[[CellSpec, tuple[str, ...]], tuple[str, ...]]


class RowIndex:
    """Rows by cell.

    Args:
        rows: what the store holds.
        current: whether a row was made by this code on such a machine; others are kept in the store and not used.
        modes: (spec, those that are wanted) -> the modes of a cell, in the order of tables.
    """

    def __init__(self, rows: Iterable[Row], current: Callable[[Row], bool], modes: Modes):
        self._current, self._modes = current, modes
        self._found: dict[str, dict[tuple[str, str], Row]] = {}
        self._cells: dict[str, set[str]] = {}
        """Config -> cells of it that have rows."""
        self.outdated = 0
        self.add(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Takes rows in; the same row twice is one."""
        for row in rows:
            if self._current(row):
                self._found.setdefault(row["cell"], {})[row["split"], row["mode"]] = row
                self._cells.setdefault(row["config"], set()).add(row["cell"])
            else:
                self.outdated += 1

    def of(self, cell: Cell) -> list[Row]:
        """The rows of a finished cell on its splits, in the order of tables; none if any is missing."""
        found = self._found.get(cell.spec.cell, {})
        wanted = [(split, mode) for split in cell.splits for mode in self._modes(cell.spec, cell.only)]
        return [found[place] for place in wanted] if all(place in found for place in wanted) else []

    def config(self, config: str) -> list[Row]:
        """Every usable row of a config, by cell."""
        return [row for cell in sorted(self._cells.get(config, ())) for row in self._found[cell].values()]

    def all(self) -> list[Row]:
        """Every usable row, by cell."""
        return [row for found in self._found.values() for row in found.values()]
