"""The rows of a study in memory: read once from the store, then fed by the cells that end."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from certvae.engine.dispatch import Cell
from certvae.spec.cell import CellSpec
from certvae.store.program import told

Row = Mapping[str, Any]
Modes = Callable[[CellSpec, tuple[str, ...]], tuple[str, ...]]


def fresh(row: Row) -> bool:  # noqa: ARG001
    """A test by which no row is stale, where nobody asks by which text of the program it was made."""
    return False


class RowIndex:
    """The usable rows of a study, looked up by cell and by config.

    Args:
        rows: what the store holds.
        current: whether a row was made by this code on such a machine; others are kept in the store and not used.
        modes: (spec, those that are wanted) -> the modes of a cell, in the order of tables.
        stale: whether another text of the program had a part in a row; it is used all the same, and said.
        recompute: stale rows are not used, so that their cells run again.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        current: Callable[[Row], bool],
        modes: Modes,
        stale: Callable[[Row], bool] = fresh,
        *,
        recompute: bool = False,
    ):
        self._current, self._modes, self._stale, self._recompute = current, modes, stale, recompute
        self._found: dict[str, dict[tuple[str, str], Row]] = {}
        self._cells: dict[str, set[str]] = {}
        """Config -> cells of it that have rows."""
        self.outdated: list[Row] = []
        """Those that were made by other code or elsewhere: not used, but they claim what they claimed."""
        self.add(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Takes rows in; the same row twice is one."""
        for row in rows:
            if not self._current(row):
                self.outdated.append(row)
            elif not (self._recompute and self._stale(row)):
                self._take(row)

    def _take(self, row: Row) -> None:
        """A stale row takes the place of no fresh one."""
        found, place = self._found.setdefault(row["cell"], {}), (row["split"], row["mode"])
        if place not in found or self._stale(found[place]) or not self._stale(row):
            found[place] = row
            self._cells.setdefault(row["config"], set()).add(row["cell"])

    def of(self, cell: Cell) -> list[Row]:
        """The rows of a finished cell on its splits, in the order of tables; none if any is missing."""
        found = self._found.get(cell.spec.cell, {})
        wanted = [(split, mode) for split in cell.splits for mode in self._modes(cell.spec, cell.only)]
        return [found[place] for place in wanted] if all(place in found for place in wanted) else []

    def is_stale(self, cell: Cell) -> bool:
        """Whether a finished cell has a stale row."""
        return any(map(self._stale, self.of(cell)))

    @property
    def warning(self) -> str:
        """What is to be said of the usable rows that are stale; nothing when none is."""
        rows = self.all()
        stale = sum(map(self._stale, rows))
        return told(stale, len(rows)) if stale else ""

    def config(self, config: str) -> list[Row]:
        """Every usable row of a config, by cell."""
        return [row for cell in sorted(self._cells.get(config, ())) for row in self._found[cell].values()]

    def beside(self, config: str) -> list[Row]:
        """The outdated rows of a config."""
        return [row for row in self.outdated if row["config"] == config]

    def all(self) -> list[Row]:
        """Every usable row, by cell."""
        return [row for found in self._found.values() for row in found.values()]
