"""The stop rules of a search, learned from stored curves: what earlier configs showed halfway, and how they ended."""

from collections.abc import Sequence

from certvae import chain
from certvae.evidence import Evidence
from certvae.goal import Judged
from certvae.spec import CellSpec
from certvae.store import Store
from sweeps.dispatch import Cell
from sweeps.early_stop import Halfway, StopRule, halfway_epoch, learn
from sweeps.rows import RowIndex
from sweeps.rule import Search


class StopRules:
    """Makes the rule of each config in turn; a curve is read once."""

    def __init__(self, search: Search, store: Store, rows: RowIndex):
        self._search, self._rows, self._evidence = search, rows, Evidence(store)
        self._shown: list[list[Halfway]] = []

    def next(self, spec: CellSpec, told: Sequence[tuple[Judged, Sequence[Cell]]]) -> StopRule | None:
        """What the configs that a proposal knows of say about how late it may still improve.

        Args:
            told: configs 0 to k - lag in order, each with its cells.
        """
        confidence, epoch = self._search.early_stop, self._halfway_epoch(spec)
        if confidence is None or epoch is None:
            return None
        for _, cells in told[len(self._shown) :]:
            self._shown.append([self._halfway(cell) for cell in cells])
        earlier = [(judged, shown) for (judged, _), shown in zip(told, self._shown, strict=False)]
        return learn(self._search.goal, confidence, epoch, earlier)

    def _halfway(self, cell: Cell) -> Halfway:
        """What a cell showed halfway, from the stored curve of the searched mode."""
        goal, epoch = self._search.goal, self._halfway_epoch(cell.spec)
        rows = {row["mode"]: row for row in self._rows.of(cell)}
        curve = self._evidence.facts(rows.get(goal.mode, {}).get("key_trained")).get("curve", ())
        point = next((point for point in curve if point["epoch"] == epoch), {})
        reference = rows.get(goal.reference, {}).get("psnr_01")
        return Halfway(point.get("guard_margin"), point.get("guard_psnr_01"), reference)

    def _halfway_epoch(self, spec: CellSpec) -> int | None:
        schedule = chain.schedules(spec).get(self._search.goal.mode)
        return None if schedule is None else halfway_epoch(schedule)
