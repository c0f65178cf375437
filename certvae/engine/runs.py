"""The log of runs in a store: what was asked for, by whom, and whether that goes on. `status` reads it, and no result.

began   {of, owner, time, search}    a run of a study; search is how many configs it wants in all, 0 for a plain run
asked   {of, configs}                {spec, seeds, splits, only} of the cells that it handed out
ended   {of, owner, time, done}      done says whether nothing was left
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from certvae.canonical import plain
from certvae.engine.dispatch import Cell
from certvae.errors import ConfigFault, DiskFault
from certvae.spec.reading import read
from certvae.store.log import events, note
from certvae.store.process import is_dead, owner, running
from certvae.store.store import Store

LOG = "runs"


@dataclass(frozen=True)
class Asked:
    """A run of a study as the log tells it; `ended` is None for one that goes on, or was killed."""

    owner: str
    began: datetime
    search: int
    """The most configs that any run so far wanted."""
    ended: datetime | None = None
    done: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it ended, or was killed on this host."""
        return self.ended is not None or is_dead(self.owner)

    def __str__(self) -> str:
        since = f"{self.began:%Y-%m-%d %H:%M} UTC"
        if self.ended is not None:
            how = "nothing left" if self.done else "stopped before its end"
            return f"last run {since} to {self.ended:%H:%M}, {how}"
        if (process := running(self.owner)) is not None:
            stopped = " (stopped)" if process.status() == "stopped" else ""
            return f"running since {since}, process {process.pid} of this host{stopped}"
        if is_dead(self.owner):
            return f"last run began {since} and was killed"
        return f"running since {since} on another host, or killed there"


@contextmanager
def noted(store: Store, study: str, search: int) -> Iterator[list[bool]]:
    """Notes when a run, the block, begins and ends. The block appends True when nothing is left to run."""
    done: list[bool] = []
    event = {"of": study, "owner": owner()}
    note(store.disk, LOG, {**event, "what": "began", "time": _now(), "search": search})
    try:
        yield done
    finally:
        with suppress(DiskFault):  # a log may fall behind; a full disk is told by whoever met it
            note(store.disk, LOG, {**event, "what": "ended", "time": _now(), "done": any(done)})


def ask(store: Store, study: str, cells: Iterable[Cell]) -> None:
    """Notes which cells a run hands out."""
    found: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.spec.config].append(cell)
    if not found:
        return
    with suppress(DiskFault):
        note(store.disk, LOG, {"of": study, "what": "asked", "configs": [_config(one) for one in found.values()]})


def told(store: Store) -> list[dict[str, Any]]:
    """Every event of the log, in order."""
    return [event for event in events(store.disk, LOG) if "of" in event]


def last(log: Iterable[Mapping[str, Any]], study: str) -> Asked | None:
    """The last run of a study; None where none was noted."""
    found, most = None, 0
    for event in log:
        match event:
            case {"of": of, "what": "began"} if of == study:
                most = max(most, event["search"])
                found = Asked(event["owner"], datetime.fromisoformat(event["time"]), most)
            case {"of": of, "what": "ended"} if of == study and found and found.owner == event["owner"]:
                found = replace(found, ended=datetime.fromisoformat(event["time"]), done=event["done"])
    return found


def cells(log: Iterable[Mapping[str, Any]], study: str) -> list[Cell]:
    """The cells that runs of a study handed out, each as it was asked for last."""
    found: dict[str, Cell] = {}
    for event in log:
        if event["of"] == study and event["what"] == "asked":
            for asked in event["configs"]:
                found |= {cell.spec.cell: cell for cell in _cells(asked)}
    return list(found.values())


def _cells(asked: Mapping[str, Any]) -> Iterator[Cell]:
    with suppress(ConfigFault):  # a spec of another version
        spec, how = read(asked["spec"]), (tuple(asked["splits"]), tuple(asked["only"]))
        for seed in asked["seeds"]:
            yield Cell(replace(spec, seed=seed), *how)


def _config(asked: list[Cell]) -> dict[str, Any]:
    """Cells of one config, which differ in their seed alone."""
    first, seeds = asked[0], [cell.spec.seed for cell in asked]
    return {"spec": plain(first.spec), "seeds": seeds, "splits": list(first.splits), "only": list(first.only)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
