"""Holds the graph of a cell as data: steps that nobody has made yet, and the fold over them.

A protocol writes its graph as calls that return values (`certvae.protocols.rescue` is the one to read). What a cell
costs, what cells share, what a plan finds in the store and what training computes are all folds over the same steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from certvae.canonical import digest
from certvae.data.dataset import Dataset
from certvae.spec.parts import Data, Training
from certvae.spec.rescue import WarmUp
from certvae.store.store import Stage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a stage that nobody has made yet. Its inputs are plain values, the data, and earlier steps."""

    name: str
    stage: Stage
    inputs: tuple[Any, ...]

    @cached_property
    def key(self) -> str:
        """A digest of all that the step reads: cells with the same one compute it once between them."""
        return digest([self.stage.name, self.stage.version, *self.inputs])

    def identity(self) -> str:
        """What names the step among the inputs of another."""
        return self.key

    @cached_property
    def before(self) -> tuple["Step", ...]:
        """The steps that it is made by, in order, itself last."""
        return (*dict.fromkeys(step for given in self.inputs if isinstance(given, Step) for step in given.before), self)

    @property
    def schedule(self) -> Training | None:
        """The passes over the train rows that it takes, for estimates of time; None when it takes none."""
        given = self.stage.inputs(*self.inputs)
        warm_up = given.get("warm_up")
        return warm_up.training if isinstance(warm_up, WarmUp) else given.get("training")

    @property
    def passes(self) -> int:
        """Passes over the train rows on the way to its end."""
        return sum(step.schedule.epochs for step in self.before if step.schedule is not None)


@dataclass(frozen=True, eq=False)
class Graph:
    """All steps of a cell: its teacher, and the network of each mode.

    teacher   the step that fixes T(x)
    networks  mode -> the step that its network is left by, in the order in which they are made
    warm      the warm-up whose features the teacher reads; None for a teacher that never reads an encoder
    """

    teacher: Step
    networks: Mapping[str, Step] = field(default_factory=dict)
    warm: Step | None = None

    def only(self, modes: Sequence[str]) -> "Graph":
        """The part that these modes need; all of it when none is named."""
        kept = {mode: step for mode, step in self.networks.items() if not modes or mode in modes}
        return replace(self, networks=kept)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, each after what it reads."""
        ends = (*((self.warm,) if self.warm else ()), self.teacher, *self.networks.values())
        return tuple(dict.fromkeys(step for end in ends for step in end.before))

    def lanes(self) -> tuple[tuple[str, ...], ...]:
        """The modes in parts that several slots may make side by side, the longest way first.

        A mode goes on in the part that ends where it begins. One that nothing leads to and that is not trained costs a
        slot nothing, and comes at the end of the last part.
        """
        parts: list[list[str]] = []
        free = [mode for mode, step in self.networks.items() if step.schedule is None and len(step.before) == 1]
        for mode, step in self.networks.items():
            part = next((part for part in parts if self.networks[part[-1]] in step.before), None)
            if part is not None:
                part.append(mode)
            elif mode not in free:
                parts.append([mode])
        parts.sort(key=lambda part: -self.networks[part[-1]].passes)
        *first, last = parts or [[]]
        return (*map(tuple, first), (*last, *free))


def fold(graph: Graph, dataset: Dataset, make: Callable[[Step, Sequence[Any]], T]) -> dict[Step, T]:
    """Calls `make(step, inputs)` for every step in order, and returns what it gave for each.

    Inputs that are earlier steps are replaced by what `make` gave for them, and `Data` by the data set.
    """
    made: dict[Step, T] = {}
    for step in graph.steps:
        made[step] = make(step, list(inputs_of(step, dataset, made)))
    return made


def inputs_of(step: Step, dataset: Dataset, made: Mapping[Step, Any]) -> Iterator[Any]:
    """What a step reads, with what was made of the steps and the data among it."""
    for given in step.inputs:
        match given:
            case Step():
                yield made[given]
            case Data():
                yield dataset
            case _:
                yield given
