"""Proposals that can be replayed: config k is a function of the study's seed, outcomes 0..k-lag, and what is open.

Optuna's study is rebuilt in memory for each ask, told in the order of the configs and not of their finish, with a
sampler seeded by (study seed, k). Neither worker speed, nor their number, nor a killed driver enters.
"""

import json
import math
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState

from certvae.canonical import digest
from certvae.engine.rule import Search
from certvae.engine.samplers import NAMES, sampler_of
from certvae.engine.space import Space
from certvae.errors import ConfigFault, SearchFault
from certvae.foreign import TheirFault, called, place_of
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged
from certvae.spec.noise import Noise

SKETCHED = 64
"""Configs that a plan asks the real sampler for."""


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
        known = {"number": self.number, "params": self.params, "distributions": kinds, "place": self.place}
        return known | {"system": json.dumps(self.system)}

    @property
    def place(self) -> dict[str, float]:
        """Where it lies in the space: numbers as shares of their range, in log scale if drawn so; 1 for a choice."""
        found = {}
        for name, kind in self.distributions.items():
            match kind:
                case FloatDistribution(low=low, high=high, log=log) | IntDistribution(low=low, high=high, log=log):
                    start, value, end = (math.log(x) if log else x for x in (low, self.params[name], high))
                    found[name] = (value - start) / (end - start) if end > start else 0.0
                case CategoricalDistribution(choices=choices):
                    found |= {f"{name} {choice!r}": float(choice == self.params[name]) for choice in choices}
        return found

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Proposal":
        kinds = {name: json_to_distribution(text) for name, text in body["distributions"].items()}
        return cls(body["number"], body["params"], kinds, json.loads(body["system"]))


def propose(
    search: Search, number: int, told: Sequence[tuple[Proposal, Judged]], still_open: Sequence[Proposal]
) -> tuple[Proposal, CellSpec]:
    """Asks the sampler for config `number`; returns its proposal and its spec.

    Args:
        told: configs 0..number-lag with their outcomes, in order.
        still_open: the configs after those, whose parameters the sampler may avoid.

    Raises:
        ConfigFault: see `sampler_of`.
        SearchFault: when the space draws an invalid spec, the sampler cannot handle the space, or is not seeded.
    """

    def ask() -> tuple[Proposal, CellSpec]:
        study = rebuilt(told, still_open, search.goal, _sampler(search, number))
        return _asked(study, number, search)

    proposal, spec = ask()
    if number == 0 and search.sampler not in NAMES and ask()[0].params != proposal.params:
        raise _unseeded(search.sampler)
    return proposal, spec


def sketched(search: Search, known: Sequence[Proposal]) -> list[CellSpec]:
    """The configs that follow those that are known, as its sampler would draw them if nothing were told; none is kept.

    A plan is made with them; fewer follow than the search wants where the space has no more.

    Raises:
        ConfigFault, SearchFault: as `propose`, so a dry run meets what a run would meet.
    """
    study = rebuilt([], known, search.goal, _sampler(search, len(known)))
    proposals, drawn = list(known), []
    while len(proposals) < search.total and not exhausted(proposals):
        if len(drawn) == SKETCHED:  # it looks through all trials for each: at random for the rest, and at once
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=search.study_seed))
        proposal, spec = _asked(study, len(proposals), search)
        proposals.append(proposal)
        drawn.append(spec)
    return drawn


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The one that proposes config `number`, with the seed of this ask."""
    return sampler_of(search.sampler, number, int(digest(["ask", search.study_seed, number])[:8], 16))


def _asked(study: optuna.Study, number: int, search: Search) -> tuple[Proposal, CellSpec]:
    """One more trial of a study, drawn by a user's space, and proven to read back as what it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of choices that are refused below
        try:
            trial = study.ask()
        except Exception as error:  # a sampler fails in its own library's way
            raise _no_draw(number, search.sampler, error) from error
        try:
            spec = _drawn(search, trial, number)
        except TheirFault as fault:
            if isinstance(error := fault.__cause__, Exception) and _is_samplers(error):
                raise _no_draw(number, search.sampler, error) from error
            raise
    asked = study.get_trials(deepcopy=False)[-1]  # a copy of all trials is a third of an ask at 3,000
    kinds = {name: _resumable(name, kind) for name, kind in asked.distributions.items()}
    params = {name: _plain_choice(name, value) for name, value in asked.params.items()}
    proposal = Proposal(number, params, kinds, _plain(asked.system_attrs))
    read = Proposal.of(json.loads(json.dumps(proposal.body())))
    same = (read.params, read.distributions) == (proposal.params, proposal.distributions)
    if not same or spec_of(read, search).config != spec.config:
        raise _other_when_read(number, search.space, proposal.params)
    return proposal, spec


