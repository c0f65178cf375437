"""What every part of a run needs: options, store, data, slots, and the rows that may be used."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from certvae.canonical import digest, leaves
from certvae.cluster.slots import Place, Slots, local_slots
from certvae.data.dataset import Dataset
from certvae.data.loading import foreseen, load
from certvae.data.preconditions import preconditions
from certvae.engine.command import Command, Run, place_of, seconds
from certvae.engine.gate import Gate
from certvae.engine.rows import RowIndex
from certvae.engine.study import Study
from certvae.errors import ConfigFault
from certvae.fingerprint import expected, gpu_count
from certvae.foreign import search_path
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.store.store import Store


class Context:
    """All that a run needs, made once before anything starts.

    Raises:
        Fault: the store or the pool is not what is needed.
    """

    def __init__(self, study: Study, run: Run, base: CellSpec, goal: Goal, command: Command | None, console: Console):
        self.study, self.run, self.base, self.goal = study, run, base, goal
        self.command, self.console = command, console
        self.budget_seconds = seconds(run.budget, "budget")
        self.slots = slots_of(run)
        self.store = Store(run.store, fingerprint=expected(), recompute=run.recompute, make=not self._only_asks)
        self.place = Place(
            str(self.store.path),
            place_of(run.data) or (run.data_root and str(run.data_root.absolute())),
            str(self.store.path / "data"),
            code=() if run.workers == HERE else search_path(),
            gpu_share=1 / run.per_gpu,
            deadline_seconds=seconds(run.deadline, "deadline"),
            recompute=run.recompute,
        )

    def say(self, *lines: str | None, style: str = "") -> None:
        """Prints lines as they are: a terminal wraps them, and nothing in them is markup. None and "" print nothing."""
        for line in filter(None, lines):
            self.console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    @property
    def _only_asks(self) -> bool:
        """Whether nothing will be computed: then no folder is made and no data set is decoded."""
        run = self.run
        return (run.plan and not run.decode) or run.status or run.explain is not None

    @functools.cached_property
    def rows(self) -> RowIndex:
        """The rows of the study, read when first asked for: a question about all that the store holds reads its own."""
        here = made_here(on_cluster=self.run.address is not None)
        found = self.store.rows(self.base.study)
        return RowIndex(found, here, chain.modes, self.store.is_stale, recompute=self.run.recompute)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set, fetched and decoded when first needed; a question gets its shape and counts, and no pixel."""
        cache = Path(self.place.cache)
        if self._only_asks:
            return foreseen(self.base.data, self.place.data_root, cache=cache)
        return load(self.base.data, self.place.data_root, cache=cache, verify=True)

    @functools.cached_property
    def gate(self) -> Gate:
        """Who may look at the certify rows of these data, and what that costs."""
        tested = preconditions(self.dataset).facts if self.dataset.is_decoded else None
        return Gate(
            self.store, self.dataset.name, self.dataset.digest, tested, self.run.looks, again=self.run.recompute
        )


HERE = 0
"""`--workers 0`: lanes run in this process, one after the other, without Ray."""


def slots_of(run: Run) -> Slots:
    """The slots of this machine; those of a cluster are counted when it is joined, and planned for with --workers.

    Raises:
        ConfigFault: more slots than there are, or one in this process with what needs another.
    """
    if run.workers == HERE:
        return _here(run)
    if run.address is None:
        return local_slots(run.workers, run.per_gpu, run.logical_gpus)
    on = f"at most, of the cluster at {run.address}" if run.workers else f"and more, of the cluster at {run.address}"
    return Slots(run.workers or 1, cpus=1.0, gpus=0.0, on=on)


def _here(run: Run) -> Slots:
    asked = {"--address": run.address, "--deadline": run.deadline, "--logical-gpus": run.logical_gpus or None}
    for option, value in asked.items():
        if value is not None:
            raise ConfigFault(
                f"--workers 0 and {option} {value} exclude each other",
                f"leave {option} away, or give --workers 1",
                where="--workers",
                cause="0 workers means this process alone: no pool, and nobody who could end it",
            )
    return Slots(1, cpus=1.0, gpus=1.0 if gpu_count() else 0.0, on="this process, without Ray")


def made_here(*, on_cluster: bool = False) -> Callable[[Mapping[str, Any]], bool]:
    """Returns a test for rows: were they made by these stage versions, in this environment?

    Args:
        on_cluster: the devices of a cluster are not those of this machine, so a row's own device is taken for granted.
    """
    current = {f"stage_version_{stage.name}": stage.version for stage in chain.STAGES}
    here = expected()
    environments = {here["device"]: digest(here)}

    def is_current(row: Mapping[str, Any]) -> bool:
        device = row.get("device", here["device"]) if on_cluster else here["device"]
        if device not in environments:
            environments[device] = digest({**here, "device": device})
        made_by = {name: version for name, version in row.items() if name.startswith("stage_version_")}
        return made_by.items() <= current.items() and row["environment"] == environments[device]

    return is_current


def apart(row: Mapping[str, Any], store: Store) -> str:
    """What sets a row apart from those that are made here: versions of stages, and what it was judged in.

    Nothing where neither tells, as of one that failed before it was judged.
    """
    now = {"stages": {stage.name: stage.version for stage in chain.STAGES}, **expected()}
    stages = {name: row.get(f"stage_version_{name}", version) for name, version in now["stages"].items()}
    made_in = store.environment(row["key_judged"]) if "key_judged" in row else None
    was = dict(leaves({"stages": stages, **(made_in or {})}))
    found = ", ".join(f"{name} {was[name]}, not {here}" for name, here in leaves(now) if was.get(name, here) != here)
    return found or ("which one is not noted, as of a chain in Python" if made_in == {} else "")
