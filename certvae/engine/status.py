"""Answers two questions to a store: how far is every cell, and why is a stage of a cell not there?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape

from certvae.canonical import leaves
from certvae.data.dataset import Dataset
from certvae.engine import failures
from certvae.engine.dispatch import Cell
from certvae.engine.progress import digits, listing
from certvae.engine.rows import RowIndex
from certvae.errors import ConfigFault
from certvae.protocols import chain
from certvae.protocols.steps import Step, inputs_of
from certvae.quality import NO_TEACHER
from certvae.store.artifact import Artifact
from certvae.store.folders import folders
from certvae.store.store import OBJECTS, Stage, Store
from certvae.terminal import number_of

SHOWN = 3  # differences to the nearest stored result
NAMED = 9  # cells to choose from
BRIEFLY = {NO_TEACHER: "no teacher"}


def shown(store: Store, rows: RowIndex, cells: Sequence[Cell], censored: Mapping[str, str]) -> Group:
    """One line per cell: its state, and the margin of each mode on guard rows; below them why some have none.

    A finished cell is called stale when another text of the program had a part in a row of it.

    Args:
        censored: cells that a search ended early -> why.
    """
    made = [rows.of(cell) for cell in cells]
    modes = list(dict.fromkeys(row["mode"] for found in made for row in found))
    whole = ("config", "seed", "cell", "state", *modes)
    table = listing(*whole, right=modes, whole=whole, title="margins on guard rows")
    reasons: dict[str, list[str]] = {}
    for cell, found in zip(cells, made, strict=True):
        finished = "[yellow]stale[/]" if rows.is_stale(cell) else "done"
        state, why = (finished, _reasons(found)) if found else _state(store, cell, censored)
        margins = {row["mode"]: _margin(row) for row in found if row["split"] == "guard"}
        named = (cell.spec.config[:12], str(cell.spec.seed), cell.spec.cell[:12], state)
        table.add_row(*named, *(margins.get(mode, "") for mode in modes))
        if why:
            reasons.setdefault(why, []).append(cell.spec.cell[:12])
    told = [f"{' '.join(named)}  {escape(why)}" for why, named in reasons.items()]
    warning = (f"[yellow]{rows.warning}[/]",) if rows.warning else ()
    return Group(table, *told, *warning)


def counted(rows: RowIndex, cells: Sequence[Cell], censored: Mapping[str, str], apart: Iterable[str] = ()) -> str:
    """How many cells have ended, and of how many configs they are.

    Args:
        apart: what sets rows apart that are made again here.
    """
    configs = len({cell.spec.config for cell in cells})
    done, stopped = sum(bool(rows.of(cell)) for cell in cells), sum(cell.spec.cell in censored for cell in cells)
    of = f"{len(cells)} cells" + (f" of {configs} configs" if configs > 1 else "")
    ended = f", {stopped} ended early" if stopped else ""
    if not (old := len(rows.outdated)):
        return f"{done} of {of} done{ended}"
    told = "; ".join(filter(None, apart))
    older = f"{number_of(old, 'row was', 'rows were')} made by other code or in another environment"
    again = f"a run here makes {'it' if old == 1 else 'them'} again"
    return f"{done} of {of} done{ended}; {older}{f' ({told})' if told else ''}, and {again}"


def explained(prefix: str, store: Store, dataset: Dataset, cells: Sequence[Cell]) -> Group:
    """Which stages of a cell are in the store, who shares them, and what keeps the others from being found.

    Raises:
        ConfigFault: when no cell, or more than one, has a digest that begins so.
    """
    matching = [cell for cell in cells if cell.spec.cell.startswith(prefix)]
    if len(matching) != 1:
        some = [cell.spec.cell[:12] for cell in (matching or cells)[:NAMED]]
        raise ConfigFault(
            f"{len(matching)} cells of this command have a digest that begins with {prefix!r}",
            f"take one of {', '.join(some)}" + (", ..." if len(matching or cells) > NAMED else ""),
            where="--explain",
            cause="a cell is named by the first digits of its digest",
        )
    cell = matching[0]
    table = listing("step", "state", "shared with", "why")
    found = chain.found(cell.spec, cell.only, dataset, store)
    for step in found:
        state, why = _stands(step, found, store, dataset)
        table.add_row(step.name, state, _sharers(cell, cells, step.name), why)
    return Group(f"cell {cell.spec.cell[:12]}, config {cell.spec.config[:12]}, seed {cell.spec.seed}", table)


def _state(store: Store, cell: Cell, censored: Mapping[str, str]) -> tuple[str, str]:
    if cell.spec.cell in censored:
        return "[yellow]censored[/]", censored[cell.spec.cell]
    ended = failures.last(store.path, cell)
    return (f"[red]{ended.kind}[/]", ended.reason) if ended else ("to do", "")


def _reasons(rows: Sequence[Any]) -> str:
    """Why modes of a finished cell have no numbers; modes that share a reason are named together."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row["split"] == "guard" and row["outcome"] != "ok":
            named.setdefault(row["reason"], []).append(row["mode"])
    return "; ".join(f"{', '.join(modes)}: {reason}" for reason, modes in named.items())


def _margin(row: Any) -> str:
    if row["outcome"] != "ok":
        return f"[red]{BRIEFLY.get(row['outcome'], row['outcome'])}[/]"
    return digits(row["margin"], "+.3f")


def _stands(step: Step, found: Mapping[Step, Artifact | Step], store: Store, dataset: Dataset) -> tuple[str, str]:
    """State of a step, and why."""
    if isinstance(at := found[step], Artifact):
        return "stored", at.key[:12]
    absent = [given.name for given in step.inputs if isinstance(given, Step) and found[given] is given]
    if absent:
        return "unknown", f"{absent[0]} comes first"
    return "missing", _nearest(store, step.stage, list(inputs_of(step, dataset, found)))


def _nearest(store: Store, stage: Stage, inputs: Sequence[Any]) -> str:
    """What differs from the stored result of this stage that is most alike."""
    wanted = dict(leaves(store.body(stage, *inputs)))
    stored = (folder.body for folder in folders(store.disk, OBJECTS))
    bodies = [dict(leaves(body)) for body in stored if body.get("stage") == stage.name]
    if not bodies:
        return "no result of this stage is stored yet"
    nearest = min(bodies, key=lambda body: sum(body.get(name) != value for name, value in wanted.items()))
    names = [name for name, value in wanted.items() if nearest.get(name) != value]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    said = ", ".join(f"{name} {nearest.get(name)} not {wanted[name]}" for name in names[:SHOWN])
    return f"the nearest has {said}{more}"


def _sharers(cell: Cell, cells: Sequence[Cell], step: str) -> str:
    key = chain.shared(cell.spec, cell.only).get(step)
    shared = [chain.shared(other.spec, other.only).get(step) for other in cells if other != cell]
    others = [other for other in shared if key and other == key]
    return number_of(len(others), "cell") if others else ""
