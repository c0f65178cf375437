"""The command line of a study: options of a run, and every field of the cell."""

import dataclasses
import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Ge, Gt, Le, Lt

from certvae.data.loading import SOURCES, describe
from certvae.data.own import is_own
from certvae.engine import helptext
from certvae.engine.ranges import described as drawn
from certvae.engine.ranges import ranges
from certvae.engine.samplers import AUTO, check_sampler
from certvae.engine.space import Space
from certvae.engine.study import Study, study_name
from certvae.errors import ConfigFault, DataFault, ExitCode
from certvae.foreign import called, is_reference
from certvae.spec import presets
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.control import CONTROLS, ControlName
from certvae.spec.goal import Goal
from certvae.spec.parts import Data, Description, Model, Module, Training
from certvae.spec.presets import CLASSES
from certvae.spec.reading import read
from certvae.spec.rescue import Rescue
from certvae.spec.simplex import Witness
from certvae.spec.teachers import FeatureGmm, Given, PcaGmm
from certvae.spec.validation import check_seeds, nearest, refuse, spec
from certvae.store.log import COMMANDS, note
from certvae.store.store import Store
from certvae.terminal import STORE, certvae, option, or_none, python, without

HELP_WIDTH = 80
MOST = 100_000
"""More slots or configs than any run has; a slip of the finger is refused."""
_ADDRESS = re.compile(r"auto|(ray://)?\S+:[0-9]+")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
OR_NONE = tyro.conf.arg(help_behavior_hint=or_none)


OWN = tyro.constructors.ConstructorRegistry()
"""How a field that holds code of one's own is written."""


