"""The command line of a study: options of a run, and every field of the cell."""

import dataclasses
import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro

from certvae.spec import CellSpec, DataName, check_seeds
from sweeps.study import Study, study_name


@dataclass(frozen=True, kw_only=True)
class Run:
    """How and where to run; nothing here changes a number, except which data and seeds."""

    data: DataName
    """The data set."""
    seeds: tuple[int, ...]
    """Seeds of the chains; each is one cell."""
    study: str
    """Names rows, the MLflow experiment and the certify gate; another name is another study."""
    store: Path = Path("certvae-store")
    """Folder of results. The same command on the same store resumes."""
    data_root: Path | None = None
    """Folder with the data set, zipped or extracted; CERTVAE_DATA or ./data when absent."""
    limit: int | None = None
    """Use this many train images: short for --data.limit."""
    workers: int | None = None
    """Slots; as many as the machine has when absent."""
    per_gpu: int = 1
    """Cells that share a GPU."""
    plan: bool = False
    """Print what would run, and stop."""


def parse(study: Study, arguments: list[str]) -> tuple[Run, CellSpec]:
    """The run, and the cell of seed 0 after all overrides.

    Raises:
        ConfigFault: for a value outside its bounds.
        SystemExit: from tyro, with code 2, for unknown flags and wrong types.
    """
    data = _data_of(study, arguments)
    preset = study.preset(data)
    branches = [field.name for field in dataclasses.fields(CellSpec) if field.name not in ("study", "seed")]
    cell_type = dataclasses.make_dataclass("Cell", [_branch(preset, name) for name in branches], frozen=True)
    cell_type.__doc__ = "The cell: every field that names a result."
    run = Run(data=data, seeds=study.seeds, study=study_name(study, data))
    command_type: Any = dataclasses.make_dataclass(
        "Command",
        [
            (
                "run",
                Annotated[Run, tyro.conf.arg(name="")],
                Run(data=data, seeds=study.seeds, study=study_name(study, data)),
            ),
            ("cell", Annotated[cell_type, tyro.conf.arg(name="")], cell_type()),
        ],
        frozen=True,
    )
    parsed = tyro.cli(command_type, args=arguments, description=study.about, config=(tyro.conf.AvoidSubcommands,))
    run = parsed.run
    check_seeds(run.seeds)
    given = {name: getattr(parsed.cell, name) for name in branches}
    base = dataclasses.replace(preset, study=run.study, **given)
    if run.limit is not None:
        base = dataclasses.replace(base, data=dataclasses.replace(base.data, limit=run.limit))
    return run, base


def command(arguments: Sequence[str]) -> str:
    """The command line that was typed, as it can be typed again."""
    return shlex.join(["python", sys.argv[0], *arguments])


def _branch(preset: CellSpec, name: str) -> tuple[str, Any, Any]:
    """One branch as a field of the command line; the protocol's own branches stand beside the others."""
    value = getattr(preset, name)
    kind = Annotated[type(value), tyro.conf.arg(name="")] if name == "protocol" else type(value)
    return name, kind, value


def _data_of(study: Study, arguments: list[str]) -> DataName:
    """The preset depends on the data set, so `--data` is read first; a wrong name is left to the real parser."""
    given = dict(itertools.pairwise(arguments)).get("--data", "")
    joined = [flag.removeprefix("--data=") for flag in arguments if flag.startswith("--data=")]
    known = {name: name for name in get_args(DataName)}
    return known.get((joined or [given])[-1], study.data)
