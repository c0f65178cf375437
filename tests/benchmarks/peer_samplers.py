"""Peers of Optuna's samplers, as samplers of Optuna: BoTorch's qLogNEI by Ax, and SMAC3's forest.

    python -m tests.benchmarks.samplers --samplers peer_samplers:ax peer_samplers:smac

They are no dependency: install `ax-platform` or `smac` into an environment of its own beside certvae. Each is made anew
for a config and told all trials, as Optuna's are, so a search of theirs replays; both draw their first configs at
random. Ax fits the score and each constraint, infers their noise, and takes configs that are still open as pending.
SMAC has no constraint: a violation costs a penalty, and open configs are unknown to it. All else is as their
documentation begins.
"""

import logging
import tempfile
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

STARTUP = 10
"""Configs at random before a model is asked, as Optuna's GP has it."""
PENALTY = 10.0  # nats per dB, as in peer_search.py
Space = dict[str, BaseDistribution]


def ax(seed: int) -> BaseSampler:
    """Ax's client with its usual strategy, which is qLogNEI."""
    return Ax(seed)


def smac(seed: int) -> BaseSampler:
    """SMAC3's facade for hyperparameters: a random forest and the logarithm of expected improvement."""
    return Smac(seed)


class Peer(BaseSampler):
    """Asks another library once enough trials are complete, and draws at random before."""

    def __init__(self, seed: int):
        self.seed, self._random = seed, RandomSampler(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return IntersectionSearchSpace().calculate(study)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> dict[str, Any]:
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(told) < STARTUP:
            return {}
        still_open = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.asked(search_space, told, [one for one in still_open if one.params])

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def asked(self, space: Space, told: list[FrozenTrial], still_open: list[FrozenTrial]) -> dict[str, Any]:
        """The parameters that the library proposes."""
        raise NotImplementedError


class Ax(Peer):
    """See `ax`."""

    def asked(self, space: Space, told: list[FrozenTrial], still_open: list[FrozenTrial]) -> dict[str, Any]:
        made, ranged = import_module("ax.api.client").Client, import_module("ax.api.configs").RangeParameterConfig
        logging.disable(logging.WARNING)
        names = {name: f"x{place}" for place, name in enumerate(space)}
        bounds = [(names[name], *_range(name, kind)) for name, kind in space.items()]
        limits = [f"violation{place}" for place in range(len(_violations(told[0])))]
        client = made(random_seed=self.seed)
        client.configure_experiment(
            [ranged(name=name, bounds=(low, high), parameter_type="float", scaling="log") for name, low, high in bounds]
        )
        client.configure_optimization("score", outcome_constraints=[f"{name} <= 0" for name in limits])
        client.configure_generation_strategy(initialization_budget=STARTUP, initialize_with_center=False)
        for one in (*told, *still_open):
            index = client.attach_trial({names[name]: one.params[name] for name in space})
            if one.state == TrialState.COMPLETE:
                client.complete_trial(
                    index, {"score": one.values[0], **dict(zip(limits, _violations(one), strict=True))}
                )
        (proposed,) = client.get_next_trials(1).values()
        return {name: proposed[short] for name, short in names.items()}


class Smac(Peer):
    """See `smac`."""

    def asked(self, space: Space, told: list[FrozenTrial], still_open: list[FrozenTrial]) -> dict[str, Any]:
        spaces, peer, history = map(import_module, ("ConfigSpace", "smac", "smac.runhistory.dataclasses"))
        known = spaces.ConfigurationSpace(seed=self.seed)
        known.add([spaces.Float(name, _range(name, kind), log=True) for name, kind in space.items()])
        with tempfile.TemporaryDirectory() as scratch:
            scenario = peer.Scenario(
                known, deterministic=True, n_trials=10 * len(told), seed=self.seed, output_directory=scratch
            )
            drawn = peer.HyperparameterOptimizationFacade.get_initial_design(scenario, n_configs=0)
            facade = peer.HyperparameterOptimizationFacade(
                scenario, _never, initial_design=drawn, overwrite=True, logging_level=logging.ERROR
            )
            for one in told:
                info = history.TrialInfo(spaces.Configuration(known, values=_ordered(one.params, space)), seed=0)
                cost = PENALTY * sum(max(0.0, violation) for violation in _violations(one)) - one.values[0]
                facade.tell(info, history.TrialValue(cost), save=False)
            return dict(facade.ask().config)


def _range(name: str, kind: BaseDistribution) -> tuple[float, float]:
    if not (isinstance(kind, FloatDistribution) and kind.log):
        raise ValueError(f"{name} is no number in log scale: the comparison has no other parameter")
    return kind.low, kind.high


def _violations(trial: FrozenTrial) -> list[float]:
    return [*trial.constraints.values()]


def _ordered(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {name: params[name] for name in space}


def _never(config: Any, seed: int = 0) -> float:
    raise AssertionError("asked and told, never run")
