"""Proposals that can be replayed: config k is a function of the study's seed, outcomes 0..k-lag, and what is open.

Optuna's study is rebuilt in memory for each ask, told in the order of the configs and not of their finish, with a
sampler seeded by (study seed, k). Neither worker speed, nor their number, nor a killed driver enters.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState

from certvae.canonical import digest
from certvae.errors import ConfigFault, SearchFault
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal, Judged

Sampler = Literal["tpe", "gp", "nsga2", "random", "grid"]
Space = Callable[[BaseTrial, CellSpec], CellSpec]
"""Draws a config: suggests values on the trial and puts them into the base."""


@dataclass(frozen=True)
class Proposal:
    """One config of a search, as Optuna knows it."""

    number: int
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    system: dict[str, Any]
    """The sampler's own notes; without them a rebuilt NSGA-II would silently ignore its history."""

    def body(self) -> dict[str, Any]:
        """As a document of the store."""
        kinds = {name: distribution_to_json(kind) for name, kind in self.distributions.items()}
        return {"number": self.number, "params": self.params, "distributions": kinds, "system": json.dumps(self.system)}

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Proposal":
        kinds = {name: json_to_distribution(text) for name, text in body["distributions"].items()}
        return cls(body["number"], body["params"], kinds, json.loads(body["system"]))


def propose(
    number: int,
    told: Sequence[tuple[Proposal, Judged]],
    still_open: Sequence[Proposal],
    *,
    space: Space,
    base: CellSpec,
    goal: Goal,
    sampler: Sampler,
    study_seed: int,
) -> tuple[Proposal, CellSpec]:
    """Asks for config `number`.

    Args:
        told: configs 0..number-lag with their outcomes, in order.
        still_open: the configs after those, whose parameters the sampler may avoid.

    Raises:
        SearchFault: when the space draws an invalid spec, or the sampler cannot handle the space.
    """
    study = rebuilt(told, still_open, goal, _sampler(sampler, digest_seed(study_seed, number)))
    trial = study.ask()
    try:
        spec = space(trial, base)
    except ConfigFault as fault:
        raise _bad_draw(number, trial, fault) from fault
    asked = study.trials[-1]
    return Proposal(number, asked.params, asked.distributions, _plain(asked.system_attrs)), spec


def sketched(numbers: Iterable[int], space: Space, base: CellSpec) -> list[CellSpec]:
    """Configs of a search as a sampler that has seen nothing would draw them, to plan with; none of them is kept.

    Raises:
        SearchFault: when the space draws an invalid spec.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drawn = []
    for number in numbers:
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
        try:
            drawn.append(space(trial, base))
        except ConfigFault as fault:
            raise _bad_draw(number, trial, fault) from fault
    return drawn


def spec_of(proposal: Proposal, space: Space, base: CellSpec) -> CellSpec:
    """The spec of a proposal that was made before."""
    return space(FixedTrial(proposal.params, number=proposal.number), base)


def rebuilt(
    told: Sequence[tuple[Proposal, Judged]],
    still_open: Sequence[Proposal],
    goal: Goal,
    sampler: optuna.samplers.BaseSampler | None = None,
    storage: optuna.storages.BaseStorage | None = None,
    name: str | None = None,
) -> optuna.Study:
    """An Optuna study that holds exactly these outcomes, in this order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MAXIMIZE] * (2 if goal.pareto else 1)
    study = optuna.create_study(directions=directions, sampler=sampler, storage=storage, study_name=name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The constraint value is ignored")  # Optuna copies them twice
        for proposal, judged in told:
            study.add_trial(_finished(proposal, judged, goal))
        for proposal in still_open:
            study.add_trial(_trial(proposal, TrialState.RUNNING))
    return study


def export(told: Sequence[tuple[Proposal, Judged]], goal: Goal, path: Path, name: str) -> Path:
    """Writes a search as an Optuna journal, which optuna-dashboard opens: a view, written anew from rows."""
    path.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    rebuilt(told, [], goal, storage=storage, name=name)
    return path


def digest_seed(study_seed: int, number: int) -> int:
    """The sampler's seed for one ask."""
    return int(digest(["ask", study_seed, number])[:8], 16)


def _finished(proposal: Proposal, judged: Judged, goal: Goal) -> FrozenTrial:
    """COMPLETE with every value and constraint, PRUNED, or FAIL: a missing number is never told as feasible."""
    if judged.outcome == "censored":
        return _trial(proposal, TrialState.PRUNED)
    if judged.outcome != "complete" or judged.violations is None or set(judged.violations) != set(goal.constraints):
        return _trial(proposal, TrialState.FAIL)
    return _trial(proposal, TrialState.COMPLETE, values=list(judged.values(goal)), constraints=dict(judged.violations))


def _trial(proposal: Proposal, state: TrialState, **results: Any) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        params=proposal.params,
        distributions=proposal.distributions,
        system_attrs=proposal.system,
        user_attrs={"config_number": proposal.number},
        **results,
    )


def _sampler(name: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=16, seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "grid":
                return optuna.samplers.BruteForceSampler(seed=seed)


def _plain(system: dict[str, Any]) -> dict[str, Any]:
    """The notes that JSON can carry; constraints are told by ourselves."""
    return {name: value for name, value in system.items() if not name.startswith("constraints")}


def _bad_draw(number: int, trial: BaseTrial, fault: ConfigFault) -> SearchFault:
    return SearchFault(
        1,
        f"config {number} is no valid spec: {fault.what}",
        where=f"{fault.where}, drawn {trial.params}",
        cause="the space of the study can draw values that the spec refuses",
        remedy="narrow the space so that every draw is valid",
    )
