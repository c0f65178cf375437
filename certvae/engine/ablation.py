"""From the default to the winner of a search, one change at a time: which change bought what.

The path is greedy: at each step every change that is left is tried alone, and the one that ends best in the order of
the goal is kept; d changes take d (d + 1) / 2 configs, the winner among them, and the default. They run on confirmation
seeds, which did not choose the winner, and on guard rows: no look at certify. Order matters where changes interact.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Group

from certvae.engine.dispatch import Cell, Ended
from certvae.engine.progress import listing, setting
from certvae.engine.rows import RowIndex
from certvae.engine.rule import SEARCHED, Search
from certvae.errors import ConfigFault, SearchFault
from certvae.spec.cell import CellSpec
from certvae.spec.fields import fields, replaced
from certvae.spec.judged import SEEDS_FOR_AN_ERROR, Judged, judge
from certvae.spec.ranking import ranked
from certvae.terminal import number_of


@dataclass(frozen=True)
class Step:
    """One step of the path: a config, the change that led to it, and how it was judged."""

    change: str
    spec: CellSpec
    judged: Judged


class Ablation:
    """Hands out the cells of all configs between the default and the winner, step by step.

    Raises:
        SearchFault: the winner differs from the default in more than values of fields.
    """

    def __init__(self, search: Search, winner: CellSpec, rows: RowIndex):
        self._search, self._rows = search, rows
        self.path: list[Step] = []
        self.asked: list[Cell] = []
        self._left = changes(search.base, winner)
        self._tried: dict[str, CellSpec] = {"": search.base}
        """Change -> config, of the step that is under way."""
        self._open: set[str] | None = None
        """Cells that are to be heard; None before the first step."""

    def more(self) -> Iterable[Cell] | None:
        while not self._open:
            if self._open is not None:
                self._keep_best()
                self._tried = {change: one for change in self._left if (one := self._changed(change)) is not None}
                if not self._tried:
                    return None
            cells = [cell for spec in self._tried.values() for cell in self.cells(spec)]
            self.asked += cells
            missing = [cell for cell in cells if not self._rows.of(cell)]
            self._open = {cell.spec.cell for cell in missing}
            if missing:
                return missing
        return []

    def heard(self, cell: Cell, ended: Ended) -> None:
        self._rows.add(ended.rows)
        (self._open or set()).discard(cell.spec.cell)

    def cells(self, spec: CellSpec) -> list[Cell]:
        """The cells of a config: one per confirmation seed, training only the modes that the goal reads."""
        modes = (self._search.goal.mode, self._search.goal.reference)
        return [Cell(replace(spec, seed=seed), SEARCHED, modes) for seed in self._search.confirmation_seeds]

    def missing(self) -> list[Cell]:
        """Cells that were asked for and have no rows."""
        return [cell for cell in self.asked if not self._rows.of(cell)]

    def _changed(self, change: str) -> CellSpec | None:
        """The last config of the path with one change more; None where the spec refuses it without another."""
        try:
            return replaced(self.path[-1].spec, change, self._left[change])
        except ConfigFault:
            return None

    def _keep_best(self) -> None:
        judged = {change: self._judged(spec) for change, spec in self._tried.items()}
        first = ranked([*judged.values()], self._search.goal.certainty)[0]
        change = next(change for change, one in judged.items() if one is first)
        self.path.append(Step(change, self._tried[change], first))
        self._left.pop(change, None)

    def _judged(self, spec: CellSpec) -> Judged:
        rows = [row for cell in self.cells(spec) for row in self._rows.of(cell)]
        return judge(spec.config, self._search.confirmation_seeds, rows, self._search.goal)

    def shown(self) -> Group:
        """The path as a table: what a change bought is a mean paired difference over seeds, with its standard error."""
        goal, usual = self._search.goal, fields(self._search.base)
        numbers = (goal.sought, "bought", "error", "PSNR", f"slack {goal.unit}")
        table = listing("change", *numbers, right=numbers)
        before: Judged | None = None
        for step in self.path:
            name, now = step.change, fields(step.spec)
            words = f"{name} {setting(usual[name])} -> {setting(now[name])}" if name else "default"
            table.add_row(words, *_numbers(step.judged, before))
            before = step.judged
        seeds = number_of(len(self._search.confirmation_seeds), "fresh seed")
        title = f"from the default to the winner, one change at a time ({seeds}, guard rows; greedy):"
        return Group(title, table, "a search chose these changes: what each bought is told of this winner alone")


def changes(base: CellSpec, winner: CellSpec) -> dict[str, Any]:
    """The fields in which the winner differs from the default, with the winner's values.

    Raises:
        SearchFault: they differ in more than values of fields.
    """
    usual = fields(base)
    found = {path: value for path, value in fields(winner).items() if path in usual and usual[path] != value}
    made = base
    with contextlib.suppress(ConfigFault):
        for path, value in found.items():
            made = replaced(made, path, value)
    if made.config != winner.config:
        raise SearchFault(
            "the winner differs from the default in more than values of fields",
            "leave --ablate away, or search numeric fields (--range)",
            where=base.study,
            cause="a part of the cell is of another kind, and is no step that could be taken alone",
        )
    return found


def _numbers(now: Judged, before: Judged | None) -> list[str]:
    """Score, what the step bought of it, PSNR and slack; a config that did not end has a reason instead."""
    if now.score is None:
        return ["-", "", "", "", now.reason]
    bought = ["", ""]
    if before is not None and before.score is not None:
        bought = [f"{now.score - before.score:+.4g}", _error(now.margins, before.margins)]
    return [f"{now.score:+.4g}", *bought, f"{now.psnr:.2f}", f"{now.slack:+.2f}"]


def _error(now: Sequence[float], before: Sequence[float]) -> str:
    """Standard error of a mean paired difference; none where the seeds are not the same, or one."""
    if len(now) != len(before) or len(now) < SEEDS_FOR_AN_ERROR:
        return "-"
    paired = np.subtract(now, before)
    return f"{paired.std(ddof=1) / np.sqrt(len(paired)):.2g}"