def _is_samplers(error: Exception) -> bool:
    """Whether a sampler of Optuna raised it, below a space that asked for what it cannot draw."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return Path(last.filename).is_relative_to(Path(optuna.samplers.__file__).parent)


def _drawn(search: Search, trial: BaseTrial, number: int) -> CellSpec:
    """The config that a user's space makes of a trial.

    Raises:
        ConfigFault: the space raised something; the fault names its line.
        SearchFault: it made no valid spec, or none at all.
    """
    base = search.base
    try:
        spec = called(search.space, trial, base)
    except TheirFault:
        raise
    except ConfigFault as fault:
        raise _bad_draw(number, trial, fault) from fault
    if not isinstance(spec, CellSpec) or (spec.study, spec.seed) != (base.study, base.seed):
        raise _no_spec(number, search.space, spec)
    return spec


def spec_of(proposal: Proposal, search: Search) -> CellSpec:
    """The spec of a proposal that was made before."""
    return _drawn(search, FixedTrial(proposal.params, number=proposal.number), proposal.number)


def exhausted(proposals: Sequence[Proposal]) -> bool:
    """Whether a space has no other config than these: it is finite, and every combination of values was met.

    A parameter that is drawn only where another has some value is asked for there alone.
    """
    if proposals and None in map(_size, proposals[0].distributions.values()):
        return False  # at once, for this is asked of each config: beside the values of the first there is a continuum
    names = set.intersection(*(set(one.params) for one in proposals)) if proposals else set()
    for name in sorted(names):
        kinds = [one.distributions[name] for one in proposals]
        if any(kind != kinds[0] for kind in kinds):
            continue
        rest: dict[Any, list[Proposal]] = {}
        for one in proposals:
            rest.setdefault(one.params[name], []).append(_without(one, name))
        return len(rest) == _size(kinds[0]) and all(map(exhausted, rest.values()))
    return bool(proposals) and not any(one.params for one in proposals)


def _without(proposal: Proposal, name: str) -> Proposal:
    left = {other: value for other, value in proposal.params.items() if other != name}
    return replace(proposal, params=left)


def _size(kind: BaseDistribution) -> int | None:
    """How many values a parameter can have; None for a continuum."""
    match kind:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case IntDistribution(low=low, high=high, step=step):
            return (high - low) // step + 1
        case FloatDistribution(low=low, high=high, step=float(step)):
            return round((high - low) / step) + 1
        case FloatDistribution(low=low, high=high) if low == high:
            return 1
        case _:
            return None


def _resumable(name: str, kind: BaseDistribution) -> BaseDistribution:
    """The distribution with choices that a file can hold."""
    if not isinstance(kind, CategoricalDistribution):
        return kind
    return CategoricalDistribution([_plain_choice(name, choice) for choice in kind.choices])


def _plain_choice(name: str, value: Any) -> Any:
    """A value as a file holds it: numpy's scalars as Python's.

    Raises:
        ConfigFault: it would be another one when it is read back.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ConfigFault(
        f"parameter {name!r} has the choice {value!r} ({type(value).__name__})",
        f"let {name!r} choose among texts, such as the keys of a dictionary that holds what is meant",
        where="the space of the study",
        cause="a search is resumed from a file, which holds None, true or false, finite numbers and texts",
    )


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
        noise = Noise.of([judged for _, judged in told])
        for proposal, judged in told:
            study.add_trial(finished(proposal, judged, goal, noise))
        for proposal in still_open:
            study.add_trial(_trial(proposal, TrialState.RUNNING))
    return study


def finished(proposal: Proposal, judged: Judged, goal: Goal, noise: Noise) -> FrozenTrial:
    """A judged config as a trial: COMPLETE, PRUNED or FAIL; a missing number is never told as feasible.

    A constraint is told as the goal reads it: what is missed at its certainty. A config that lost its race is told by
    the seeds that it ran: fewer miss by more, and a sampler that was told nothing would ask for its neighbours again.
    """
    if judged.outcome == "censored" and judged.violations is None:
        return _trial(proposal, TrialState.PRUNED)
    if judged.outcome == "incomplete" or judged.violations is None or set(judged.violations) != set(goal.constraints):
        return _trial(proposal, TrialState.FAIL)
    missed = noise.shortfalls(judged, goal.certainty)
    return _trial(proposal, TrialState.COMPLETE, values=list(judged.values(goal)), constraints=missed)


def _trial(proposal: Proposal, state: TrialState, **results: Any) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        params=proposal.params,
        distributions=proposal.distributions,
        system_attrs=proposal.system,
        user_attrs={"config_number": proposal.number},
        **results,
    )


def _plain(system: dict[str, Any]) -> dict[str, Any]:
    """The notes that JSON can carry; constraints are told by ourselves."""
    return {name: value for name, value in system.items() if not name.startswith("constraints")}


def _no_draw(number: int, sampler: str, error: Exception) -> SearchFault:
    return SearchFault(
        f"the sampler {sampler} proposes no config {number}: {str(error).strip() or type(error).__name__}".splitlines()[
            0
        ],
        "choose another one, such as --sampler tpe, or ranges that it can draw, such as --range FIELD LOW HIGH STEP",
        where="--sampler",
        cause="it cannot handle this space, or what it was told",
    )


def _unseeded(sampler: str) -> SearchFault:
    return SearchFault(
        f"{sampler} proposes another config 0 when it is asked again",
        "make the sampler with the seed that the function is given, `def mine(seed): ...`",
        where="--sampler",
        cause="a search is replayed after a crash, so a config is a function of its seed and of earlier outcomes",
    )


def _no_spec(number: int, space: Space, found: Any) -> SearchFault:
    return SearchFault(
        f"config {number} is no CellSpec of this study and seed, but a {type(found).__name__}",
        "return `dataclasses.replace(base, ...)`",
        where=place_of(space),
        cause="a space returns the base that it was given with other values in it, and leaves study and seed alone",
    )


def _other_when_read(number: int, space: Space, params: Mapping[str, Any]) -> SearchFault:
    return SearchFault(
        f"config {number} is another one when it is made again from what was drawn: {dict(params)}",
        "draw every value on the trial, so that a search can be resumed",
        where=place_of(space),
        cause="the space reads something besides its trial and the base: a random number, the clock, a global",
    )


def _bad_draw(number: int, trial: BaseTrial, fault: ConfigFault) -> SearchFault:
    return SearchFault(
        f"config {number} is no valid spec: {fault.what}",
        "narrow the space so that every draw is valid",
        where=f"{fault.where}, drawn {trial.params}",
        cause="the space of the study can draw values that the spec refuses",
    )
