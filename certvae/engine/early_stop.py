"""Early stop: a cell whose config can no longer become feasible, or better than the best, is censored halfway.

Halfway through the searched mode a cell shows a guard margin and a guard PSNR. What they may still become is learned
from earlier configs of the same search: R = final value of a config minus the halfway value of its least promising
cell, where the value is the score, or the slack of a constraint. If the configs are exchangeable, the R of the next
one exceeds the k-th smallest of m with probability at most 1 - k / (m + 1). So halfway value plus that R is an upper
confidence bound of what the config can reach, whichever of its cells is looked at (split conformal prediction).

The confidence is shared between the quantities. It is nominal: a sampler adapts, and a censored config leaves no R.
The rule of config k is made of configs 0..k-lag, like the config itself, so a search can be replayed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from certvae.canonical import plain
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged
from certvae.spec.parts import Training
from certvae.spec.ranking import best
from certvae.store.artifact import Artifact

Quantity = Literal["score", "psnr_drop", "psnr_floor", "channel"]
NAMES: dict[Quantity, str] = {
    "score": "the score (nats)",
    "psnr_drop": "the slack of psnr_drop (dB)",
    "psnr_floor": "the slack of psnr_floor (dB)",
    "channel": "the least bound (nats)",
}
Point = Mapping[str, Any]
"""One report point of a curve: epoch, guard_margin, guard_psnr_01 and more; a number that is missing is None."""


class Censored(Exception):
    """This cell was ended because its config cannot reach what it must."""


@dataclass(frozen=True)
class Halfway:
    """What a cell shows halfway through training: guard margin (nats), guard PSNR and that of the reference (dB)."""

    margin: float | None
    psnr: float | None
    reference_psnr: float | None

    def value(self, quantity: Quantity, goal: Goal) -> float | None:
        """The quantity as it would be if nothing changed any more; None when a number is missing."""
        if quantity == "score":
            return self.margin
        if self.psnr is None:
            return None
        if quantity == "psnr_drop" and goal.psnr_drop is not None and self.reference_psnr is not None:
            return goal.psnr_drop + self.psnr - self.reference_psnr
        return self.psnr - goal.psnr_floor if quantity == "psnr_floor" and goal.psnr_floor is not None else None


@dataclass(frozen=True)
class Need:
    """A config must reach `wanted`, and earlier ones added at most `gain` to what they showed halfway."""

    quantity: Quantity
    wanted: float
    gain: float


@dataclass(frozen=True)
class StopRule:
    """The test that ends hopeless cells of one config, applied at one report point of one mode."""

    goal: Goal
    epoch: int
    confidence: float
    configs: int
    """So many earlier configs the rule was learned from."""
    needs: tuple[Need, ...]

    def check(self, halfway: Halfway) -> None:
        """Applies the rule to what a cell shows halfway.

        Raises:
            Censored: an upper bound lies below what is wanted.
        """
        for need in self.needs:
            now = halfway.value(need.quantity, self.goal)
            if now is not None and now + need.gain < need.wanted:
                raise Censored(
                    f"{NAMES[need.quantity]} can reach {now + need.gain:+.4g} at most, {need.wanted:+.4g} is needed "
                    f"({self.goal.mode} epoch {self.epoch}: {now:+.4g}; confidence {self.confidence:g}, "
                    f"{self.configs} earlier configs)"
                )

    def body(self) -> dict[str, Any]:
        """As a part of a document of the store."""
        return plain(asdict(self))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "StopRule":
        needs = tuple(Need(**need) for need in body["needs"])
        return cls(Goal(**body["goal"]), body["epoch"], body["confidence"], body["configs"], needs)


class Censor:
    """Follows one cell, live and along what is published, and holds it against a rule at the rule's report point."""

    def __init__(self, rule: StopRule | None):
        self._rule = rule
        self._at = ""
        self._reference_psnr: float | None = None

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the running cell: a step begins, or training says how far it is.

        Raises:
            Censored: see `StopRule.check`.
        """
        if "at" in event:
            self._at = event["at"]
        elif "guard_psnr_01" in event:
            self._point(self._at, event)

    def published(self, step: str, artifact: Artifact) -> None:
        """The whole curve of a step: what is decided must not depend on who computed it, or when.

        Raises:
            Censored: see `StopRule.check`.
        """
        if self._rule is not None and step in (self._rule.goal.mode, self._rule.goal.reference):
            for point in artifact.facts.get("curve", ()):
                self._point(step, point)

    def _point(self, step: str, point: Point) -> None:
        rule = self._rule
        if rule is None:
            return
        if step == rule.goal.reference:
            self._reference_psnr = point.get("guard_psnr_01")
        if step == rule.goal.mode and point["epoch"] == rule.epoch:
            rule.check(Halfway(point.get("guard_margin"), point.get("guard_psnr_01"), self._reference_psnr))


def halfway_epoch(schedule: Training) -> int | None:
    """The last report point in the first half of a mode's training; None when it has none there."""
    return schedule.epochs // 2 // schedule.report_every * schedule.report_every or None


def learn(
    goal: Goal, confidence: float, epoch: int, earlier: Sequence[tuple[Judged, Sequence[Halfway]]]
) -> StopRule | None:
    """The rule for the next config, or None while too few configs have ended to bound anything.

    Args:
        confidence: of all bounds together, in (0, 1).
        earlier: configs that were told, with the halfway values of all their cells; one that was proposed twice has the
            same cells, and counts once.
    """
    distinct = {judged.config: (judged, cells) for judged, cells in earlier if judged.outcome == "complete"}
    complete = [*distinct.values()]
    wanted: dict[Quantity, float] = dict.fromkeys(goal.constraints, 0.0)
    if (best := _best_score(goal, [judged for judged, _ in complete])) is not None:
        wanted["score"] = best
    miss = (1 - confidence) / max(1, len(wanted))
    needs = []
    for quantity, reach in wanted.items():
        gain = upper_quantile([_rest(quantity, goal, judged, cells) for judged, cells in complete], miss)
        if math.isfinite(gain):
            needs.append(Need(quantity, reach, gain))
    return StopRule(goal, epoch, confidence, len(complete), tuple(needs)) if needs else None


def upper_quantile(found: Sequence[float], miss: float) -> float:
    """The smallest value that the next exchangeable one exceeds with probability at most `miss`; inf if none does."""
    rank = math.ceil((len(found) + 1) * (1 - miss) - 1e-9)
    return sorted(found)[rank - 1] if rank <= len(found) else math.inf


def _best_score(goal: Goal, judged: Sequence[Judged]) -> float | None:
    """A second objective has no best score: a config with a smaller margin may still lie on the front."""
    found = best(judged, goal.certainty)
    return None if goal.pareto or found is None else found.score


def _rest(quantity: Quantity, goal: Goal, judged: Judged, cells: Sequence[Halfway]) -> float:
    """What a config ended with above its least promising cell; inf when a cell shows no number."""
    final = judged.score if quantity == "score" else -(judged.violations or {}).get(quantity, -math.inf)
    shown = [cell.value(quantity, goal) for cell in cells]
    known = [value for value in shown if value is not None]
    return math.inf if final is None or not known or len(known) < len(shown) else final - min(known)
