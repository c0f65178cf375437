"""Judges what a monitor has seen of a network, and of where it is heading, as findings with a remedy.

    row   the numbers of one look, named as in rows of a study      history   the looks before it, oldest first

The words are those of `certvae.answers`. Guard rows are looked at again and again, so their bounds are descriptive: a
finding is advice for whoever trains, and no claim.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from certvae import answers
from certvae.evaluation.forecast import Forecast

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
TREND = 4  # looks that a trend is read from, and that a network gets to come to life
RISES = 1.1  # a KL rate that has grown by this factor since then is on its way up
AHEAD = 1.0  # a boundary is warned of when the trend reaches it within so many times the steps that it was read from
CONSTANT = 1e-4  # standard deviation of a unit over images, below which an embedding does not vary
COLLAPSE = "arXiv 2605.05813, Theorem 1, and the KL rate as a ceiling"
LINEAR = "arXiv 2510.01621 (threshold of the KL weight)"
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Advice for whoever trains: severity, reason, number, remedy and reference.

    number  of the quantity that decided, in its own unit; None where that is not finite
    """

    severity: Severity
    reason: str
    quantity: str
    number: float | None
    remedy: str
    reference: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.reason}; {self.remedy} ({self.reference})"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look: its numbers, and what they mean.

    step  of training, counted by the monitor
    """

    step: int
    row: Row
    findings: tuple[Finding, ...] = ()

    @property
    def mean(self) -> answers.Mean | None:
        """Whether posterior means, or the embedding, vary with the image."""
        return answers.mean(self.row)

    @property
    def channel(self) -> answers.Channel | None:
        """Whether draws carry information; None without logvar."""
        return answers.channel(self.row)

    @property
    def head(self) -> answers.Head | None:
        """Whether a head of the user's own follows the teacher; None without logits."""
        return answers.head(self.row)

    @property
    def numbers(self) -> dict[str, float]:
        """All finite numbers as `certvae/<name>`, and the step: what a logger takes."""
        severity = max((1 + SEVERITIES.index(one.severity) for one in self.findings), default=0)
        known = {**self.row, "severity": severity}
        return {
            f"certvae/{name}": float(value)
            for name, value in known.items()
            if value is not None and math.isfinite(value)
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        words = {"head": self.head, "mean": self.mean, "channel": self.channel}
        numbers = {name: value if value is None or math.isfinite(value) else None for name, value in self.row.items()}
        return {"step": self.step, **words, "numbers": numbers, "findings": [asdict(one) for one in self.findings]}

    def __str__(self) -> str:
        words = {"head": self.head, "mean": self.mean, "channel": self.channel}
        said = ", ".join(f"{level} {word}" for level, word in words.items() if word)
        shown = {"margin": "margin", "affine_margin": "fair margin", "kl_rate": "KL"}
        numbers = (f"{label} {self.row[name]:+.3f}" for name, label in shown.items() if self.row.get(name) is not None)
        if self.row.get("finite") == 0.0:
            return f"step {self.step}: not finite"
        return f"step {self.step}: {said or 'nothing to say yet'}; {', '.join(numbers)} nats"


def findings(row: Row, history: Sequence[Observation], step: int) -> tuple[Finding, ...]:
    """What one look says, the most severe first."""
    if row.get("finite") == 0.0:
        return (_not_finite(),)
    states = [replace(one, severity="note") for one in _states(row)] if _begins(row, history) else _states(row)
    found = [*states, *_trends(row, history, step)]
    return tuple(sorted(found, key=lambda one: -SEVERITIES.index(one.severity)))


def expected(forecast: Forecast, kl_weight: float) -> Finding:
    """Forecasts, before training, how many units live at a KL weight, and up to which weight any does."""
    units, crit = forecast.units(kl_weight), f"{forecast.alpha_crit:.3g}"
    alive = f"units expected at the KL weight {kl_weight:g}: {units}, none from {crit} on"
    stay = f"stay below {forecast.alpha_dead:.3g}, from where on a channel carries less than 0.05 nats"
    dead = f"a dead code is expected: the KL weight {kl_weight:g} is past {crit}"
    leave = f"take a KL weight below {crit}, a smaller observation variance, or align the code"
    return Finding(
        severity="note" if units else "warning",
        reason=alive if units else dead,
        quantity="alpha_crit",
        number=forecast.alpha_crit,
        remedy=stay if units else leave,
        reference=LINEAR,
    )


def _begins(row: Row, history: Sequence[Observation]) -> bool:
    """Whether the network has not come to life yet, and may: a state of its start is no alarm."""
    before, now = (one.get("kl_rate") for one in (history[-TREND].row if len(history) >= TREND else {}, row))
    rises = before is not None and now is not None and now > RISES * before
    return (rises or len(history) < TREND) and not any(one.mean == "varies" for one in history)


def _states(row: Row) -> Iterator[Finding]:
    mean, rate = answers.mean(row), row.get("kl_rate")
    match answers.channel(row), mean:
        case "dead", _:
            yield Finding(
                severity="error",
                reason=f"the channel is dead: draws carry at most {rate:.3g} nats",
                quantity="kl_rate",
                number=rate,
                remedy="lower the KL weight or raise it from 0, and go on from an earlier checkpoint",
                reference=COLLAPSE,
            )
        case _, "not shown":
            yield _not_shown(row)
        case _, "below the noise":
            yield Finding(
                severity="warning",
                reason="latents vary by less than the posterior noise, and draws are not shown to carry information",
                quantity="posterior_std",
                number=row.get("posterior_std"),
                remedy="lower the KL weight before the channel is dead",
                reference="arXiv 2605.05813, Theorem 1, graded by the gain of the head",
            )
    if (least := row.get("least_logvar")) is not None and least > 0:
        yield Finding(
            severity="warning",
            reason="every posterior is wider than its prior, in each unit",
            quantity="least_logvar",
            number=least,
            remedy="give the logarithm of the variance, 2 * scale.log(), or q(z|x) as a normal distribution, if this "
            "is a scale or a variance; else wait if training has just begun",
            reference="arXiv 1911.02469: those of a linear VAE are never wider",
        )
    if answers.head(row) == "not certified" and mean == "varies":
        yield Finding(
            severity="note",
            reason="the head does not follow the teacher, and the latent that it reads varies",
            quantity="margin",
            number=row.get("margin"),
            remedy="train the head longer, or align it (head_only); nothing is wrong with the latent",
            reference="arXiv 2605.05813, Theorem 1",
        )


def _not_shown(row: Row) -> Finding:
    spread = row["largest_std"]
    constant = spread < CONSTANT
    said = "the latent is constant" if constant else "no affine head on the latent follows the teacher"
    return Finding(
        severity="error" if constant else "warning",
        reason=f"{said}: the unit that varies most has a standard deviation of {spread:.3g} over images",
        quantity="largest_std",
        number=spread,
        remedy="lower the weight that pulls codes together, or go on from an earlier checkpoint"
        if constant
        else "wait if training has just begun; else take a teacher on features that this latent should know",
        reference=COLLAPSE,
    )


def _not_finite() -> Finding:
    return Finding(
        severity="error",
        reason="latents, their variance, or logits are not finite",
        quantity="finite",
        number=None,
        remedy="lower the learning rate, or clip gradients",
        reference="the network has diverged",
    )


def _trends(row: Row, history: Sequence[Observation], step: int) -> Iterator[Finding]:
    """A boundary that has not been crossed, and will be if the last looks go on as they did."""
    boundaries: tuple[tuple[str, str, float, Callable[[float], float]], ...] = (
        ("affine_population_bound", "the margin of a fair head", 0.0, float),
        ("sampled_affine_population_bound", "the margin on draws", 0.0, float),
        ("kl_rate", "the KL rate", answers.DEAD_RATE, math.log),
    )
    for name, label, boundary, scale in boundaries:
        seen = [(one.step, one.row.get(name)) for one in history[1 - TREND :]] + [(step, row.get(name))]
        known = [(at, value) for at, value in seen if value is not None and value > boundary]
        heights = [scale(value) - (scale(boundary) if boundary else 0.0) for _, value in known]
        left = _steps_left([at for at, _ in known], heights) if len(known) == TREND else math.inf
        if left <= AHEAD * (known[-1][0] - known[0][0] if known else 0):
            yield Finding(
                severity="warning",
                reason=f"{label} falls, and reaches {boundary:g} nats in about {left:.0f} steps",
                quantity=name,
                number=row[name],
                remedy="lower the KL weight now, or stop and keep this checkpoint",
                reference="the trend of the last looks",
            )


def _steps_left(at: Sequence[int], heights: Sequence[float]) -> float:
    """Until a straight line through these heights reaches 0; infinite where it does not fall."""
    away = np.array(at) - np.mean(at)
    slope = float(away @ np.array(heights) / max(away @ away, 1.0))
    return heights[-1] / -slope if slope < 0 and heights[-1] < heights[0] else math.inf
