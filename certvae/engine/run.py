"""One run of a study, in the order a user sees it: data, plan, cells, ledger, table."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from certvae import fingerprint
from certvae.certificate import CLAIM_SPLIT
from certvae.engine import inline, plan, runs, standing, status, summary
from certvae.engine.ablation import Ablation
from certvae.engine.checks import check, check_device, check_kind
from certvae.engine.command import Command, Run, place_of, remember, searched, space_of
from certvae.engine.context import HERE, Context
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed, Source
from certvae.engine.gate import MOST_TOLD, opened_for
from certvae.engine.journal import Journal
from certvae.engine.listening import Collector, Live
from certvae.engine.progress import Board, name_of
from certvae.engine.propose import sketched, spec_of
from certvae.engine.rule import SEARCHED, Search, check_rule, going_on, settle_rule
from certvae.engine.search import SearchCells, censored, leading, proposals
from certvae.engine.study import Study, configs_of
from certvae.engine.values import at_values
from certvae.errors import ConfigFault, ExitCode, RayFault, StoreFault
from certvae.looks import together
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import BEST, Goal
from certvae.spec.validation import nearest, refuse
from certvae.terminal import certvae, check_home
from certvae.tracking.ledger import Ledger

AGAIN = "call run of this study with the same arguments again; from a script, run that again"
"""How a run goes on that no command line can name."""
LEDGER_SECONDS = 10.0  # the end of a run waits at most so long for live curves that are still on their way


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    final    rows of the final table: those of a plain run, or those that confirm the winner of a search
    rows     all rows of the study that this code made on such a machine
    beside   those that it did not make
    search   its configs as they were judged; None for a plain run
    cells    how many it has, and how many of them were left to run
    """

    code: ExitCode
    final: Sequence[Mapping[str, Any]] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    beside: Sequence[Mapping[str, Any]] = ()
    search: SearchCells | None = None
    cells: int = 0
    left: int = 0


def execute(study: Study, run: Run, base: CellSpec, goal: Goal, command: Command | None, console: Console) -> Ending:
    """Runs what the store does not hold yet and prints the table of all of it.

    Args:
        command: what goes on with it; None for a study that no command line can name.

    Raises:
        Fault: before anything starts, when the input, the data, the store or the pool is not what is needed.
    """
    context = Context(at_values(study, run.values), run, base, goal, command, console)
    if run.status:
        console.print(standing.shown(context.store, base.study), soft_wrap=True)
        return Ending(ExitCode.DONE)
    if run.explain is not None:
        console.print(status.explained(run.explain, context.store, context.dataset, _known_cells(context)))
        return Ending(ExitCode.DONE)
    check_kind(run)
    check_home()
    if run.workers == HERE:
        _settle()  # before data are read: SciPy, which that imports, looks once at how it shall compute
        if not run.plan:
            _check_products()
    return _search(context) if run.search else _plain(context)


def _plain(context: Context) -> Ending:
    """Every config of the study on every seed."""
    configs = configs_of(context.study, context.base)
    for config in configs:
        check(config, context.dataset)
        check_device(config, context.run.address)
    cells = _asked(configs, context.run)
    left = [cell for cell in cells if not context.rows.of(cell)]
    looks = context.gate.told(configs)
    if _planned(context, cells, left, looks):
        return Ending(ExitCode.DONE, cells=len(cells), left=len(left))
    context.gate.open(configs)
    collector = Collector(Listed(left), context)
    finished = not left or _run(context, collector, lambda: (len(left), ""))
    rows = [row for cell in cells for row in context.rows.of(cell)]
    final = _shown(context, rows)
    missing = [cell for cell in cells if not context.rows.of(cell)]
    ended = _end(context, final, missing, collector.failures, finished=finished)
    code = ExitCode.INCOMPLETE if ended == ExitCode.DONE and not _all_ok(rows) else ended
    return Ending(code, final, context.rows.all(), context.rows.outdated, cells=len(cells), left=len(left))


def _asked(configs: Sequence[CellSpec], run: Run) -> list[Cell]:
    """The cells of a plain run.

    Raises:
        ConfigFault: it asks for modes that its cells do not have.
    """
    there = chain.modes(configs[0])
    if unknown := sorted(set(run.only) - set(there)):
        wanted = f"modes of these cells: {', '.join(there)}"
        raise refuse("--only", wanted, ", ".join(unknown), nearest(unknown[0], there))
    return [Cell(replace(spec, seed=seed), only=run.only, looks=len(configs)) for spec in configs for seed in run.seeds]


def _planned(context: Context, cells: Sequence[Cell], left: Sequence[Cell], looks: Sequence[str]) -> bool:
    """Says what is about to run, and checks that it fits; True when that was all that was asked for.

    Args:
        looks: which looks at certify rows this is, and what they cost.
    """
    context.say(plan.overview(context.base, context.dataset, len(cells), len(left), context.slots), *looks)
    for warning in context.gate.warnings(context.base.protocol.teacher.classes):
        context.say(f"  {warning}")
    if context.run.search:
        context.say(*searched(space_of(context.study, context.run, context.base), context.base, context.goal))
    context.say(context.rows.warning, style="yellow")
    ahead = plan.Ahead(left, context.dataset, context.store, context.slots)
    if context.run.plan:
        context.say(plan.forecast([cell.spec for cell in cells], context.dataset, context.store))
        context.console.print(ahead.estimate(context.run.price))
    ahead.check_disk()
    if not context.run.plan:
        context.say(ahead.warning(), style="yellow")
    return context.run.plan


