"""A search as a source of cells: configs proposed, run on every search seed, told; then the winner on fresh seeds.

The plan grows config by config. A proposal is published in the store before its cells start, so a killed driver asks
nothing twice; what is told is read from rows, so the order in which cells finish does not matter. A cell that was
censored, or dropped from a race, has no rows: that it was, and why, is a document of the store. A proposal that was
told of an accident, such as a full disk, is not published: the next run tries the failed cells again, and asks anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from certvae.engine.dispatch import Cell, Ended
from certvae.engine.early_stop import Halfway, StopRule, halfway_epoch, learn
from certvae.engine.gate import Gate, opened_for
from certvae.engine.journal import Journal
from certvae.engine.propose import Proposal, exhausted, propose, spec_of
from certvae.engine.race import Race, entered
from certvae.engine.rows import RowIndex
from certvae.engine.rule import SEARCHED, Search
from certvae.errors import SearchFault, StoreFault
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import ended_kind, proposed_kind
from certvae.spec.judged import NO_STRICT_TEACHER, Judged, judge
from certvae.spec.ranking import best
from certvae.store.store import Store
from certvae.terminal import number_of
from certvae.tracking.evidence import Evidence


def proposals(store: Store, study: str) -> list[Proposal]:
    """The proposals that the store holds of a search, in order."""
    documents = store.documents(proposed_kind(study))
    return [Proposal.of(documents[name]) for name in sorted(documents)]


def censored(store: Store, study: str) -> dict[str, str]:
    """Cells of a study that a search ended early -> why."""
    return {cell: body["reason"] for cell, body in store.documents(ended_kind(study)).items()}


def leading(search: Search, known: Sequence[tuple[Proposal, CellSpec]], rows: RowIndex) -> CellSpec | None:
    """The best of these configs by the rows that are there; None where none is sure enough."""
    judged = [
        judge(spec.config, search.seeds, rows.config(spec.config), search.goal, proposal.place)
        for proposal, spec in known
    ]
    winner = best(judged, search.goal.certainty)
    return next((spec for _, spec in known if winner and spec.config == winner.config), None)


@dataclass(frozen=True)
class Asked:
    """A config that was proposed, and the rules that its cells are held against."""

    proposal: Proposal
    spec: CellSpec
    stop: StopRule | None
    race: Race | None


class SearchCells:
    """Hands out the cells of a search, config by config, and then those that confirm its winner."""

    def __init__(
        self, search: Search, store: Store, rows: RowIndex, journal: Journal | None = None, gate: Gate | None = None
    ):
        self.search, self._store, self.rows, self._journal = search, store, rows, journal
        self._gate = gate or Gate(store, search.base.data.name)
        self.proposals: list[Proposal] = []
        self.specs: list[CellSpec] = []
        self._asked: list[list[Cell]] = []
        """The cells of each config, made once: each carries the digest by which its rows are found."""
        self._races: dict[str, Race | None] = {}
        """Config -> the rule of its race; one that is proposed again is the config that it was."""
        self._started: set[str] = set()
        """Cells that were handed out and have not ended."""
        self._stop_rules = StopRules(search, store, rows)
        self._censored = censored(store, search.base.study)
        self.judged: dict[int, Judged] = {}
        self._led: tuple[int, Judged | None] | None = None
        """The winner among so many judged configs: every line of a progress bar asks for it."""
        self._pending: dict[str, set[int]] = {}
        """Digest of a cell that has not ended -> numbers of the configs that wait for it."""
        self._next: list[Cell] = []
        """Cells whose turn it is in a race."""
        self._confirming = False
        self.refused = ""
        """Why certify was not opened for the winner; empty when it was."""

    def more(self) -> Iterable[Cell] | None:
        cells, self._next = self._next, []
        while len(self.proposals) < self._total and self._may_ask():
            cells += self._ask()
        if cells or len(self.judged) < self._total:
            return cells
        if self._confirming:
            return None
        self._confirming = True
        return self.confirmation() or None

    def heard(self, cell: Cell, ended: Ended) -> None:
        self.rows.add(ended.rows)
        if ended.kind == "censored":
            self._censor(cell, ended.reason)
        self._started.discard(cell.spec.cell)
        waiting = sorted(self._pending.pop(cell.spec.cell, set()))
        self._next += self._startable(waiting[0]) if waiting else []
        for number in waiting:
            self._judge(number)

    @property
    def winner(self) -> Judged | None:
        """The best feasible config so far."""
        if self._led is None or self._led[0] != len(self.judged):
            judged = [self.judged[number] for number in sorted(self.judged)]
            self._led = len(judged), best(judged, self.search.goal.certainty)
        return self._led[1]

    def confirmation(self) -> list[Cell]:
        """Cells of the winner on the confirmation seeds: the first that may see the certify split."""
        winner = self.winner
        if winner is None:
            return []
        self.refused = self._refusal(winner.config)
        return [cell for cell in self.confirmed() if not self.rows.of(cell)]

    def confirmed(self) -> list[Cell]:
        """All confirmation cells of the winner, run or not."""
        winner = self.winner
        if winner is None:
            return []
        spec = self.spec(winner.config)
        return self.search.confirmation(spec, SEARCHED) if self.refused else self.search.confirmation(spec)

    def headline(self) -> str:
        """How far the search is, and its best config so far, in a line."""
        winner = self.winner
        done = f"{len(self.configs)}/{self._total} configs"
        if winner is None or winner.score is None:
            return f"{done}, nothing feasible yet"
        goal = self.search.goal
        return f"{done}, best {winner.config[:6]} with {goal.words(winner.score)}, slack {winner.slack:.2f} {goal.unit}"

    def drawn(self, config: str) -> Mapping[str, Any]:
        """The parameters that the sampler drew for a config."""
        return next(
            found.params for found, spec in zip(self.proposals, self.specs, strict=True) if spec.config == config
        )

    def missing(self) -> list[Cell]:
        """Cells of the search and of its confirmation that have not ended in rows, nor were censored."""
        asked = [cell for cells in self._asked for cell in cells] + self.confirmed()
        return [cell for cell in asked if not self._ended(cell)]

    @property
    def hopeless(self) -> bool:
        """Whether no config can be feasible: all have the same teachers, and none of these is strict-feasible."""
        found = self.judged.values()
        if not any(judged.reason == NO_STRICT_TEACHER for judged in found):
            return False
        return all(self._teachers(spec) == self._teachers(self.search.base) for spec in self.specs)

    @property
    def exhausted(self) -> bool:
        """Whether every config of the space was proposed."""
        return exhausted(self.proposals)

    @property
    def configs(self) -> list[Judged]:
        """Every judged config once, in the order of the proposals: a sampler may propose one again."""
        return list({self.judged[number].config: self.judged[number] for number in sorted(self.judged)}.values())

    @property
    def _total(self) -> int:
        """Proposals to judge: none after those that are under way when no other can win, or none is left."""
        return len(self.proposals) if self.hopeless or self.exhausted else self.search.total

    def _teachers(self, spec: CellSpec) -> list[str]:
        return [chain.shared(replace(spec, seed=seed))["teacher"] for seed in self.search.seeds]

    def _may_ask(self) -> bool:
        number = len(self.proposals)
        return all(earlier in self.judged for earlier in range(number - self.search.lag + 1))

    def _ask(self) -> list[Cell]:
        number = len(self.proposals)
        asked = self._remembered(number) or self._propose(number)
        self.proposals.append(asked.proposal)
        self.specs.append(asked.spec)
        self._races.setdefault(asked.spec.config, asked.race)
        self._asked.append(self.search.cells(asked.spec, asked.stop))
        missing = [cell for cell in self._asked[number] if not self._ended(cell)]
        for cell in missing:
            self._pending.setdefault(cell.spec.cell, set()).add(number)
        if missing and self._journal:
            self._journal.asked(asked.proposal)
        new = self._startable(number)
        self._judge(number)
        return new

    def _startable(self, number: int) -> list[Cell]:
        """Cells of a config that may start now: all of them, or in a race the next one, and none once it is lost."""
        waiting = [cell for cell in self._asked[number] if cell.spec.cell in self._pending]
        if self._races[self.specs[number].config] is not None:
            if reason := self._lost(number):
                self._drop(waiting, reason)
            waiting = [] if reason else waiting[:1]
        new = [cell for cell in waiting if cell.spec.cell not in self._started]
        self._started.update(cell.spec.cell for cell in new)
        return new

    def _lost(self, number: int) -> str:
        """Why the seeds of a config that have not run need not; empty while it may win."""
        verdict = self._verdict(number)
        return verdict.reason if verdict.outcome == "censored" else ""

    def _drop(self, cells: Iterable[Cell], reason: str) -> None:
        for cell in cells:
            if cell.spec.cell not in self._started:
                self._censor(cell, reason)
                del self._pending[cell.spec.cell]

    def _refusal(self, config: str) -> str:
        """Opens certify for a config, or says why not: each look costs all others, so not while another may win."""
        study, failed = self.search.base.study, sum(map(self._met_an_accident, range(len(self.proposals))))
        if failed and config not in opened_for(self._store, study, self.rows.config(config)):
            return (
                f"certify stays closed: cells of {number_of(failed, 'config')} failed, which may still win, and every "
                "look costs. The same command tries them again"
            )
        try:
            self._gate.open([self.spec(config)])
        except StoreFault as fault:
            return str(fault)
        return ""

    def _met_an_accident(self, number: int) -> bool:
        """Whether a cell of a judged config left neither rows nor a reason to censor it."""
        return not all(self._ended(cell) for cell in self._asked[number])

    def _propose(self, number: int) -> Asked:
        search, told = self.search, max(0, number - self.search.lag + 1)
        known = [(self.proposals[earlier], self.judged[earlier]) for earlier in range(told)]
        proposal, spec = propose(search, number, known, self.proposals[told:])
        stop = self._stop_rules.next(spec, [(self.judged[earlier], self._asked[earlier]) for earlier in range(told)])
        race = self._entered(told)
        if not any(map(self._met_an_accident, range(told))):
            rules = {"stop": stop and stop.body(), "race": race and race.body()}
            body = {**proposal.body(), "config": spec.config, **rules}
            self._store.put_document(proposed_kind(search.base.study), f"{number:06d}", body)
        return Asked(proposal, spec, stop, race)

    def _entered(self, told: int) -> Race | None:
        if self.search.race is None:
            return None
        earlier = [self.judged[number] for number in range(told)]
        return entered(self.search.goal, self.search.race, len(self.search.seeds), earlier)

    def _remembered(self, number: int) -> Asked | None:
        body = self._store.get_document(proposed_kind(self.search.base.study), f"{number:06d}")
        if body is None:
            return None
        proposal, stop, race = Proposal.of(body), body.get("stop"), body.get("race")
        spec = spec_of(proposal, self.search)
        if spec.config != body["config"]:
            raise SearchFault(
                f"config {number} was {body['config'][:12]} when it was proposed, "
                f"and its parameters now give {spec.config[:12]}",
                "restore the space, or name a new study with --study",
                where=f"study {self.search.base.study}",
                cause="the space of the study was edited, and the search goes on from proposals of the earlier one",
            )
        return Asked(proposal, spec, stop and StopRule.of(stop), race and Race.of(race))

    def _censor(self, cell: Cell, reason: str) -> None:
        body = {"config": cell.spec.config, "reason": reason}
        self._store.put_document(ended_kind(cell.spec.study), cell.spec.cell, body)
        self._censored[cell.spec.cell] = reason

    def _ended(self, cell: Cell) -> bool:
        return cell.spec.cell in self._censored or bool(self.rows.of(cell))

    def _judge(self, number: int) -> None:
        """Once all seeds have ended; a cell that two configs share counts for both."""
        if any(number in waiting for waiting in self._pending.values()):
            return
        self.judged[number] = self._verdict(number)
        if self._journal:
            self._journal.judged(self.proposals[number], self.judged[number])

    def _verdict(self, number: int) -> Judged:
        spec, cells, place = self.specs[number], self._asked[number], self.proposals[number].place
        if (raced := self._raced(spec.config, cells)) is not None:
            return raced
        stopped = [cell.spec for cell in cells if cell.spec.cell in self._censored]
        if stopped:
            reason = f"seed {stopped[0].seed}: {self._censored[stopped[0].cell]}"
            return Judged(spec.config, "censored", reason, 0, 0, 0)
        rows = [row for cell in cells for row in self.rows.of(cell)]
        return judge(spec.config, self.search.seeds, rows, self.search.goal, place)

    def _raced(self, config: str, cells: Sequence[Cell]) -> Judged | None:
        """A config that has lost its race, with what its first seeds showed: others do not count, even if they ran."""
        race, goal = self._races[config], replace(self.search.goal, score="mean")
        rows: list[Mapping[str, Any]] = []
        for ran, cell in enumerate(cells[:-1] if race else (), start=1):
            if not (found := self.rows.of(cell)):
                return None
            rows += found
            judged = judge(config, self.search.seeds[:ran], rows, goal)
            if race and judged.outcome == "complete" and (reason := race.hopeless(judged)):
                reason = f"stopped after {ran} of {len(cells)} seeds: {reason}"
                return replace(judged, outcome="censored", reason=reason, variances=None)
        return None

    def spec(self, config: str) -> CellSpec:
        """A config that was proposed, as the cell of seed 0."""
        return next(spec for spec in self.specs if spec.config == config)


class StopRules:
    """Makes the early-stop rule of each config, from the curves of earlier ones; each curve is read once."""

    def __init__(self, search: Search, store: Store, rows: RowIndex):
        self._search, self._rows, self._evidence = search, rows, Evidence(store)
        self._shown: list[list[Halfway]] = []

    def next(self, spec: CellSpec, told: Sequence[tuple[Judged, Sequence[Cell]]]) -> StopRule | None:
        """The rule for a new config, learned from those that its proposal knows; None while nothing can be learned.

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
