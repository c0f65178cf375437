"""Defines a study: a preset per data set, seeds and, where it can be searched, a space and a goal.

A study is a Python module with one of these in it: no YAML, no registry. To make your own, copy
`sweeps/search_margin_psnr.py`.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certvae.engine.space import Space
from certvae.foreign import called
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.parts import DataName, Description
from certvae.spec.validation import check_seeds, refuse
from certvae.terminal import STORE

if TYPE_CHECKING:
    from certvae.engine.result import Plan, Result


STUDY = "STUDY"
"""How a module calls its study, where it has several."""


def only(base: CellSpec) -> tuple[CellSpec, ...]:
    """The configs of a study that compares none: its base."""
    return (base,)


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment: one or more configs, each run on several seeds.

    Args:
        name: names rows and MLflow experiments.
        about: what `--help` says first.
        data: the data set it runs on when nothing else is asked for.
        preset: data set, or the description of another -> the cell of seed 0 with this study's protocol for it.
        configs: base -> the configs of a plain run, each is a look at the certify rows.
        seeds: the seeds of a plain run, each certified.
        space: (trial, base) -> a config; without it the study cannot search.
        goal: what a search maximises.
        search_seeds: every config of a search runs on these, judged on the guard split.
        confirmation_seeds: the winner runs on these, judged on the certify split.
    """

    name: str
    about: str
    data: DataName
    preset: Callable[[str | Description], CellSpec]
    configs: Callable[[CellSpec], tuple[CellSpec, ...]] = only
    seeds: tuple[int, ...] = (0, 1, 2)
    space: Space | None = None
    goal: Goal = Goal()
    search_seeds: tuple[int, ...] = (100, 101, 102)
    confirmation_seeds: tuple[int, ...] = (200, 201, 202, 203, 204)

    def __post_init__(self) -> None:
        for seeds in (self.seeds, self.search_seeds, self.confirmation_seeds):
            check_seeds(seeds)

    def run(
        self,
        *,
        fields: Mapping[str, Any] | None = None,
        progress: bool = True,
        store: Path | str = STORE,
        **options: Any,
    ) -> "Result":
        """Runs the study from Python, in a notebook, a thread or a test; what the store holds is not computed again.

        Args:
            fields: {dotted path: value} of fields of the cell: {"training.epochs": 5}.
            progress: print what a command prints while it runs.
            options: those of the command line by their names: data, seeds, search, workers, goal and more.

        Raises:
            Fault: before anything starts, when the input, the data, the store or the pool is not what is needed.
        """
        return _asked().run(self, fields or {}, {**options, "store": store}, progress=progress)

    def plan(self, *, fields: Mapping[str, Any] | None = None, store: Path | str = STORE, **options: Any) -> "Plan":
        """What `run` with the same arguments would compute, how long it may take and what is shared; nothing starts."""
        return _asked().plan(self, fields or {}, {**options, "store": store})


def _asked() -> Any:
    """The module that runs a study; it imports studies, so they find it by its name."""
    return importlib.import_module("certvae.engine.result")


def named(there: Mapping[str, Any], name: str = STUDY) -> Study | None:
    """The study of this name in a module that holds these, or the only one; None where there is no such study."""
    studies = {label: value for label, value in there.items() if isinstance(value, Study)}
    return studies.get(name) or (next(iter(studies.values())) if len(studies) == 1 else None)


def study_name(study: Study, data: str) -> str:
    """The name that rows bear: with the data set, where that is not the study's own."""
    return study.name if data == study.data else f"{study.name}-{re.sub('[^a-z0-9_.]+', '-', data.lower()).strip('-')}"


def configs_of(study: Study, base: CellSpec) -> tuple[CellSpec, ...]:
    """The configs of a plain run, as the study's own function gives them.

    Raises:
        ConfigFault: it raised something, or gave anything but distinct configs of this study.
    """
    configs = called(study.configs, base)
    if not (isinstance(configs, tuple | list) and configs and all(isinstance(one, CellSpec) for one in configs)):
        raise refuse("configs", "a function that gives one CellSpec or more", configs, "return a tuple of them")
    if len({one.config for one in configs}) < len(configs) or any(one.study != base.study for one in configs):
        raise refuse(
            "configs", "distinct configs of one study", len(configs), "change the base, and leave its study alone"
        )
    return tuple(configs)
