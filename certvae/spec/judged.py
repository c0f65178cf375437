"""Judges a config of a search by its goal, from the guard rows of all its search seeds.

A config is scored when all of them have ended, over its strict-feasible seeds; a single failed, diverged or non-finite
seed makes it incomplete, and an incomplete config is never feasible and never averaged over its survivors. Stress-case
seeds are run, counted and listed, and enter no score.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from certvae import answers
from certvae.canonical import finite
from certvae.certificate import FLOAT_SLACK
from certvae.spec.goal import Constraint, Goal, Score

Row = Mapping[str, Any]
Outcome = Literal["complete", "incomplete", "censored"]
"""Censored: ended early, because it could not become feasible or better than the best."""
SCORE = "score"
SEEDS_FOR_AN_ERROR = 2
NO_STRICT_TEACHER = "no seed has a strict-feasible teacher"


@dataclass(frozen=True)
class Judged:
    """A config with its score and constraints, judged over its search seeds."""

    config: str
    outcome: Outcome
    reason: str
    n: int
    """Strict-feasible seeds that were scored."""
    n_failed: int
    n_stress: int
    score: float | None = None
    margins: tuple[float, ...] = ()
    psnr: float | None = None
    psnr_drop: float | None = None
    """Mean loss of PSNR against the paired reference, dB, whether it is bounded or not."""
    violations: Mapping[str, float] | None = None
    variances: Mapping[str, float] | None = None
    """Of each violation over seeds, dB squared, and of `score`, nats squared; None where one seed was scored."""
    by_seed: Mapping[str, tuple[float, ...]] | None = None
    """Of each constraint, what the scored seeds had, dB, in their order."""
    place: Mapping[str, float] | None = None
    """What a sampler drew for it, each coordinate in [0, 1], where other configs may speak for it."""

    @property
    def feasible(self) -> bool:
        """Complete, with every constraint recorded and kept."""
        return self.outcome == "complete" and self.violations is not None and self.slack >= 0

    @property
    def slack(self) -> float:
        """Distance to the nearest constraint, dB, or nats of a goal of kind max_kl; -inf when one is missing."""
        return -math.inf if self.violations is None else -max(self.violations.values(), default=-math.inf)

    def values(self, goal: Goal) -> tuple[float, ...]:
        """What a sampler is told: (score,) or (score, PSNR)."""
        if self.score is None or self.psnr is None:
            raise ValueError(f"config {self.config[:12]} is incomplete ({self.reason}): it has no value")
        return (self.score, self.psnr) if goal.pareto else (self.score,)


def judge(
    config: str, seeds: Sequence[int], rows: Iterable[Row], goal: Goal, place: Mapping[str, float] | None = None
) -> Judged:
    """Scores a config from the guard rows of all its search seeds.

    Args:
        place: what a sampler drew for it, see `Judged.place`.
    """
    found = {(row["seed"], row["mode"]): row for row in rows if row["config"] == config and row["split"] == "guard"}
    pairs = {seed: (found.get((seed, goal.mode)), found.get((seed, goal.reference))) for seed in seeds}
    troubles = {seed: trouble for seed, pair in pairs.items() if (trouble := _trouble(*pair) or _unheld(pair[0], goal))}
    if troubles:
        seed, trouble = next(iter(troubles.items()))
        return Judged(config, "incomplete", f"seed {seed}: {trouble}", 0, len(troubles), 0)
    strict = [pair for pair in pairs.values() if pair[0] and pair[0]["teacher_status"] == "strict-feasible"]
    stress = len(seeds) - len(strict)
    if not strict:
        return Judged(config, "incomplete", NO_STRICT_TEACHER, 0, 0, stress)
    if goal.kind == "margin" and goal.score == "mean-se" and len(strict) < SEEDS_FOR_AN_ERROR:
        return Judged(config, "incomplete", "one strict-feasible seed has no standard error", 0, 0, stress)
    scored = _scored(config, [(mode, other) for mode, other in strict if mode and other], stress, goal)
    return replace(scored, place=place if goal.pooled else None)


def _trouble(mode: Row | None, reference: Row | None) -> str:
    for row in (mode, reference):
        if row is None:
            return "no result (the cell failed)"
        if row["outcome"] != "ok":
            return f"{row['outcome']}: {row['reason']}"
        if None in (finite(row.get("margin")), finite(row.get("psnr_01"))):
            return f"{row['mode']} has no finite margin or PSNR"
    return ""


def _unheld(mode: Row | None, goal: Goal) -> str:
    """What keeps a row from being asked whether its code survives."""
    if goal.kind == "margin" or mode is None:
        return ""
    missing = answers.held_bound(mode) is None or finite(mode.get("alpha_kl")) is None
    return f"{mode['mode']} has no alpha_kl, or no bound on draws or of its head" if missing else ""


def _scored(config: str, pairs: list[tuple[Row, Row]], stress: int, goal: Goal) -> Judged:
    margins = np.array([mode["margin"] for mode, _ in pairs])
    psnr = np.array([mode["psnr_01"] for mode, _ in pairs])
    drop = np.array([other["psnr_01"] for _, other in pairs]) - psnr
    noise = {"psnr_drop": drop, "psnr_floor": psnr, "channel": _held(pairs)}
    spread = margins if goal.kind == "margin" else np.zeros(len(pairs))
    variances = None
    if len(pairs) > 1:
        variances = {name: _variance(name, noise[name]) for name in goal.constraints}
        variances[SCORE] = float(spread.var(ddof=1))
    violations = {name: _violation(name, noise[name], goal) for name in goal.constraints}
    score = float(pairs[0][0]["alpha_kl"]) if goal.kind == "max_kl" else _score(margins, goal.score)
    return Judged(
        config,
        "complete",
        "",
        n=len(pairs),
        n_failed=0,
        n_stress=stress,
        score=score,
        margins=tuple(margins.tolist()),
        psnr=float(psnr.mean()),
        psnr_drop=float(drop.mean()),
        violations=violations,
        variances=variances,
        by_seed={name: tuple(noise[name].tolist()) for name in goal.constraints},
    )


def _held(pairs: Iterable[tuple[Row, Row]]) -> np.ndarray:
    """What holds the code of each seed, nats; NaN where a row has no bound."""
    return np.array([answers.held_bound(mode) for mode, _ in pairs], dtype=float)


def _violation(name: Constraint, seeds: np.ndarray, goal: Goal) -> float:
    """Of the numbers of all seeds: <= 0 where the constraint is kept."""
    match name:
        case "psnr_drop":
            return float(seeds.mean()) - (goal.psnr_drop or 0.0)
        case "psnr_floor":
            return (goal.psnr_floor or 0.0) - float(seeds.mean())
        case "channel":
            return FLOAT_SLACK - float(seeds.min())


def _variance(name: Constraint, seeds: np.ndarray) -> float:
    """Of a mean over seeds; a channel asks for a bound of every seed, which knows its own error."""
    return 0.0 if name == "channel" else float(seeds.var(ddof=1))


def _score(margins: np.ndarray, score: Score) -> float:
    match score:
        case "mean":
            return float(margins.mean())
        case "worst":
            return float(margins.min())
        case "mean-se":
            return float(margins.mean() - margins.std(ddof=1) / math.sqrt(len(margins)))
