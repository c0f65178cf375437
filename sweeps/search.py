"""A search as a source of cells: configs proposed, run on every search seed, told; then the winner on fresh seeds.

The plan grows config by config. A proposal is published in the store before its cells start, so a killed driver asks
nothing twice; what is told is read from rows, so the order in which cells finish does not matter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from certvae import goal as goals
from certvae.dataset import Split
from certvae.errors import StoreFault
from certvae.gate import open_certify
from certvae.goal import Judged
from certvae.spec import CellSpec
from certvae.store import Store
from sweeps.dispatch import Cell, Ended
from sweeps.propose import Proposal, Space, propose, spec_of
from sweeps.rows import RowIndex
from sweeps.rule import Search

SEARCHED: tuple[Split, ...] = ("guard",)
CONFIRMED: tuple[Split, ...] = ("guard", "certify")


def kind_of(study: str) -> str:
    """Where the proposals of a study lie among the documents of a store."""
    return f"proposals-{study}"


def proposed(store: Store, space: Space, base: CellSpec) -> list[CellSpec]:
    """The configs that were proposed so far, in order."""
    documents = store.documents(kind_of(base.study))
    return [spec_of(Proposal.of(documents[name]), space, base) for name in sorted(documents)]


class SearchCells:
    """Cells of a search, then of its confirmation."""

    def __init__(self, search: Search, store: Store, rows: RowIndex):
        self.search, self._store, self._rows = search, store, rows
        self.proposals: list[Proposal] = []
        self.specs: list[CellSpec] = []
        self.judged: dict[int, Judged] = {}
        self._pending: dict[str, set[int]] = {}
        """Digest of a cell that has not ended -> numbers of the configs that wait for it."""
        self._confirming = False
        self.refused = ""
        """Why certify was not opened for the winner; empty when it was."""

    def more(self) -> Iterable[Cell] | None:
        cells: list[Cell] = []
        while len(self.proposals) < self.search.total and self._may_ask():
            cells += self._ask()
        if cells or len(self.judged) < self.search.total:
            return cells
        if self._confirming:
            return None
        self._confirming = True
        return self.confirmation() or None

    def heard(self, cell: Cell, ended: Ended) -> None:
        self._rows.add(ended.rows)
        for number in self._pending.pop(cell.spec.cell, set()):
            self._judge(number)

    @property
    def winner(self) -> Judged | None:
        """The best feasible config so far."""
        return goals.best(self.judged[number] for number in sorted(self.judged))

    def confirmation(self) -> list[Cell]:
        """Cells of the winner on the confirmation seeds: the first that may see the certify split."""
        winner = self.winner
        if winner is None:
            return []
        spec = self._spec(winner.config)
        try:
            open_certify(self._store, spec.study, (winner.config,))
        except StoreFault as fault:
            self.refused = str(fault)
        return [cell for cell in self.confirmed() if not self._rows.of(cell)]

    def confirmed(self) -> list[Cell]:
        """All confirmation cells of the winner, run or not."""
        winner = self.winner
        if winner is None:
            return []
        splits, spec = SEARCHED if self.refused else CONFIRMED, self._spec(winner.config)
        return [Cell(replace(spec, seed=seed), splits) for seed in self.search.confirmation_seeds]

    def headline(self) -> str:
        """Best so far, in a line."""
        winner = self.winner
        done = f"{len(self.judged)}/{self.search.total} configs"
        if winner is None or winner.score is None:
            return f"{done}, nothing feasible yet"
        score = f"{self.search.goal.score} margin {winner.score:+.4f}"
        return f"{done}, best {winner.config[:6]} with {score}, slack {winner.slack:.2f} dB"

    def drawn(self, config: str) -> Mapping[str, Any]:
        """The parameters that the sampler drew for a config."""
        return next(
            found.params for found, spec in zip(self.proposals, self.specs, strict=True) if spec.config == config
        )

    def told(self) -> list[tuple[Proposal, Judged]]:
        """Every judged config with its proposal, in the order of their numbers."""
        return [(self.proposals[number], self.judged[number]) for number in sorted(self.judged)]

    def asked(self) -> list[Cell]:
        """Every cell of the search and of its confirmation, run or not."""
        return [cell for spec in self.specs for cell in self._cells(spec)] + self.confirmed()

    def _may_ask(self) -> bool:
        number = len(self.proposals)
        return all(earlier in self.judged for earlier in range(number - self.search.lag + 1))

    def _ask(self) -> list[Cell]:
        number = len(self.proposals)
        proposal, spec = self._remembered(number) or self._propose(number)
        self.proposals.append(proposal)
        self.specs.append(spec)
        missing = [cell for cell in self._cells(spec) if not self._rows.of(cell)]
        new = [cell for cell in missing if cell.spec.cell not in self._pending]
        for cell in missing:
            self._pending.setdefault(cell.spec.cell, set()).add(number)
        if not missing:
            self._judge(number)
        return new

    def _propose(self, number: int) -> tuple[Proposal, CellSpec]:
        search, told = self.search, max(0, number - self.search.lag + 1)
        proposal, spec = propose(
            number,
            [(self.proposals[earlier], self.judged[earlier]) for earlier in range(told)],
            self.proposals[told:],
            space=search.space,
            base=search.base,
            goal=search.goal,
            sampler=search.sampler,
            study_seed=search.study_seed,
        )
        self._store.put_document(
            kind_of(self.search.base.study), f"{number:06d}", {**proposal.body(), "config": spec.config}
        )
        return proposal, spec

    def _remembered(self, number: int) -> tuple[Proposal, CellSpec] | None:
        body = self._store.get_document(kind_of(self.search.base.study), f"{number:06d}")
        if body is None:
            return None
        proposal = Proposal.of(body)
        return proposal, spec_of(proposal, self.search.space, self.search.base)

    def _judge(self, number: int) -> None:
        """Once all seeds have ended; a cell that two configs share counts for both."""
        if any(number in waiting for waiting in self._pending.values()):
            return
        spec = self.specs[number]
        rows = [row for cell in self._cells(spec) for row in self._rows.of(cell)]
        self.judged[number] = goals.judge(spec.config, self.search.seeds, rows, self.search.goal)

    def _cells(self, spec: CellSpec) -> list[Cell]:
        return [Cell(replace(spec, seed=seed), SEARCHED) for seed in self.search.seeds]

    def _spec(self, config: str) -> CellSpec:
        return next(spec for spec in self.specs if spec.config == config)
