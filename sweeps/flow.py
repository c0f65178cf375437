"""One run of a study, in the order a user sees it: data, plan, cells, ledger, table."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from certvae.ledger import Ledger
from rich.console import Console

from certvae import chain, data, environment, stages
from certvae.canonical import digest
from certvae.dataset import SPLITS, Dataset
from certvae.errors import ConfigFault
from certvae.gate import open_certify
from certvae.spec import CellSpec
from certvae.store import Store
from sweeps import pool
from sweeps.command import Run, command
from sweeps.dispatch import Cell, Dispatcher, Listed
from sweeps.place import Place, Slots, local_slots
from sweeps.progress import Board
from sweeps.summary import table_digest, table_shown, table_text

EXIT_DONE, EXIT_SOME_FAILED, EXIT_RESUMABLE = 0, 3, 4
CHECKPOINT_SECONDS = 30.0
VIEWS = "views"  # derived files: may be deleted whenever no sweep runs


def execute(run: Run, base: CellSpec, arguments: Sequence[str], console: Console) -> int:
    """Runs what the store does not hold yet and prints the table of all of it.

    Raises:
        Fault: before anything starts, when the input, the data, the store or the pool is not what is needed.
    """
    slots = local_slots(run.workers, run.per_gpu)
    environment.settle(slots.threads)
    store = Store(run.store)
    place = Place(str(store.path), run.data_root and str(run.data_root), str(store.path / "data"), CHECKPOINT_SECONDS)
    dataset = data.load(base.data, run.data_root, cache=Path(place.cache), verify=True)
    check(base, dataset)
    cells = [Cell(dataclasses.replace(base, seed=seed)) for seed in run.seeds]
    left = [cell for cell in cells if not judged(store, cell)]
    console.print(plan_text(base, dataset, cells, left, slots), highlight=False)
    if run.plan:
        return EXIT_DONE
    open_certify(store, base.study, (base.config,))
    finished = not left or _run(left, place, slots, console)
    return _report(store, cells, finished, arguments, console)


def check(spec: CellSpec, dataset: Dataset) -> None:
    """Refuses what the data cannot give, before anything starts.

    Raises:
        ConfigFault: more components than rows to fit them on.
    """
    rows = min(len(dataset.rows("train")), spec.protocol.teacher.fit_rows)
    if rows < spec.protocol.teacher.classes:
        raise ConfigFault(
            4,
            f"classes must be at most the {rows} rows a teacher is fitted on, got {spec.protocol.teacher.classes}",
            where="teacher.classes",
            cause=f"{dataset.name} gives {len(dataset.rows('train'))} train rows under this limit",
            remedy="raise --limit or --teacher.fit-rows, or lower --teacher.classes",
        )


def judged(store: Store, cell: Cell) -> list[chain.Row]:
    """The rows of a finished cell that this code made on this machine, in order; none if any is missing."""
    rows = [row for row in store.rows(cell.spec.study) if row["cell"] == cell.spec.cell and is_current(row)]
    found = {(row["split"], row["mode"]): row for row in rows}
    wanted = [(split, mode) for split in cell.splits for mode in chain.modes(cell.spec)]
    return [found[place] for place in wanted] if found.keys() >= set(wanted) else []


def is_current(row: chain.Row) -> bool:
    """Made by these stage versions in this environment."""
    versions = all(row.get(f"stage_version_{stage.name}") == stage.version for stage in stages.STAGES)
    return versions and row["environment"] == digest(environment.fingerprint(environment.device()))


def plan_text(base: CellSpec, dataset: Dataset, cells: list[Cell], left: list[Cell], slots: Slots) -> str:
    """What will run, in a few lines."""
    splits = ", ".join(f"{len(dataset.rows(split)):,} {split}" for split in SPLITS)
    shape = " x ".join(map(str, dataset.shape))
    kind = "GPU share" if slots.gpus else "CPU core"
    shown = f" ({dataset.substitute})" if dataset.substitute else ""
    return (
        f"{base.study}: config {base.config[:12]}, seeds {' '.join(str(cell.spec.seed) for cell in cells)}\n"
        f"{dataset.name}{shown}: {splits} rows of {shape}, K = {base.protocol.teacher.classes}\n"
        f"{len(cells)} cells, {len(cells) - len(left)} done before, {len(left)} to run on {slots.count} slots "
        f"of one {kind}"
    )


def _run(left: list[Cell], place: Place, slots: Slots, console: Console) -> bool:
    """Runs cells on the pool; False when it was stopped before all had ended."""
    dispatcher = Dispatcher(Listed(left), chain.shared, chain.steps)
    with Board(len(left), console) as board:
        pool.run(dispatcher, place, slots, board)
    return dispatcher.finished


def _report(store: Store, cells: list[Cell], finished: bool, arguments: Sequence[str], console: Console) -> int:
    """Ledger, table, paths; the exit code says whether anything is missing."""
    rows = [row for cell in cells for row in judged(store, cell)]
    certify = [row for row in rows if row["split"] == "certify"]
    ledger = Ledger(store, cells[0].spec.study)
    ledger.sync(rows)
    missing = [cell for cell in cells if not judged(store, cell)]
    if certify:
        _show(certify, store, console)
    console.print(f"MLflow UI       {ledger.ui_command}", highlight=False, soft_wrap=True)
    if not finished:
        console.print(f"stopped; nothing is lost. To go on: {command(arguments)}", highlight=False, soft_wrap=True)
        return EXIT_RESUMABLE
    for cell in missing:
        console.print(failure_text(store, cell), style="red", highlight=False, soft_wrap=True)
    return EXIT_SOME_FAILED if missing or any(row["outcome"] != "ok" for row in rows) else EXIT_DONE


def _show(rows: list[chain.Row], store: Store, console: Console) -> None:
    first = rows[0]
    shown = f", {first['substitute']}" if first["substitute"] else ""
    title = f"{first['study']} on {first['data']}{shown}: {first.get('n', 0):,} certify rows that training never saw"
    console.print(table_shown(rows, title))
    path = store.path / VIEWS / first["study"] / "table.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table_text(rows))
    console.print(f"final table     {path}\ntable digest    {table_digest(rows)}", highlight=False, soft_wrap=True)
    console.print(f"rows            {store.path / 'rows' / first['study']}", highlight=False, soft_wrap=True)


def failure_text(store: Store, cell: Cell) -> str:
    """Why a cell has no rows: the end of its last traceback."""
    path = store.path / "log" / "failures" / f"{cell.spec.cell[:16]}.txt"
    last = path.read_text().strip().splitlines()[-1] if path.exists() else "its worker died"
    return f"seed {cell.spec.seed} failed: {last}" + (f"\n    traceback: {path}" if path.exists() else "")
