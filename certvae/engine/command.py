"""The command line of a study: options of a run, and every field of the cell."""

import dataclasses
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from annotated_types import Ge, Gt, Lt

from certvae.data.loading import SOURCES
from certvae.engine.propose import Sampler
from certvae.engine.study import Study, study_name
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.parts import DataName
from certvae.spec.validation import check_seeds, nearest, refuse, spec
from certvae.terminal import python

EXIT_CODES = """Exit codes: 0 done, 1 a bug of ours, 2 wrong input and nothing started, 3 finished with failed cells or
nothing feasible, 4 stopped and resumable by the same command, 5 the store refuses."""
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@spec
class Run:
    """How and where to run; nothing here changes a number, except which data, seeds and search."""

    data: DataName
    """The data set."""
    seeds: tuple[int, ...]
    """Seeds of a plain run; each is one cell per config."""
    study: str
    """Names rows, the MLflow experiment and the certify gate; another name is another study."""
    store: Path = Path("certvae-store")
    """Folder of results. The same command on the same store resumes."""
    data_root: Path | None = None
    """Folder with the data set, zipped or extracted; CERTVAE_DATA or ./data when absent."""
    limit: Annotated[int, Ge(2)] | None = None
    """Use this many train images: short for --data.limit."""
    workers: Annotated[int, Ge(1)] | None = None
    """Slots at most; as many as the machine, or the cluster, has when absent."""
    per_gpu: Annotated[int, Ge(1)] = 1
    """Cells that share a GPU; each may use that share of its memory."""
    logical_gpus: Annotated[int, Ge(0)] = 0
    """Pretend to so many GPUs on a machine without one, to try out a pool."""
    address: str | None = None
    """Ray cluster to run on, as host:port, or auto; a Ray of our own on this machine when absent."""
    budget: str | None = None
    """Stop cleanly after this long, such as 90s, 30m or 6h; the same command goes on."""
    deadline: str | None = None
    """A cell that takes longer is ended with a stack dump, and counts as a timeout."""
    search: Annotated[int, Ge(0), tyro.conf.arg(metavar="CONFIGS")] = 0
    """Search this many configs (a total, not an increment), then confirm the winner on fresh seeds."""
    sampler: Sampler = "tpe"
    """Who proposes configs."""
    lag: Annotated[int, Ge(1)] = 8
    """Config k is proposed from the outcomes of configs 0 to k - lag: more runs at once, and knows less."""
    early_stop: Annotated[float, Gt(0), Lt(1)] | None = None
    """Censor a cell halfway when, with this confidence, its config cannot become feasible or the best: 0.9, say."""
    every_mode: bool = False
    """Train all modes in a search, and not only the two that the goal reads; the confirmation always does."""
    search_seed: Annotated[int, Ge(0)] = 0
    """Seed of the proposals."""
    search_seeds: tuple[int, ...]
    """Every config of a search runs on these."""
    confirmation_seeds: tuple[int, ...]
    """The winner of a search runs on these."""
    plan: bool = False
    """Print what would run, how long it may take and what is shared, and stop."""
    status: bool = False
    """Print every config and cell of the study in the store, with reasons, and stop."""
    explain: str | None = None
    """Print which stages of a cell (its first digits) are in the store and why one is not, and stop."""


def parse(study: Study, arguments: list[str]) -> tuple[Run, CellSpec, Goal]:
    """The run, the cell of seed 0 after all overrides, and what a search maximises.

    Raises:
        ConfigFault: for a value outside its bounds, or two data sets.
        SystemExit: from tyro, with code 2, for unknown flags and wrong types.
    """
    data = _data_of(study, arguments)
    preset = study.preset(data)
    branches = [field.name for field in dataclasses.fields(CellSpec) if field.name not in ("study", "seed")]
    cell_type = dataclasses.make_dataclass("Cell", [_branch(preset, name) for name in branches], frozen=True)
    cell_type.__doc__ = "The cell: every field that names a result."
    run = Run(
        data=data,
        seeds=study.seeds,
        study=study_name(study, data),
        search_seeds=study.search_seeds,
        confirmation_seeds=study.confirmation_seeds,
    )
    command_type: Any = dataclasses.make_dataclass(
        "Command",
        [
            ("run", Annotated[Run, tyro.conf.arg(name="")], run),
            ("cell", Annotated[cell_type, tyro.conf.arg(name="")], cell_type()),
            ("goal", Goal, study.goal),
        ],
        frozen=True,
    )
    about, plain = _described(study.about), (tyro.conf.AvoidSubcommands,)
    parsed = tyro.cli(command_type, args=arguments, description=about, config=plain)
    run = parsed.run
    check_seeds(run.seeds)
    given = {name: getattr(parsed.cell, name) for name in branches}
    if given["data"].name != run.data or run.data != data:
        wanted = f"{run.data}, as --data says"
        raise refuse("data.name", wanted, given["data"].name, "give --data once, and no --data.name: it has a preset")
    base = dataclasses.replace(preset, study=run.study, **given)
    if run.limit is not None:
        base = dataclasses.replace(base, data=dataclasses.replace(base.data, limit=run.limit))
    return run, base, parsed.goal


def _described(about: str) -> str:
    """The study's docstring and the exit codes; tyro keeps a line to itself that does not begin with a letter."""
    return re.sub(r"^ *(?=python )", "$ ", about.rstrip(), flags=re.MULTILINE) + f"\n\n{EXIT_CODES}"


def command(arguments: Sequence[str]) -> str:
    """The command line that was typed, as it can be typed again."""
    return python(sys.argv[0], *arguments)


def seconds(text: str | None, field: str) -> float | None:
    """A duration such as 90s, 30m or 6h, in seconds.

    Raises:
        ConfigFault: for anything else.
    """
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise refuse(field, "a duration such as 90s, 30m or 6h", text, "give a number and a unit")
    return float(number) * UNITS[unit]


def _branch(preset: CellSpec, name: str) -> tuple[str, Any, Any]:
    """One branch as a field of the command line; the protocol's own branches stand beside the others."""
    value = getattr(preset, name)
    kind = Annotated[type(value), tyro.conf.arg(name="")] if name == "protocol" else type(value)
    return name, kind, value


def _data_of(study: Study, arguments: list[str]) -> DataName:
    """The preset depends on the data set, so `--data` is read first."""
    given = dict(itertools.pairwise(arguments)).get("--data", "")
    joined = [flag.removeprefix("--data=") for flag in arguments if flag.startswith("--data=")]
    name = (joined or [given])[-1] or study.data
    if name not in SOURCES:
        raise refuse("data", f"one of {', '.join(SOURCES)}", name, nearest(name, tuple(SOURCES)))
    return name