def rule_of(study: Study, run: Run, base: CellSpec, goal: Goal) -> Search:
    """The search that the command line asks for.

    Raises:
        ConfigFault: when the study has no space to search.
    """
    if (space := space_of(study, run, base)) is None:
        raise ConfigFault(
            f"study {study.name!r} has no space to search",
            "name ranges (--range lambda_ts 0.1 10 log), or copy sweeps/search_margin_psnr.py and give it a space",
            where="--search",
            cause="it compares fixed configs",
        )
    return Search(
        base=base,
        space=space,
        goal=goal,
        sampler=run.sampler,
        total=run.search,
        lag=run.lag,
        study_seed=run.search_seed,
        seeds=run.search_seeds,
        confirmation_seeds=run.confirmation_seeds,
        early_stop=run.early_stop,
        race=run.race,
        every_mode=run.every_mode,
    )


def _search(context: Context) -> Ending:
    """Configs proposed one by one, then the winner on fresh seeds."""
    check(context.base, context.dataset)
    check_device(context.base, context.run.address)
    search = going_on(rule_of(context.study, context.run, context.base, context.goal), context.store)
    check_rule(search, context.store)
    wanted = _wanted(context, search)
    left = _left(context, wanted)
    if _planned(context, wanted, left, _looks_of_search(context)):
        return Ending(ExitCode.DONE, cells=len(wanted), left=len(left))
    settle_rule(search, context.store)
    folder = summary.folder(context.store.path, context.base.study)
    journal = Journal(folder, context.store, context.base.study, search.goal)
    cells = SearchCells(search, context.store, context.rows, journal, context.gate)
    if len(proposals(context.store, context.base.study)) < search.total:
        _settle()  # a sampler may compute with torch, and must propose the same again
    collector = Collector(cells, context)
    finished = _run(context, collector, lambda: (len(left), cells.headline()))
    rows = [row for cell in cells.confirmed() for row in context.rows.of(cell)]
    final = _shown(context, rows)
    context.console.print(summary.search_shown(cells))
    found = summary.best(cells, place_of(context.run.data) or context.run.data, str(context.command or ""))
    if found is not None:
        (folder / BEST).write_text(json.dumps(found, indent=1))
        context.say(f"best config     --config {folder / BEST}")
    context.say(f"optuna study    optuna-dashboard {journal.path}")
    missing = cells.missing()
    if context.run.ablate and finished and cells.winner is not None:
        path = Ablation(search, cells.spec(cells.winner.config), context.rows)
        collector = Collector(path, context, collector.failures)
        finished = _run(context, collector, lambda: (len(path.asked), "from the default to the winner"))
        context.console.print(path.shown())
        missing += path.missing()
    ended = _end(context, final, missing, collector.failures, finished=finished)
    code = ExitCode.INCOMPLETE if ended == ExitCode.DONE and not (cells.winner and _all_ok(rows)) else ended
    return Ending(code, final, context.rows.all(), context.rows.outdated, cells, len(wanted), len(left))


def _looks_of_search(context: Context) -> list[str]:
    """What the winner's look will cost: known once it is known who wins."""
    opened = opened_for(context.store, context.base.study, context.rows.all())
    if opened:
        shown = ", ".join(config[:12] for config in opened)
        return [f"certify rows: opened before, for {shown}: another winner is another look, and costs these"]
    return ["certify rows: opened for the winner alone", *context.gate.told([context.base])]


def _wanted(context: Context, search: Search) -> list[Cell]:
    """Cells of a search: of the configs proposed so far, of sketches of those that are not, and of a winner.

    The winner is the best so far: another one, that is found later, runs on fresh seeds as well. Where all have ended
    and none is sure enough, none runs.
    """
    known = [(one, spec_of(one, search)) for one in proposals(context.store, search.base.study)[: search.total]]
    specs = [*(spec for _, spec in known), *sketched(search, [one for one, _ in known])]
    cells = _distinct([cell for spec in specs for cell in search.cells(spec)])
    winner = leading(search, known, context.rows) or (specs[-1] if _left(context, cells) else None)
    return cells if winner is None else [*cells, *_confirming(context, search, winner)]


def _confirming(context: Context, search: Search, winner: CellSpec) -> list[Cell]:
    """Cells of a winner on fresh seeds; on guard rows alone where it may not open certify."""
    try:
        context.gate.price([winner])
    except StoreFault:
        return search.confirmation(winner, SEARCHED)
    return search.confirmation(winner)


def _left(context: Context, wanted: Sequence[Cell]) -> list[Cell]:
    """Those of them that are still to run."""
    stopped = censored(context.store, context.base.study)
    return [cell for cell in wanted if cell.spec.cell not in stopped and not context.rows.of(cell)]


