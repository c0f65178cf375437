"""A study from Python: what was asked for by keyword, and its result as frames, words and figures.

`study.run(data="digits", seeds=(0, 1), fields={"training.epochs": 5})` gives a result: `.table`, the final table;
`.frame`, every row of the study; `.winner`, the best config; `.figure("curves")`.

It is the run of the command line, with the same store: either goes on with what the other began.
"""

import ast
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from certvae.engine import summary
from certvae.engine.command import Command, Run, anywhere, prepared, usual
from certvae.engine.progress import written
from certvae.engine.rows import Row
from certvae.engine.run import Ending, execute
from certvae.engine.search import SearchCells
from certvae.engine.study import Study, named
from certvae.errors import ConfigFault, ExitCode
from certvae.looks import together
from certvae.spec.cell import CellSpec
from certvae.spec.fields import replaced
from certvae.spec.goal import Goal
from certvae.spec.validation import refuse
from certvae.store.disk import Disk
from certvae.tracking.ledger import restored

PATHS = ("store", "data_root", "config")
SIZE = ("data.size", "size")
"""Names of the field that a preset must know beforehand."""
REPEATED = {"values": "--values", "ranges": "--range"}
"""Options that are given once per field, as a command line spells them."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a study has found.

    code    how the run ended, as the command would tell its shell
    final   rows of the final table      rows  all rows of the study, bounds at the looks of now
    search  configs of a search as they were judged; None for a plain run
    """

    study: str
    store: Path
    code: ExitCode
    final: Sequence[Row]
    rows: Sequence[Row]
    search: SearchCells | None

    @cached_property
    def frame(self) -> Any:
        """Every row of the study as a pandas DataFrame, as `certvae.analysis.load` gives it: one line per network."""
        return _analysis("load").frame_of(list(self.rows))

    @cached_property
    def table(self) -> Any:
        """The final table as a pandas DataFrame by config (where there are several), seed and mode; nats and dB."""
        return _analysis("notebook").table(self.final)

    @property
    def winner(self) -> CellSpec | None:
        """The best config of a search, as the cell of seed 0; None for a plain run, or where none is feasible."""
        best = self.search and self.search.winner
        return self.search.spec(best.config) if self.search and best else None

    def figure(self, name: str = "margins", tau: float | None = None) -> Any:
        """A matplotlib figure of the report: margins, curves, tau, psnr, reconstructions, teachers, search.

        Raises:
            ConfigFault: there is no figure of this name, or nothing in this study to draw there.
        """
        return _analysis("notebook").figure(self.store, self.study, self.rows, name, tau)

    def __str__(self) -> str:
        found = [summary.search_shown(self.search)] if self.search else []
        return _text(*summary.tables(self.final), *found) or f"{self.study}: no rows yet, {self.code.meaning}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        about = f"<p>{escape(summary.heading(self.final))}</p>" if self.final else ""
        return about + self.table.to_html()


@dataclass(frozen=True)
class Plan:
    """What a run would do; printing it shows steps, times and disk."""

    cells: int
    left: int
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def run(study: Study, fields: Row, options: Row, *, progress: bool) -> Result:
    """See `Study.run`."""
    from certvae.training import environment  # noqa: PLC0415  (torch: a plan of a finished study need not wait for it)

    asked, base, goal = _asked(study, fields, options)
    console = written(quiet=not progress)
    with environment.restored(), restored():
        ended = execute(study, asked, base, goal, _command(study, asked, fields, options), console)
    store = asked.store.resolve()
    rows = together(Disk(store), ended.rows, beside=ended.beside)
    return Result(base.study, store, ended.code, ended.final, rows, ended.search)


def plan(study: Study, fields: Row, options: Row) -> Plan:
    """See `Study.plan`."""
    from certvae.training import environment  # noqa: PLC0415

    asked, base, goal = _asked(study, fields, {**options, "plan": True})
    said = StringIO()
    with environment.restored(), restored():
        ended: Ending = execute(study, asked, base, goal, None, written(said))
    return Plan(ended.cells, ended.left, said.getvalue().rstrip())


def _asked(study: Study, fields: Row, options: Row) -> tuple[Run, CellSpec, Goal]:
    """The run, the cell of seed 0 after all overrides, and the goal: what `command.parse` makes of a command line."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, range) else value for name, value in options.items()
    }
    for name in PATHS:
        if given.get(name) == "":
            raise refuse(name, "a path", "", "name one: nothing would be the current folder")
    given |= {name: Path(given[name]) for name in PATHS if given.get(name) is not None}
    given |= {name: tuple(tuple(map(str, one)) for one in given.get(name, ())) for name in REPEATED}
    goal, limit = given.pop("goal", study.goal), given.get("limit")
    if not isinstance(goal, Goal):
        raise ConfigFault(f"goal must be a Goal, got {goal!r}", "give certvae.spec.goal.Goal(...)", where="goal")
    size = next((value for path, value in fields.items() if path in SIZE and isinstance(value, int)), None)
    asked, preset = prepared(study, replace(usual(study), **given), size)
    base = replace(preset, study=asked.study)
    for path, value in {**fields, **({} if limit is None else {"data.limit": limit})}.items():
        base = replaced(base, path, value)
    return asked, base, goal


def _command(study: Study, asked: Run, fields: Row, options: Row) -> Command | None:
    """The command line that goes on with a run, where the study is one that a command can name."""
    target, spelled = _target(study), _spelled({**options, **fields})
    return None if target is None or spelled is None else Command(target, anywhere(spelled, asked))


def _target(study: Study) -> str | None:
    """A script or module:NAME in which `certvae run` finds this very study."""
    for name, module in list(sys.modules.items()):
        there = getattr(module, "__dict__", {})
        held = [label for label, value in there.items() if value is study]
        file = getattr(module, "__file__", None)
        if held and name != "__main__":
            return f"{name}:{held[0]}"
        if held and file and _found_in(Path(file), there) is study:
            return str(Path(file).absolute())
    return None


def _found_in(script: Path, there: Mapping[str, Any]) -> Study | None:
    """The study that `certvae run` finds in a script, which runs as `__main__` now and holds these names.

    What stands below `if __name__ == "__main__"`, or was typed beside the script, is not there when it is imported.
    """
    try:
        nodes = ast.parse(script.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None
    main = [node for node in nodes if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    bound = _bound(node for node in nodes if node not in main) - _bound(main)  # what was given twice is another one
    return named({name: value for name, value in there.items() if name in bound or "*" in bound})


def _bound(nodes: Iterable[ast.stmt]) -> set[str]:
    """Names that statements give a module."""
    bodies = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    parts = chain.from_iterable(ast.walk(node) for node in nodes if not isinstance(node, bodies))
    found = set()
    for part in parts:
        match part:
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name)
    return found


def _spelled(options: Row) -> list[str] | None:
    """Options as a command line spells them; None where one has no spelling: a goal, a branch of a cell."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        match value:
            case None | False:
                continue
            case True:
                words.append(option)
            case str() | int() | float() | Path():
                words += [option, str(value)]
            case tuple() | list() if name in REPEATED:
                words += [word for one in value for word in (REPEATED[name], *map(str, one))]
            case tuple() | list():
                words += [option, *map(str, value)]
            case _:
                return None
    return words


def _text(*parts: RenderableType) -> str:
    said = StringIO()
    written(said).print(*parts, sep="\n\n") if parts else None
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines())


def _analysis(name: str) -> Any:
    """A module of the report, by the name that it has in the wheel: in a checkout it lies beside this package."""
    return importlib.import_module(f"certvae.analysis.{name}")