@OWN.primitive_rule
def _network(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A network: `module:function name=value name=value`, each value as JSON writes it, or a text; None for none."""
    if info.type != Module | None:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="MODULE:FUNCTION [NAME=VALUE ...]|None",
        instance_from_str=_network_of,
        is_instance=lambda given: given is None or isinstance(given, Module),
        str_from_instance=lambda given: ["None"] if given is None else [given.build, *map("=".join, _written(given))],
    )


def _network_of(words: Sequence[str]) -> Module | None:
    """Raises ValueError, which tyro tells, for words of another form."""
    if [*words] == ["None"]:
        return None
    build, *options = words or [""]
    if wrong := [word for word in options if "=" not in word] or ([] if build else ["nothing"]):
        raise ValueError(f"module:function and name=value are wanted, got {wrong[0]}")
    pairs = (word.partition("=") for word in options)
    return Module(build, options={name: _value(text) for name, _, text in pairs})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _written(network: Module) -> list[tuple[str, str]]:
    return [(name, json.dumps(value)) for name, value in network.options.items()]


@spec
class Run:
    """How and where to run; nothing here changes a number, except which data, seeds and search."""

    data: str
    """The data set: digits, mnist, fashion-mnist, cifar10, cifar100, tiny-imagenet-200, or your own: folder:PATH,
    npz:PATH or module:FUNCTION."""
    teacher: Annotated[str, OR_NONE] = ""
    """Another teacher than the study's: given:FILE (rows of an .npz), features:FILE, features:module:FUNCTION or
    features:torchvision:NAME (a mixture on them), pixels (a mixture on principal components), or labels."""
    seeds: tuple[int, ...]
    """Seeds of a plain run; each is one cell per config."""
    only: Annotated[tuple[str, ...], OR_NONE] = ()
    """Of a plain run: train these modes and what they begin with; all of them when absent."""
    study: Annotated[str, OR_NONE] = ""
    """Names rows and the MLflow experiment. Another name is another study, and another look at the same certify rows.
    The study's own, with the data set where that is another one or yours, when absent."""
    looks: Annotated[int, Ge(1), Le(MOST)] | None = None
    """Declare so many looks at these certify rows, of all studies in the store: from the first one on every bound
    pays for them, and more are refused. Bounds pay for what is opened so far when absent."""
    store: Path = STORE
    """Folder of results. The same command on the same store resumes."""
    data_root: Path | None = None
    """Folder with the data set, zipped or extracted; CERTVAE_DATA or ./data when absent."""
    limit: Annotated[int, Ge(2)] | None = None
    """Use this many train images: short for --data.limit."""
    workers: Annotated[int, Ge(0), Le(MOST)] | None = None
    """Slots at most; as many as the machine, or the cluster, has when absent. 0: this process alone, without Ray."""
    per_gpu: Annotated[int, Ge(1), Le(64)] = 1
    """Lanes that share a GPU; each may use that share of its memory."""
    logical_gpus: Annotated[int, Ge(0), Le(1024)] = 0
    """Pretend to so many GPUs on a machine without one, to try out a pool."""
    address: str | None = None
    """Ray cluster to run on, as host:port, or auto; a Ray of our own on this machine when absent."""
    budget: str | None = None
    """Stop cleanly after this long, such as 90s, 30m or 6h; the same command goes on."""
    deadline: str | None = None
    """A lane of a cell (a mode, or no_align and rescue) that takes longer is ended with a stack dump, and counts as a
    timeout."""
    config: Path | None = None
    """Run the cell of this file, views/STUDY/best.json of a search, in place of the preset."""
    search: Annotated[int, Ge(0), Le(MOST), tyro.conf.arg(metavar="CONFIGS")] = 0
    """Search this many configs (a total, not an increment), then confirm the winner on fresh seeds."""
    values: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="FIELD VALUE [VALUE ...]"),
    ] = ()
    """Run the study at each of these values of a field of the cell, such as lambda_ts 1 5 25; given for several fields,
    at every combination. Each of them is a look at the certify rows."""
    ranges: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="range", metavar="FIELD LOW HIGH [log|STEP]"),
    ] = ()
    """Search this numeric field of the cell, such as lambda_ts 0.1 10 log, in place of the space of the study; may be
    given several times."""
    sampler: Annotated[str, tyro.conf.arg(metavar="auto|tpe|gp|nsga2|random|grid|MODULE:FUNCTION")] = AUTO
    """Who proposes configs. auto: Gaussian processes (gp) up to config 200 and tpe from there, or what the search began
    with. MODULE:FUNCTION: what it returns when called with seed=..., such as optuna.samplers:CmaEsSampler."""
    lag: Annotated[int, Ge(1)] = 8
    """Config k is proposed from the outcomes of configs 0 to k - lag: a larger lag keeps more slots busy, and each
    proposal knows less."""
    early_stop: Annotated[float, Gt(0), Lt(1)] | None = None
    """Censor a cell halfway when, with this confidence, its config cannot become feasible or the best: 0.9, say."""
    race: Annotated[float, Gt(0), Lt(1)] | None = None
    """Run the seeds of a config one after the other, and drop those that are left when, with this confidence, it cannot
    become feasible or the best: 0.9, say."""
    ablate: bool = False
    """After a search: from the default to the winner, one change at a time, on the confirmation seeds; d changed fields
    take d (d + 1) / 2 configs."""
    controller: ControlName | Literal["none"] | None = None
    """Adds guarded_full and guarded_rescue, whose weights this controller sets by the margin of the guard rows;
    --controller.* are its fields. The study's own when absent; none takes it away."""
    every_mode: bool = False
    """Train all modes in a search, and not only the two that the goal reads; the confirmation always does."""
    search_seed: Annotated[int, Ge(0)] = 0
    """Seed of the proposals."""
    search_seeds: tuple[int, ...]
    """Every config of a search runs on these."""
    confirmation_seeds: tuple[int, ...]
    """The winner of a search runs on these."""
    bundle: bool = False
    """Show a bundle of the certified network with the largest bound in MLflow, as files of its run and as a model: up
    to four seconds of a core. A search does so by itself."""
    recompute: bool = False
    """Compute stale rows again, those that another source code of certvae or of a module of yours made, and replace
    them. Let nothing else use the store meanwhile."""
    plan: bool = False
    """Print what would run, how long it may take and what is shared, and stop; nothing is downloaded, decoded or
    written."""
    decode: bool = False
    """Let --plan decode the data into the store first: the forecast of collapse and a test of certify rows need it."""
    price: Annotated[float, Gt(0)] | None = None
    """Of an hour of a GPU, or of a core where there is none: --plan says what a run costs."""
    status: bool = False
    """Print every config and cell of the study in the store, with reasons, and stop."""
    explain: str | None = None
    """Print which stages of a cell (its first digits) are in the store and why one is not, and stop."""


