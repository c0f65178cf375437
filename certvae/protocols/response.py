"""Predicts whether alignment will wake a network: before it starts from a dead channel, or for any network by hand.

Two things must be there: a response, which says that alignment pulls at this network at all, and a weight that wins
against the KL term, of which the forecast of the data and the teacher knows the least.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certvae.answers import DEAD_RATE
from certvae.data.dataset import Dataset
from certvae.protocols import forecasting, stages
from certvae.protocols.forecasting import Pressure
from certvae.protocols.steps import Graph, Step, fold
from certvae.spec.cell import CellSpec
from certvae.spec.control import Barrier, Guard, StudentFirst
from certvae.spec.parts import LearnedHead, Model, Training
from certvae.spec.rescue import Objective, Rescue
from certvae.spec.validation import refuse
from certvae.store.artifact import Artifact
from certvae.store.store import Store

if TYPE_CHECKING:
    from certvae.training.response import Response

ALIGNING = ("aligned", "guarded", "protected")
"""Stages that align the code of the network that they start from with a frozen teacher."""


@dataclass(frozen=True)
class Awakening:
    """What is known of a network with a dead channel before alignment starts.

    alpha_kl  of the objective          critical  the least alignment weight that holds a unit, by the forecast
    largest   alignment weight that may be in force     key  of the response in the store
    """

    response: "Response"
    alpha_kl: float
    critical: float
    largest: float
    key: str

    @property
    def columns(self) -> dict[str, Any]:
        """What a row shows of it; `answers.awakens` reads them."""
        critical = self.critical if math.isfinite(self.critical) else None
        known = {"response": self.response.response, "critical_weight": critical, "largest_weight": self.largest}
        return {**known, "key_response": self.key, "stage_version_response": stages.response.version}

    @property
    def words(self) -> str:
        """One line, with the remedy where it will not work."""
        if not self.response.responds:
            return self.response.words
        least = f"the forecast asks for lambda_ts {self.critical:.3g} or more at alpha_kl {self.alpha_kl:g}"
        if math.isinf(self.critical):
            return f"{self.response.words}; by the forecast none does at alpha_kl {self.alpha_kl:g}: lower it"
        if self.critical <= self.largest:
            return f"{self.response.words}; {least}, and has up to {self.largest:g}"
        return (
            f"{self.response.words}; {least}, and has {self.largest:g}: give --objective.lambda-ts "
            f"{self.critical:.2g} or more, or let a guard find it (--controller guard)"
        )


def is_dead(network: Artifact) -> bool:
    """Whether the channel of a trained network carried nothing on the guard rows in the end."""
    curve = network.facts.get("curve") or [{}]
    rate = curve[-1].get("guard_kl_rate")
    return rate is not None and rate < DEAD_RATE


def before(step: Step, inputs: Sequence[Any], store: Store) -> Awakening | None:
    """The prediction for a step that is about to align a network with a dead channel; None for any other step."""
    match step.stage.inputs(*inputs):
        case {
            "dataset": Dataset() as dataset,
            "model": Model(head=LearnedHead()) as model,
            "objective": Objective() as goal,
            "training": Training() as training,
            "start": Artifact() as start,
            "teacher": Artifact() as teacher,
            **rest,
        } if step.stage.name in ALIGNING and is_dead(start):
            largest = _largest(goal, rest.get("control"))
            return _awakening(dataset, model, training, (goal, largest), start, teacher, store)
        case _:
            return None


def of_cell(spec: CellSpec, graph: Graph, mode: str, dataset: Dataset, store: Store) -> Awakening:
    """The prediction for the network that a mode of a cell ended with, under the weights of the cell.

    Raises:
        ConfigFault: a cell without alignment, or a network that the store does not hold.
    """
    if mode not in graph.networks or not isinstance(spec.protocol, Rescue):
        raise refuse("--mode", "a mode of a cell with full and rescue", mode, "take one from the final table")
    found = fold(graph, dataset, lambda step, inputs: None if None in inputs else store.find(step.stage, *inputs))
    network, teacher = found[graph.networks[mode]], found[graph.teacher]
    if network is None or teacher is None:
        what = f"a network of cell {spec.cell[:12]} that this store holds for this environment"
        raise refuse("--mode", what, mode, "run the study first, on a machine like this one")
    goal = spec.protocol.objective
    given = (goal, _largest(goal, spec.protocol.controller))
    return _awakening(dataset, spec.model, spec.training, given, network, teacher, store)


def _awakening(
    dataset: Dataset,
    model: Model,
    training: Training,
    goal: tuple[Objective, float],
    network: Artifact,
    teacher: Artifact,
    store: Store,
) -> Awakening:
    from certvae.training.response import Response

    objective, largest = goal
    answer = store.call(stages.response, dataset, model, training, network, teacher)
    known = forecasting.spectrum_of(model, dataset, store)
    pressure = Pressure(objective.alpha_kl, objective.lambda_ts, model.decoder_sees_teacher)
    critical = forecasting.critical_weight(known, pressure, teacher)
    return Awakening(Response(**answer.facts), objective.alpha_kl, critical, largest, answer.key)


def _largest(goal: Objective, control: Any) -> float:
    match control:
        case Guard(lambda_max=most) | StudentFirst(lambda_max=most) | Barrier(lambda_max=most):
            return most
        case _:
            return goal.lambda_ts
