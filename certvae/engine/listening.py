"""Hears what becomes of the cells of a run: their rows and failures, the log of the store, the ledger."""

from collections.abc import Iterable, Mapping
from typing import Any

from certvae.engine import runs
from certvae.engine.context import Context
from certvae.engine.dispatch import Cell, Ended, Listener, Source
from certvae.engine.rows import RowIndex
from certvae.tracking.curves import LiveCurves


class Collector:
    """A source that also keeps the rows and the failures of what it handed out, and notes what that was."""

    def __init__(self, source: Source, context: Context, failures: Mapping[str, Ended] | None = None):
        self._source, self._rows = source, context.rows
        self._store, self._study = context.store, context.base.study
        self.failures: dict[str, Ended] = dict(failures or {})

    def more(self) -> Iterable[Cell] | None:
        cells = self._source.more()
        runs.ask(self._store, self._study, cells or ())
        return cells

    def heard(self, cell: Cell, ended: Ended) -> None:
        self._rows.add(ended.rows)
        if ended.failed:
            self.failures[cell.spec.cell] = ended
        self._source.heard(cell, ended)


class Live(Listener):
    """Into the ledger: curves while they grow, and cells as they end."""

    def __init__(self, live: LiveCurves, rows: RowIndex):
        self._live, self._rows, self._at = live, rows, {}

    def heard(self, token: str, lane: Cell, event: Mapping[str, Any]) -> None:
        self._at[token] = event.get("at", self._at.get(token, ""))
        self._live.heard(lane.spec, self._at[token], event)

    def ended(self, token: str, lane: Cell, ended: Ended) -> None:  # noqa: ARG002 - it says nothing more
        self._at.pop(token, None)

    def over(self, cell: Cell, ended: Ended) -> None:
        if ended.kind == "ok":
            config = cell.spec.config
            self._live.ended(cell.spec, self._rows.config(config), self._rows.beside(config))
