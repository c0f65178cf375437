"""Which sampler finds the best feasible config, and how often a pick truly violates: problems whose truth is known.

    python -m tests.benchmarks.samplers                       30 repetitions of every sampler, line by line
    python -m tests.benchmarks.samplers --repetitions 2 --samplers tpe random --certainties 0.5 0.9
    python -m tests.benchmarks.samplers --problems digits --configs 48 --samplers gp peer_samplers:smac

The searches are the product's own: its proposals with their lag, its goal, its rule for a winner. Only the cells are
simulated: rows with noise of seeds in margin and PSNR. Regret is that of the best config, truly feasible, that was
seen; a pick is what the search names as its winner, by means alone and by the certainty of its goal. `digits` has the
truth and the noise of networks that were trained, see `recorded.py`.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from optuna.trial import BaseTrial
from scipy.optimize import minimize

from certvae.engine.propose import Proposal, propose
from certvae.engine.rule import Search
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.presets import rescue
from certvae.spec.ranking import best
from certvae.spec.rescue import Rescue
from tests.benchmarks.recorded import Curves

SIZES = (16, 32, 48, 96)
SAMPLERS = ("tpe", "samplers:univariate", "gp", "nsga2", "random")
SEEDS = (0, 1, 2)
LAG = 8
BASE = rescue("digits")
LOW, HIGH = 1e-3, 1e1  # of every weight
NAMES = ("alpha_kl", "lambda_ts", "lambda_bal")
Point = np.ndarray


@dataclass(frozen=True)
class Problem:
    """Truth over the unit cube, and the noise of one seed.

    margin  nats;  drop  dB lost against the reference, allowed up to `limit`
    noises  begins a search: gives the noise of its seeds at a point, (seeds, 2), of drop and margin
    """

    name: str
    dimensions: int
    margin: Callable[[Point], float]
    drop: Callable[[Point], float]
    limit: float
    noises: Callable[[np.random.Generator], Callable[[Point], np.ndarray]]

    def space(self, trial: BaseTrial, base: CellSpec) -> CellSpec:
        """Weights on a log scale are the coordinates."""
        drawn = {name: trial.suggest_float(name, LOW, HIGH, log=True) for name in NAMES[: self.dimensions]}
        assert isinstance(base.protocol, Rescue)
        return replace(base, protocol=replace(base.protocol, objective=replace(base.protocol.objective, **drawn)))

    def at(self, proposal: Proposal) -> Point:
        """Where a proposal lies in the cube."""
        values = [proposal.params[name] for name in NAMES[: self.dimensions]]
        return np.log(np.array(values) / LOW) / np.log(HIGH / LOW)

    def optimum(self) -> float:
        """The largest margin that the constraint allows: the best of a grid, and downhill from there."""
        axis = np.linspace(0, 1, 201 if self.dimensions == 2 else 31)
        points = map(np.array, itertools.product(axis, repeat=self.dimensions))
        start = max((point for point in points if self.drop(point) <= self.limit), key=self.margin)
        within = {"type": "ineq", "fun": lambda point: self.limit - self.drop(point)}
        found = minimize(lambda point: -self.margin(point), start, bounds=[(0, 1)] * len(start), constraints=within)
        return max(self.margin(start), -float(found.fun))


def independent(drop: float, margin: float) -> Callable[[np.random.Generator], Callable[[Point], np.ndarray]]:
    """Normal noise with these standard deviations, new for every config and seed."""
    return lambda rng: lambda _: rng.normal(0, (drop, margin), (len(SEEDS), 2))


SIMULATED = (
    Problem(
        "trade",
        2,
        lambda u: 2 * (1 - np.exp(-4 * u[1])) * np.exp(-1.5 * u[0]),
        lambda u: 2.4 * u[1] ** 2 + 1.2 * (0.6 - u[0]) ** 2,
        0.8,
        independent(0.15, 0.03),
    ),
    Problem(
        "ridge",
        2,
        lambda u: 1.9 - 6 * (u[1] - 0.35 - 0.5 * u[0]) ** 2 - 0.8 * (u[0] - 0.9) ** 2,
        lambda u: 1.8 * u[0] * u[1] + 0.2 * np.sin(6 * u[0]),
        0.7,
        independent(0.12, 0.04),
    ),
    Problem(
        "three",
        3,
        lambda u: 2 * np.exp(-4 * ((u[0] - 0.7) ** 2 + (u[1] - 0.75) ** 2 + 0.5 * (u[2] - 0.4) ** 2)),
        lambda u: 1.1 * u[0] + 0.9 * u[1] ** 2 + 0.4 * (u[2] - 0.5) ** 2,
        0.9,
        independent(0.15, 0.03),
    ),
)


def digits() -> Problem:
    """Networks that were trained, see `recorded.py`; PSNR may fall by 0.3 dB."""
    curves = Curves.read()
    drop, margin = (curves.truth(values) for values in curves.ended.mean(axis=2))
    return Problem("digits", 3, margin, drop, 0.3, curves.noises)


PROBLEMS: dict[str, Callable[[], Problem]] = {one.name: lambda one=one: one for one in SIMULATED} | {"digits": digits}


def univariate(seed: int) -> TPESampler:
    """TPE parameter by parameter; that of Optuna 5 draws them together."""
    return TPESampler(seed=seed, multivariate=False)


def rows_of(problem: Problem, point: Point, config: str, noise: np.ndarray) -> list[dict[str, Any]]:
    """The guard rows of a config on its search seeds."""
    rows = []
    for seed, (more_drop, more_margin) in zip(SEEDS, noise, strict=True):
        drop, margin = problem.drop(point) + more_drop, problem.margin(point) + more_margin
        known = {"config": config, "seed": seed, "split": "guard", "outcome": "ok", "teacher_status": "strict-feasible"}
        rows += [{**known, "mode": "no_align", "margin": 0.0, "psnr_01": 20.0}]
        rows += [{**known, "mode": "full", "margin": margin, "psnr_01": 20.0 - drop}]
    return rows


def searched(
    problem: Problem, sampler: str, certainty: float, repetition: int, total: int
) -> list[tuple[Proposal, Judged]]:
    """A whole search, one config after the other: what is asked depends on outcomes 0 to k - lag alone."""
    goal, noise = (
        Goal(psnr_drop=problem.limit, certainty=certainty),
        problem.noises(np.random.default_rng([repetition, 7])),
    )
    told: list[tuple[Proposal, Judged]] = []
    search = Search(
        base=BASE,
        space=problem.space,
        goal=goal,
        sampler=sampler,
        total=total,
        lag=LAG,
        study_seed=repetition,
        seeds=SEEDS,
        confirmation_seeds=(100,),
    )
    for number in range(total):
        known = max(0, number - LAG + 1)
        still_open = [proposal for proposal, _ in told[known:]]
        proposal, spec = propose(search, number, told[:known], still_open)
        point = problem.at(proposal)
        rows = rows_of(problem, point, spec.config, noise(point))
        told.append((proposal, judge(spec.config, SEEDS, rows, goal, proposal.place)))
    return told


def measured(
    problem: Problem, told: list[tuple[Proposal, Judged]], optimum: float, certainty: float
) -> dict[str, float]:
    """Regret of the best truly feasible config seen and of the winner, and whether the winner truly violates."""
    points = {judged.config: problem.at(proposal) for proposal, judged in told}
    allowed = [problem.margin(point) for point in points.values() if problem.drop(point) <= problem.limit]
    winner = best([judged for _, judged in told], certainty)
    point = None if winner is None else points[winner.config]
    return {
        "seen": max(0.0, optimum - max(allowed, default=0.0)),
        "pick": np.nan if point is None else optimum - problem.margin(point),
        "wrong": point is not None and problem.drop(point) > problem.limit,
        "none": point is None,
    }


def main() -> None:
    """Prints the median regret of what was seen and picked, and how many picks truly violate, or were not made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--samplers", nargs="*", default=SAMPLERS)
    parser.add_argument("--certainties", nargs="*", type=float, default=(0.9,))
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=tuple(PROBLEMS))
    parser.add_argument("--configs", type=int, default=SIZES[-1])
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).parent))  # where `samplers:univariate` is found
    columns = f"{'certainty':>10}{'configs':>8}{'seen':>9}{'pick':>9}{'wrong':>6}{'none':>6}"
    print(f"{'problem':8}{'sampler':12}{columns}  s per ask")
    problems = [PROBLEMS[name]() for name in given.problems]
    for case in itertools.product(problems, given.samplers, given.certainties):
        show(*case, configs=given.configs, repetitions=given.repetitions)


def show(problem: Problem, sampler: str, certainty: float, *, configs: int, repetitions: int) -> None:
    """Searches one problem with one sampler, and prints a line for each number of configs."""
    optimum, began = problem.optimum(), time.process_time()
    runs = [searched(problem, sampler, certainty, number, configs) for number in range(repetitions)]
    seconds = (time.process_time() - began) / len(runs) / configs
    for size in (size for size in SIZES if size <= configs):
        each = [measured(problem, told[:size], optimum, certainty) for told in runs]
        found = {name: np.array([one[name] for one in each], dtype=float) for name in each[0]}
        regrets = f"{np.median(found['seen']):9.4f}{np.nanmedian(found['pick']):+9.4f}"
        counts = f"{found['wrong'].sum():6.0f}{found['none'].sum():6.0f}"
        named = f"{problem.name:8}{sampler.rpartition(':')[2]:12}"
        print(f"{named}{certainty:10}{size:8}{regrets}{counts}  {seconds:.4f}", flush=True)


if __name__ == "__main__":
    main()
