"""Racing: the seeds of a config run one after the other, and what is left is dropped once it can hardly win.

After j of n seeds the mean over all n is predicted: it lies around the mean so far as s t sqrt(1/j - 1/n), with s
squared the variance over seeds, pooled over configs 0..k-lag, and t Student's with its degrees of freedom: the noise
model by which a winner is chosen (`spec.goal.Noise`). A config is dropped when one of these is too improbable:

    kept    each constraint is kept at the goal's certainty once all seeds have ended
    better  the score exceeds that of the best of the configs 0..k-lag

Too improbable is (1 - confidence) / (looks x conditions): all looks at a config together drop what would have won with
a probability of at most 1 - confidence, if noise is normal and alike everywhere. The mean of margins stands for the
score: no worst one, and no mean minus an error, exceeds it. The rule of config k is made of configs 0..k-lag, like the
config itself, and its seeds are looked at in their order, so a search can be replayed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from certvae.canonical import plain
from certvae.spec.goal import Goal
from certvae.spec.judged import SCORE, Judged
from certvae.spec.noise import Noise
from certvae.spec.ranking import best


@dataclass(frozen=True)
class Race:
    """What the seeds of one config are held against."""

    goal: Goal
    confidence: float
    seeds: int
    """How many a config has."""
    best: float | None
    """Score to exceed; none where nothing is sure yet, or two objectives have no best one."""
    noise: Noise

    def hopeless(self, judged: Judged) -> str:
        """Why a config of which some seeds have ended can hardly win; empty while it may.

        Args:
            judged: its first seeds, `n` of them strict-feasible, by their mean margin.
        """
        whole = self.seeds - judged.n_stress
        missed = self.noise.shortfalls(replace(judged, n=whole), self.goal.certainty)
        lacks = {name: (f"that {name} is kept at {self.goal.certainty:.0%}", lack) for name, lack in missed.items()}
        if self.best is not None and judged.score is not None:
            lacks[SCORE] = (f"of more than {self.best:+.4g}", self.best - judged.score)
        least = (1 - self.confidence) / (self.seeds - 1) / max(1, len(lacks))
        for name, (what, lack) in lacks.items():
            chance = self.noise.rises(name, lack, 1 / judged.n - 1 / whole)
            if chance < least:
                return f"the probability {what} after all seeds is {chance:.2g}, and {least:.2g} is asked for"
        return ""

    def body(self) -> dict[str, Any]:
        """As a part of a document of the store."""
        return plain(asdict(self))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Race":
        return cls(**{**body, "goal": Goal(**body["goal"]), "noise": Noise(**body["noise"])})


def entered(goal: Goal, confidence: float, seeds: int, earlier: Sequence[Judged]) -> Race | None:
    """The rule for the next config; None while no two seeds of any config have ended.

    Args:
        confidence: that nothing that would have won is dropped, in (0, 1).
        earlier: configs that were told.
    """
    noise, leader = Noise.of(earlier), None if goal.pareto else best(earlier, goal.certainty)
    return Race(goal, confidence, seeds, leader and leader.score, noise) if noise.freedom else None