@dataclass(frozen=True)
class Fields:
    """The cell of a study, field by field, and what a search maximises."""

    data: Data
    model: Model
    protocol: Annotated[Rescue | Baselines | Witness, tyro.conf.arg(name="")]
    training: Training
    goal: Goal


def parse(study: Study, arguments: Sequence[str], target: str | None = None) -> tuple[Run, CellSpec, Goal]:
    """Reads a command line into the run, the cell of seed 0 after all overrides, and the goal of a search.

    The preset depends on the data set, so the options of the run are read first, and what is left are the cell's.

    Args:
        target: what `certvae run` was given, by which a help names the command; None for a script that Python runs.

    Raises:
        ConfigFault: for a value outside its bounds, an unknown data set, or two of them.
        SystemExit: from tyro, with code 2, for unknown flags and wrong types.
    """
    program = f"python {sys.argv[0]}" if target is None else f"certvae run {target}"
    asked, rest = _run_of(study, arguments, program)
    size, helps = option(rest, "--data.size") or "", bool({"-h", "--help"} & set(rest))
    try:
        run, preset = prepared(study, asked, int(size) if size.isdecimal() else None)
    except DataFault:
        if helps:  # that of the run needs no data, and the fault says why fields of the cell are not shown
            print(_options(asked, program, study), "")
        raise
    about = _described(study.about)
    if helps:
        options = _options(run, program, study)
        print(options, *searched(space_of(study, run, preset), preset, study.goal), "", sep="\n")
        about = "Every field of the cell names a result."
    default = Fields(preset.data, preset.model, preset.protocol, preset.training, study.goal)
    if helps:
        helptext.tell(default)
    how = {"config": (tyro.conf.AvoidSubcommands,), "registry": OWN}
    given = tyro.cli(Fields, prog=program, default=default, args=rest, description=about, **how)
    return run, _cell(run, preset, given), given.goal


def _options(run: Run, program: str, study: Study) -> str:
    """The help of what does not depend on the data."""
    helptext.tell(run)
    how = {"prog": program, "default": run, "description": _described(study.about), "add_help": False}
    return tyro.extras.get_parser(Run, **how).format_help()


def prepared(study: Study, run: Run, size: int | None = None) -> tuple[Run, CellSpec]:
    """Checks the options of a run; returns it with the name of its study, and the preset cell of its data set.

    Args:
        size: side that images are scaled to, by which the preset of somebody's own chooses a network.

    Raises:
        ConfigFault: seeds that are none, an unknown data set or sampler, or a preset that gives no cell.
    """
    for seeds in (run.seeds, run.search_seeds, run.confirmation_seeds):
        check_seeds(seeds)
    check_sampler(run.sampler)
    if run.address is not None and not _ADDRESS.fullmatch(run.address):
        raise refuse(
            "--address", "host:port of the head of a cluster, or auto", run.address, "write 127.0.0.1:6390, say"
        )
    if run.config is not None:
        run, preset = kept(run.config, run, study.data)
    else:
        preset = called(study.preset, described(run.data, size))
    if not isinstance(preset, CellSpec):
        raise refuse("preset", f"a function that gives a CellSpec for {run.data}", preset, "let it know this data set")
    preset = controlled(_taught(preset, run.teacher), run.controller)
    return dataclasses.replace(run, study=run.study or study_name(study, preset.data.name)), preset


