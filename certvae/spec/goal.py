"""Defines what a search maximises, judges configs by it, and names the best one.

A config is a set of search seeds. It is scored when all of them have ended, on the guard split, over its
strict-feasible seeds; a single failed, diverged or non-finite seed makes it incomplete, and an incomplete config is
never feasible and never averaged over its survivors. Stress-case seeds are run, counted and listed, and enter no score.
A winner keeps its constraints with a stated probability: seeds are noise, and the luckiest of many configs is the one
whose noise hid a violation. So its mean is judged by what all configs together say of it, see `spec.pooled`.

    score        mean, worst, or mean - standard error of the margins of `mode`, nats
    constraint   violation in dB, <= 0 is feasible: floor minus mean PSNR, or mean drop below the reference minus limit

Of kind max_kl it is the largest alpha_kl that a code survives, asked by whoever wants a compressive one:

    score        alpha_kl of the config
    constraint   minus the least bound of any seed, nats, of the head and of a head on draws: in every seed the head is
                 certified and the channel alive, in the words that its row shows
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Lt

from certvae import answers
from certvae.canonical import TYPE, fields_of, finite
from certvae.certificate import FLOAT_SLACK
from certvae.spec.pooled import components, smoothed
from certvae.spec.validation import refuse, spec

Row = Mapping[str, Any]
RULE = "search"
"""Kind of the document by which a store fixes how a study is searched: its goal and its seeds among others."""
BEST = "best.json"
"""Name of the file of its winner, among the views of a search."""
Score = Literal["mean", "worst", "mean-se"]
SEEDS_FOR_AN_ERROR = 2
BY_MEANS = 0.5
"""The certainty at which noise does not enter."""
NO_NOISE = "by the mean alone, as single seeds know no noise"
"""How surely a constraint is kept, in words, where no config has two seeds."""
SCORE = "score"
NO_STRICT_TEACHER = "no seed has a strict-feasible teacher"
Constraint = Literal["psnr_drop", "psnr_floor", "channel"]
Kind = Literal["margin", "max_kl"]
Outcome = Literal["complete", "incomplete", "censored"]
"""Censored: ended early, because it could not become feasible or better than the best."""


def proposed_kind(study: str) -> str:
    """Kind of the documents on the configs that a search proposed, by their numbers: config, params and more."""
    return f"proposals-{study}"


def ended_kind(study: str) -> str:
    """Kind of the documents on cells of a study that a search ended early: cell -> config, reason."""
    return f"censored-{study}"


@spec
class Goal:
    """Maximise a margin subject to reconstruction, trade one against the other, or ask how much KL a code survives."""

    mode: str = "full"
    """The mode whose margin counts."""
    reference: str = "no_align"
    """The paired mode whose PSNR is the yardstick."""
    score: Score = "mean"
    """How the margins of the search seeds become one number."""
    psnr_drop: Annotated[float, Ge(0)] | None = 1.5
    """Largest mean PSNR loss against the reference of the same config, dB; none when absent. A weight that blurs both,
    such as alpha_kl, is not held back by it: give a floor too."""
    psnr_floor: float | None = None
    """Smallest mean PSNR, dB; none when absent."""
    pareto: bool = False
    """Two objectives, margin and PSNR, instead of one."""
    certainty: Annotated[float, Ge(0.5), Lt(1)] = 0.9
    """Smallest probability, given the noise of seeds, that a winner keeps its constraints; 0.5 asks for means alone."""
    pooled: bool = True
    """Judge whether a config keeps its constraints by what all configs say of it, and not by its own seeds alone."""
    kind: Kind = "margin"
    """max_kl maximises alpha_kl instead: the largest at which, in every seed, the channel is alive and the head
    certified. It knows no bound on PSNR."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; `kind` leaves no trace in a goal about a margin."""
        return {name: value for name, value in fields_of(self, later=()).items() if (name, value) != ("kind", "margin")}

    def __post_init__(self) -> None:
        bounds = (self.psnr_drop, self.psnr_floor, self.pareto or None)
        if self.kind == "max_kl" and bounds != (None, None, None):
            remedy = "add --goal.psnr-drop None, and leave psnr_floor and pareto away"
            raise refuse("Goal.kind", "margin where reconstruction is bounded or traded", self.kind, remedy)
        if self.kind == "margin" and self.psnr_drop is None and self.psnr_floor is None and not self.pareto:
            raise refuse(
                "Goal.psnr_drop",
                "given, or psnr_floor, or pareto",
                None,
                "a margin without a reconstruction constraint is won by a decoder that ignores the image",
            )

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Goal":
        """The goal that a store holds; one without a certainty went by means, and by those of each config alone."""
        given: dict[str, Any] = {"certainty": BY_MEANS, "pooled": False, **body}
        return cls(**{name: value for name, value in given.items() if name != TYPE})

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Names of the constraints in force: the same for every config of a search."""
        if self.kind == "max_kl":
            return ("channel",)
        named: dict[Constraint, float | None] = {"psnr_drop": self.psnr_drop, "psnr_floor": self.psnr_floor}
        return tuple(name for name, limit in named.items() if limit is not None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `Judged.values` holds."""
        if self.kind == "max_kl":
            return (f"alpha_kl of {self.mode}",)
        margin = f"{self.score} margin of {self.mode}, nats"
        return (margin, f"mean PSNR of {self.mode}, dB") if self.pareto else (margin,)

    def __str__(self) -> str:
        bounds = [] if self.psnr_drop is None else [f"at most {self.psnr_drop:g} dB below {self.reference}"]
        bounds += [] if self.psnr_floor is None else [f"at least {self.psnr_floor:g} dB"]
        if self.kind == "max_kl":
            return f"{self.mode}: maximise alpha_kl, its channel alive and its head certified in every seed"
        wanted = " and ".join(self.metrics)
        return f"maximise the {wanted}" + (f"; PSNR {' and '.join(bounds)}, at {self.certainty:.0%}" if bounds else "")

    @property
    def sought(self) -> str:
        """The quantity that the score is a value of."""
        return "alpha_kl" if self.kind == "max_kl" else "margin"

    @property
    def unit(self) -> str:
        """The unit of a config's slack."""
        return "nats" if self.kind == "max_kl" else "dB"

    def words(self, score: float) -> str:
        """A score with its name and unit."""
        return f"alpha_kl {score:.4g}" if self.kind == "max_kl" else f"{self.score} margin {score:+.4f} nats"


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