def _known_cells(context: Context) -> list[Cell]:
    """The cells of the plain run, and all that the store knows of this study."""
    cells = _asked(configs_of(context.study, context.base), context.run)
    return _distinct([*cells, *standing.Standing(context.store, context.base.study).cells])


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell once: a sampler may propose a config twice."""
    return list({cell.spec.cell: cell for cell in cells}.values())


def _run(context: Context, source: Source, headline: Callable[[], tuple[int, str]]) -> bool:
    """Runs cells on the pool; False when it was stopped before all had ended."""
    log = context.store.path / "log" / f"{context.base.study}.log"
    live = Ledger(context.store, context.base.study).live(context.say)
    with Board(headline, context.console, log) as board:
        dispatcher = Dispatcher(source, chain.shared, chain.lanes, (board, Live(live, context.rows)))
        if not dispatcher.finished:
            if context.command is not None:
                remember(context.command, context.store, context.base.study)
            with runs.noted(context.store, context.base.study, context.run.search) as done:
                _on_slots(context, dispatcher)
                done.append(dispatcher.finished)
    live.close(LEDGER_SECONDS)
    return dispatcher.finished


def _on_slots(context: Context, dispatcher: Dispatcher) -> None:
    """Runs the lanes in this process, or on the pool."""
    if context.run.workers == HERE:
        _settle()  # code of a user ran since then, such as what made the data
        inline.run(dispatcher, context.place, budget_seconds=context.budget_seconds)
        return
    at = context.run.address
    if sys.flags.optimize > 1:
        raise RayFault(
            "Ray reads the texts of its functions, and this Python has thrown them away",
            "unset PYTHONOPTIMIZE (and start Python without -OO), or run without Ray: --workers 0",
            where="this process",
        )
    dispatcher.waiting("starting Ray" if at is None else f"joining the cluster at {at}")
    from certvae.engine import executor  # noqa: PLC0415  (ray: a second that a question to the store need not wait)

    executor.run(
        dispatcher,
        context.place,
        context.slots,
        address=context.run.address,
        most=context.run.workers,
        budget_seconds=context.budget_seconds,
    )


def _settle() -> None:
    """Fixes how this process computes, where it computes at all."""
    from certvae.training import environment  # noqa: PLC0415  (torch: a second that no other driver need wait)

    environment.settle()


def _check_products() -> None:
    from certvae.training import environment  # noqa: PLC0415

    environment.check_products(fingerprint.device())


def _shown(context: Context, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The final table at the looks of now, which is printed: certify rows where they may be seen, else guard rows."""
    members = [row for config in dict.fromkeys(row["config"] for row in rows) for row in context.rows.config(config)]
    now = {_place(row): row for row in together(context.store.disk, members, beside=context.rows.outdated)}
    final = summary.final([now[_place(row)] for row in rows])
    summary.show(final, context.store.path, context.console, context.store.is_stale)
    is_certify = any(row["split"] == CLAIM_SPLIT for row in final)
    if others := context.gate.others(context.base.study) if is_certify else []:
        more = f" and {len(others) - MOST_TOLD} more" if len(others) > MOST_TOLD else ""
        text = f"these rows are shared: {', '.join(others[:MOST_TOLD])}{more} pay for the looks of this study as well"
        context.say(f"looks           {text}; in MLflow after `certvae ledger --study NAME`")
    return final


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["cell"], row["mode"], row["split"]


def _end(
    context: Context,
    final: Sequence[Mapping[str, Any]],
    missing: list[Cell],
    failures: Mapping[str, Ended],
    *,
    finished: bool,
) -> ExitCode:
    """Ledger, what failed and why, and the exit code."""
    ledger = Ledger(context.store, context.base.study)
    synced = ledger.sync(context.rows.all(), beside=context.rows.outdated)
    context.store.expect(context.base.study, {})
    if synced.behind:
        context.say(str(synced), style="yellow")
    elif finished:
        _show_bundle(context, final)
    report = certvae("report", "--store", str(context.store.path), "--study", context.base.study)
    context.say(f"report          {report}", f"MLflow UI       {ledger.ui_command}")
    for cell in missing if finished else ():
        ended = failures.get(cell.spec.cell, Ended("error", "it was not run"))
        context.say(f"{name_of(cell)} failed: {ended.kind}, {ended.reason}", style="red")
    if not finished or missing:
        context.say(f"nothing is lost. To go on: {context.command or AGAIN}")
    if not finished:
        return ExitCode.RESUMABLE
    return ExitCode.INCOMPLETE if missing else ExitCode.DONE


def _show_bundle(context: Context, final: Sequence[Mapping[str, Any]]) -> None:
    """The best network as a bundle in MLflow: a search may pay for torch unasked."""
    if context.run.bundle or context.run.search:
        from certvae import bundle  # noqa: PLC0415  (torch: two seconds that no other driver need wait)

        bundle.show(context.store, bundle.best(context.store, final), context.say)


def _all_ok(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every row of the table has numbers; a config that diverged in a search is a result and no failure."""
    return all(row["outcome"] == "ok" for row in rows)
