"""Where the studies of a store stand, from the store alone: rows, decisions of searches, the log of runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rich.console import Group

from certvae.engine import runs, status, summary
from certvae.engine.context import apart, made_here
from certvae.engine.dispatch import Cell
from certvae.engine.progress import console
from certvae.engine.rows import Row, RowIndex
from certvae.engine.runs import Asked
from certvae.engine.search import censored
from certvae.errors import ConfigFault, ExitCode
from certvae.protocols import chain
from certvae.spec.found import confirmation_words
from certvae.spec.goal import RULE, Goal, ended_kind, proposed_kind
from certvae.spec.judged import Judged, judge
from certvae.spec.ranking import best
from certvae.spec.reading import read
from certvae.store import records
from certvae.store.log import events
from certvae.store.process import running
from certvae.store.store import STARTS, Store
from certvae.terminal import certvae


def studies(store: Store) -> list[str]:
    """The names of all studies of which a store holds rows, rules or runs."""
    return sorted(
        {*records.studies(store.disk)} | store.documents(RULE).keys() | {event["of"] for event in runs.told(store)}
    )


def shown(store: Store, study: str | None = None) -> Group:
    """The state of a study with every cell; where no study is named and there are several, a summary of each.

    Raises:
        ConfigFault: the store holds nothing of this study.
    """
    known = studies(store)
    if study is not None and study not in known:
        raise ConfigFault(
            f"the store holds nothing of {study}: it holds {', '.join(known) or 'no study'}",
            "name one of its studies with --study, or run this one first",
            where=str(store.path),
        )
    if study is None and len(known) != 1:
        heads = [line for one in known for line in (*Standing(store, one).head, "")]
        more = certvae("status", "--store", str(store.path), "--study", "NAME")
        return Group(*heads, f"every cell of one: {more}" if known else "no study in this store yet")
    found = Standing(store, study or known[0])
    return Group(*found.head, "", status.shown(store, found.rows, found.cells, found.censored))


def show(store: Store, study: str | None = None) -> ExitCode:
    """Prints where the studies of a store stand; see `shown`."""
    console().print(shown(store, study), soft_wrap=True)
    return ExitCode.DONE


@dataclass(frozen=True)
class Standing:
    """Where one study stands."""

    store: Store
    study: str

    @cached_property
    def rows(self) -> RowIndex:
        """All rows; of those that were made twice, the one made by this code on such a machine."""
        here = made_here(on_cluster=True)
        found = RowIndex(
            sorted(self.store.rows(self.study), key=here), lambda _: True, chain.modes, self.store.is_stale
        )
        found.outdated = [row for row in found.all() if not here(row)]
        return found

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell that was asked for or has rows: configs as they were proposed or asked for, seeds in order."""
        asked = {cell.spec.cell: cell for cell in runs.cells(self._log, self.study)}
        made: dict[str, list[Row]] = {}
        for row in self.rows.all():
            made.setdefault(row["cell"], []).append(row)
        cells = [*asked.values(), *(_cell(rows) for cell, rows in made.items() if cell not in asked)]
        configs = dict.fromkeys([*self._drawn, *(cell.spec.config for cell in cells)])
        place = {config: number for number, config in enumerate(configs)}
        return sorted(cells, key=lambda cell: (place[cell.spec.config], cell.spec.seed))

    @cached_property
    def censored(self) -> Mapping[str, str]:
        """Cells that a search ended early -> why."""
        return censored(self.store, self.study)

    @property
    def head(self) -> Iterator[str]:
        """The study in a few lines: who is at it, how far it is, and the winner of a search."""
        rule, run = self.store.get_document(RULE, self.study), runs.last(self._log, self.study)
        goal = None if rule is None else Goal.of(rule["goal"])
        yield f"[bold]{self.study}[/]" + (f": {goal}" if goal else "")
        if run is not None:
            yield f"{run}{self._next(run)}"
        if rule is not None and goal is not None:
            yield from self._search(goal, rule, run.search if run else 0)
        reasons = dict.fromkeys(apart(row, self.store) for row in self.rows.outdated)
        yield status.counted(self.rows, self.cells, self.censored, reasons)

    def _next(self, run: Asked) -> str:
        """What a run computes at this moment, or what goes on with it."""
        if not run.is_over:
            stages = ", ".join(_at_work(self.store))
            return f"; at work: {stages}" if stages else ""
        command = certvae("run", str(self.store.path), "--study", self.study)
        return "" if run.done else f"; to go on: {command}"

    @cached_property
    def _log(self) -> list[dict[str, Any]]:
        return runs.told(self.store)

    @cached_property
    def _drawn(self) -> dict[str, Mapping[str, Any]]:
        """Config -> what a sampler drew for it, in the order of the proposals."""
        return {config: body["params"] for config, body in self._proposed.items()}

    @cached_property
    def _proposed(self) -> dict[str, dict[str, Any]]:
        """Config -> the document of its proposal, in order."""
        documents = self.store.documents(proposed_kind(self.study))
        return {body["config"]: body for _, body in sorted(documents.items())}

    def _search(self, goal: Goal, rule: Mapping[str, Any], total: int) -> Iterator[str]:
        seeds, raced = rule["seeds"], rule.get("race") is not None
        stopped = {cell.spec.config for cell in self.cells if cell.spec.cell in self.censored}
        documents = self.store.documents(ended_kind(self.study)).values()
        stopped |= {body["config"] for body in documents if "config" in body}  # of cells that nobody handed out
        whole = (one for one in self._ended(seeds) if one not in stopped)
        judged = [judge(one, seeds, self.rows.config(one), goal, self._proposed[one].get("place")) for one in whole]
        judged += [self._early(one, goal, raced) for one in self._drawn if one in stopped]
        incomplete = sum(one.outcome == "incomplete" for one in judged)
        counts = (f"{incomplete} incomplete", summary.early(judged, len(seeds)), summary.feasible(judged, goal))
        yield f"{len(judged)} of {max(total, len(self._drawn))} configs judged, {', '.join(counts)}"
        winner = best(judged, goal.certainty)
        if winner is None:
            yield "no winner yet"
            return
        yield summary.winner_text(winner, judged, goal, self._drawn[winner.config])
        fresh = [cell for cell in self.cells if cell.spec.config == winner.config and cell.spec.seed not in seeds]
        left = sum(not self.rows.of(cell) for cell in fresh)
        rows = [row for cell in fresh for row in self.rows.of(cell)]
        done = f"confirmation: {len(fresh) - left} of {len(fresh)} fresh seeds done"
        yield done if left else confirmation_words(winner, [cell.spec.seed for cell in fresh], rows, goal)

    def _early(self, config: str, goal: Goal, raced: bool) -> Judged:
        """A config with a censored cell; in a race, by the seeds that ran whole before."""
        cells = (cell for cell in self.cells if cell.spec.config == config and cell.spec.cell not in self.censored)
        ran = [cell for cell in cells if self.rows.of(cell)]
        if not (ran and raced):
            return Judged(config, "censored", "", 0, 0, 0)
        rows = [row for cell in ran for row in self.rows.of(cell)]
        found = judge(config, [cell.spec.seed for cell in ran], rows, replace(goal, score="mean"))
        return replace(found, outcome="censored", variances=None)

    def _ended(self, seeds: Sequence[int]) -> list[str]:
        """Proposed configs whose search cells all have rows."""
        open_ = {cell.spec.config for cell in self.cells if cell.spec.seed in seeds and not self.rows.of(cell)}
        begun = {cell.spec.config for cell in self.cells}
        return [one for one in self._drawn if one in begun and one not in open_]


def _cell(rows: Sequence[Row]) -> Cell:
    """The cell of rows that no log speaks of: what they hold is what was asked for."""
    spec, wanted = read(rows[0]["spec"]), {row["mode"] for row in rows}
    splits = {row["split"] for row in rows}
    only = tuple(mode for mode in chain.modes(spec) if mode in wanted)
    return Cell(spec, tuple(split for split in Cell(spec).splits if split in splits), only)


def _at_work(store: Store) -> list[str]:
    """Stages that a living process of this host has begun and not ended."""
    ended = {(event["key"], event["owner"]) for event in store.executions()}
    begun = (event for event in events(store.disk, STARTS) if (event["key"], event["owner"]) not in ended)
    return [event["stage"] for event in begun if running(event["owner"]) is not None]