def best(configs: Sequence[Judged], certainty: float) -> Judged | None:
    """The sure config of largest score; the earlier one of a tie. None when no config is sure enough."""
    noise = Noise.pooled(configs)
    scored = [config for config in configs if config.feasible and config.score is not None]
    sure = [config for config in scored if noise.kept(config) >= certainty]
    return max(sure, key=lambda config: config.score or 0.0, default=None)


@dataclass(frozen=True)
class Together:
    """The mean violation of a config by all of them: its t posterior, dB."""

    mean: float
    error: float
    freedom: int


@dataclass(frozen=True)
class Noise:
    """Of seeds: one variance for each violation and for the score, pooled over configs, since two or three seeds know
    little of their own.

    A mean violation then has a t posterior (flat prior). Without two seeds of any config nothing is known, and a mean
    is taken as it is. Of a config by itself it does not know that the best of many was chosen, so a winner's is too
    high. Pooled, it is the posterior that all configs together have of each.
    """

    variances: Mapping[str, float]
    freedom: int
    together: Mapping[str, Mapping[str, "Together"]] = field(default_factory=dict)
    """Constraint -> config -> its mean violation by all configs; by its own seeds where it has none."""

    @classmethod
    def of(cls, configs: Iterable[Judged]) -> "Noise":
        """The noise of these configs; one that was proposed twice has the same seeds, and counts once."""
        distinct = {config.config: config for config in configs}.values()
        known = [(config.n - 1, config.variances) for config in distinct if config.variances is not None]
        freedom = sum(count for count, _ in known)
        names = known[0][1] if known else ()
        return cls({name: sum(n * found[name] for n, found in known) / freedom for name in names}, freedom)

    @classmethod
    def pooled(cls, configs: Sequence[Judged]) -> "Noise":
        """The noise of these configs, and what all that are complete and know what was drawn say of each."""
        noise = cls.of(configs)
        distinct = {one.config: one for one in configs if one.outcome == "complete" and one.violations is not None}
        known = sorted(distinct.values(), key=lambda one: one.config)  # in whichever order they were judged
        places = [one.place for one in known if one.place is not None]
        if not noise.freedom or len(places) < len(known) or len({tuple(sorted(place)) for place in places}) != 1:
            return noise
        points = np.array([[place[name] for name in sorted(place)] for place in places], dtype=float)
        noisy = [name for name, variance in noise.variances.items() if name != SCORE and variance > 0]
        found = {name: noise._together(name, known, points) for name in noisy}
        return replace(noise, together={name: means for name, means in found.items() if means})

    def _together(self, name: str, known: Sequence[Judged], points: np.ndarray) -> dict[str, "Together"]:
        """What all these configs say of each; nothing where they cannot."""
        seeds, least = {one.n for one in known}, known[0].n
        shared = own = self.variances[name]
        if len(seeds) == 1 and least > 1 and len(known) > 1 and not any(one.n_stress for one in known):
            shared, own = components(np.array([(one.by_seed or {})[name] for one in known]))
        means = [(one.violations or {})[name] for one in known]
        found = smoothed(points, means, own / least)
        if found is None:
            return {}
        spread = [(float(mean), float(var), shared / one.n) for mean, var, one in zip(*found, known, strict=True)]
        return {
            one.config: Together(mean, math.sqrt(var + common), _freedom(var, self.freedom, common, one.n - 1))
            for one, (mean, var, common) in zip(known, spread, strict=True)
        }

    @property
    def is_known(self) -> bool:
        """Whether any config had two seeds: without, a constraint is kept by the mean, and nobody knows how surely."""
        return self.freedom > 0

    def kept(self, config: Judged) -> float:
        """Probability that a config keeps every constraint; several share the error (Bonferroni)."""
        from scipy.special import stdtr  # noqa: PLC0415 - whoever reads a goal alone needs no scipy

        missed = 0.0
        for name, violation in (config.violations or {}).items():
            own = Together(violation, self._error(config, name), self.freedom)
            by = self.together.get(name, {}).get(config.config, own)
            missed += float(stdtr(by.freedom, by.mean / by.error)) if by.error else float(by.mean > 0)
        return max(0.0, 1.0 - missed)

    def shortfalls(self, config: Judged, certainty: float) -> dict[str, float]:
        """By how much each constraint is missed at a certainty, dB: what a sampler is told, so that it aims at it."""
        from scipy.special import stdtrit  # noqa: PLC0415

        found = config.violations or {}
        level = 1 - (1 - certainty) / max(1, len(found))
        reach = float(stdtrit(self.freedom, level)) if self.freedom else 0.0
        return {name: violation + reach * self._error(config, name) for name, violation in found.items()}

    def rises(self, name: str, lack: float, left: float) -> float:
        """Probability that a mean over j seeds rises by `lack`, in its own unit, once all n have ended.

        Args:
            left: 1/j - 1/n.
        """
        from scipy.special import stdtr  # noqa: PLC0415

        spread = math.sqrt(self.variances[name] * left)
        return float(stdtr(self.freedom, -lack / spread)) if spread else float(lack <= 0)

    def _error(self, config: Judged, name: str) -> float:
        return math.sqrt(self.variances[name] / config.n) if self.freedom else 0.0