def kept(path: Path, run: Run, usual: str) -> tuple[Run, CellSpec]:
    """Reads the winner that a search has left in a file: the run on the data of that search, and its cell.

    Args:
        usual: the data set of the study, which a run has when nobody named another.

    Raises:
        ConfigFault: it is no such file, or holds a cell of other data than were asked for.
    """
    try:
        body = json.loads(path.read_text())
        spec, data = read(body["spec"]), str(body["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigFault(
            f"no cell can be read: {type(error).__name__}: {str(error) or 'no message'}".splitlines()[0],
            "give views/STUDY/best.json of a store in which a search has ended",
            where=f"--config {path}",
        ) from error
    if run.data not in (usual, data):
        raise refuse("data", f"{data}, as --config says", run.data, "leave --data away: the file names its data")
    return dataclasses.replace(run, data=data), spec


def space_of(study: Study, run: Run, base: CellSpec) -> Space | None:
    """What a search draws from: the ranges of the command line, else the space of the study.

    Raises:
        ConfigFault: a range that is none.
    """
    return ranges(run.ranges, base) if run.ranges else study.space


def searched(space: Space | None, base: CellSpec, goal: Goal) -> list[str]:
    """Describes a search, line by line: what it maximises and what it draws; no line where there is no space."""
    if space is None:
        return []
    return [f"search: {goal}", *(f"  draws {line}" for line in drawn(space, base))]


def controlled(preset: CellSpec, name: ControlName | Literal["none"] | None) -> CellSpec:
    """The cell with modes that this controller guards; a controller of that kind which it has already keeps its fields.

    Raises:
        ConfigFault: no mode of the cell has an alignment weight that could be set while it trains.
    """
    if name is None:
        return preset
    if not isinstance(preset.protocol, Rescue):
        remedy = "leave it away, or run a study with modes full and rescue, such as sweeps/collapse_and_rescue.py"
        raise refuse("--controller", "left away where no mode has alignment to control", name, remedy)
    there, kind = preset.protocol.controller, CONTROLS.get(name)
    chosen = None if kind is None else there if isinstance(there, kind) else kind()
    return dataclasses.replace(preset, protocol=dataclasses.replace(preset.protocol, controller=chosen))


def usual(study: Study) -> Run:
    """The options of a run where the user gives none."""
    return Run(
        data=study.data,
        seeds=study.seeds,
        search_seeds=study.search_seeds,
        confirmation_seeds=study.confirmation_seeds,
    )


def _run_of(study: Study, arguments: Sequence[str], program: str) -> tuple[Run, list[str]]:
    """The options of the run, and all that is left."""
    default, given = usual(study), list(arguments)
    return tyro.cli(Run, prog=program, default=default, args=given, add_help=False, return_unknown_args=True)


def described(data: str, size: int | None = None) -> str | Description:
    """What a preset is called with: a data set that it was tuned for by its name, or the description of any other.

    Raises:
        ConfigFault: it is neither.
        DataFault: nothing lies there, or what is no data set.
    """
    if not is_own(data) and data not in SOURCES:
        own = ", or data of your own: folder:PATH, npz:PATH, module:FUNCTION"
        raise refuse("data", f"one of {', '.join(SOURCES)}{own}", data, _meant(data) or nearest(data, tuple(SOURCES)))
    return data if data in CLASSES else describe(data, size=size)


def _meant(data: str) -> str | None:
    """How to name what lies at a path, where that is all that was given."""
    # Of a path that is too long, or not to be entered, or in no home, those of `Path` raise.
    path = os.path.expanduser(data)  # noqa: PTH111
    is_folder = os.path.isdir(path)  # noqa: PTH112
    if not os.path.exists(path):  # noqa: PTH110
        return None
    if not is_folder and Path(path).suffix not in (".npz", ".npy"):
        return "let a function return what that file holds: --data mine:images, for a function images in mine.py"
    return f"say what lies there: --data {'folder' if is_folder else 'npz'}:{data}"


def _taught(preset: CellSpec, teacher: str) -> CellSpec:
    """The same cell under another teacher.

    Raises:
        ConfigFault: a name that is none, or something brought that is not there.
    """
    kind, _, place = teacher.partition(":")
    classes = preset.protocol.teacher.classes
    match kind:
        case "":
            return preset
        case "given" if place:
            made = Given(place)
        case "features" if place:
            made = FeatureGmm(place, classes=classes)
        case "pixels":
            made = PcaGmm(classes=classes)
        case "labels":
            made = presets.labels(preset)
        case _:
            known = ("given", "features", "pixels", "labels")
            raise refuse("teacher", "given:FILE, features:PLACE, pixels or labels", teacher, nearest(kind, known))
    return dataclasses.replace(preset, protocol=dataclasses.replace(preset.protocol, teacher=made))


def _cell(run: Run, preset: CellSpec, given: Fields) -> CellSpec:
    if given.data.name != preset.data.name:
        wanted = f"{preset.data.name}, as --data says"
        raise refuse("data.name", wanted, given.data.name, "give --data once, and no --data.name: it has a preset")
    if given.model.network is not None and given.model.encoder != preset.model.encoder:
        remedy = f"give it options instead: --model.network {given.model.network.build} width=16"
        raise refuse("model.encoder", "left away beside a network of your own", given.model.encoder, remedy)
    data = given.data if run.limit is None else dataclasses.replace(given.data, limit=run.limit)
    parts = {"model": given.model, "protocol": given.protocol, "training": given.training}
    return dataclasses.replace(preset, study=run.study, data=data, **parts)


def _described(about: str) -> str:
    """The study's docstring and the exit codes; tyro keeps a line to itself that does not begin with a letter."""
    return (
        re.sub(r"^ *(?=python |certvae )", "$ ", about.rstrip(), flags=re.MULTILINE)
        + f"\n\n{textwrap.fill(ExitCode.legend(), HELP_WIDTH)}"
    )


@dataclass(frozen=True)
class Command:
    """The command line that runs a study, in a form that can be typed again."""

    target: str | None
    """What `certvae run` was given; None for a script that Python runs."""
    arguments: Sequence[str]

    @property
    def study(self) -> str:
        """Names the study for `certvae run`."""
        return self.target or str(Path(sys.argv[0]).absolute())

    def __str__(self) -> str:
        first = python(self.study) if self.target is None else certvae("run", self.target)
        return " ".join([first, shlex.join(self.arguments)]).rstrip()


def remember(command: Command, store: Store, study: str) -> None:
    """Notes the last command of a study in its store, so that `certvae run STORE` can go on with it."""
    note(store.disk, COMMANDS, {"of": study, "study": command.study, "arguments": list(command.arguments)})


def anywhere(arguments: Sequence[str], run: Run) -> list[str]:
    """The same options with absolute paths, so that they mean the same in any folder."""
    folders = {"--store": run.store, "--data-root": run.data_root, "--config": run.config}
    places = {name: str(path.absolute()) for name, path in folders.items() if path}
    if (data := place_of(run.data)) is not None:
        places["--data"] = data
    kind, _, place = run.teacher.partition(":")
    if place and not is_reference(place):
        places["--teacher"] = f"{kind}:{Path(place).expanduser().absolute()}"
    return without(arguments, places) + [word for pair in places.items() for word in pair]


def place_of(data: str) -> str | None:
    """The place of the user's own data, as an absolute path; None for a data set that has a name."""
    kind, _, path = data.partition(":")
    if not is_own(data):
        return None
    return f"{kind}:{Path(path).expanduser().absolute()}" if kind in ("folder", "npz") else data


def seconds(text: str | None, field: str) -> float | None:
    """A duration such as 90s, 30m or 6h, in seconds.

    Raises:
        ConfigFault: for anything else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smh])", text)
    if found is None or not float(found[1]):
        raise refuse(field, "a duration such as 90s, 30m or 6h", text, "give a number and a unit")
    return float(found[1]) * UNITS[found[2]]
