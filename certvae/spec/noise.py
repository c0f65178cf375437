"""How surely a config keeps its constraints, given the noise of its seeds.

Seeds are noise, and the luckiest of many configs is the one whose noise hid a violation: so the mean of each is judged
by what all configs together say of it, see `spec.pooled`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from certvae.spec.judged import SCORE, Judged
from certvae.spec.pooled import components, smoothed

NO_NOISE = "by the mean alone, as single seeds know no noise"
"""How surely a constraint is kept, in words, where no config has two seeds."""


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