def _freedom(one: float, free: int, two: float, freed: int) -> int:
    """Of the sum of two variances with so many degrees of freedom each, rounded down (Satterthwaite 1946)."""
    total = one + two
    return math.floor(total**2 / (one**2 / free + two**2 / freed) + 1e-9) if total and freed else free


def ranked(configs: Sequence[Judged], certainty: float) -> list[Judged]:
    """The best first: sure ones by falling score, then feasible ones, then misses, the nearest first, then the rest."""
    noise = Noise.pooled(configs)

    def place(config: Judged) -> tuple[bool, float]:
        return noise.kept(config) < certainty, _by_margin(config)

    feasible = sorted((config for config in configs if config.feasible), key=place)
    rest = [config for config in configs if config.outcome != "complete"]
    return [*feasible, *nearest_misses(configs, len(configs)), *rest]


def pareto_front(configs: Iterable[Judged]) -> list[Judged]:
    """Feasible configs that no other feasible one exceeds in both margin and PSNR, by falling margin."""
    feasible = [config for config in configs if config.feasible]
    return sorted((one for one in feasible if not any(_dominates(two, one) for two in feasible)), key=_by_margin)


def hypervolume(configs: Iterable[Judged], worst: tuple[float, float]) -> float:
    """Area of (margin, PSNR) that feasible configs dominate and that lies above `worst`, nats x dB.

    Args:
        worst: (margin, PSNR) that counts as nothing gained; a config below it in either adds nothing.
    """
    area, reached = 0.0, worst[1]
    for config in pareto_front(configs):
        margin, psnr = config.score or 0.0, config.psnr or 0.0
        if margin > worst[0] and psnr > reached:
            area += (margin - worst[0]) * (psnr - reached)
            reached = psnr
    return area


def nearest_misses(configs: Iterable[Judged], count: int = 5) -> list[Judged]:
    """Complete but infeasible configs, the least violated first."""
    missed = [config for config in configs if config.outcome == "complete" and not config.feasible]
    return sorted(missed, key=lambda config: -config.slack)[:count]


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


def _dominates(one: Judged, two: Judged) -> bool:
    first, second = (one.score or 0.0, one.psnr or 0.0), (two.score or 0.0, two.psnr or 0.0)
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def _by_margin(config: Judged) -> float:
    return -(config.score or 0.0)
