"""Three questions about a trained network, and the words of their answers: views on the numbers of a row.

    head      does the head that was trained follow the teacher?          certified | not certified
    mean      does mu(x) vary with x in a way that matters?               varies | below the noise | not shown
    channel   does z, as it is drawn, carry information about x?          alive | dead | open
    units     how many of its units do, at least?                         a number that is certified

Each rests on a lower bound in nats at the confidence of the row: of the raw head on means, of an affine head fitted to
means, of an affine head fitted to draws. `dead` rests on the KL rate, which is a ceiling of what a channel can carry
(arXiv 2605.05813, Theorem 1 with the bound of the rate). A network is called collapsed when its channel is dead, and
never otherwise: "not certified" is said of a head.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

NO_RESPONSE = 1e-6  # nats: what a step of Adam moves where nothing but rounding is left
DEAD_RATE = 0.05  # nats: a KL rate below it carries nothing that a study could use
Head = Literal["certified", "not certified"]
Mean = Literal["varies", "below the noise", "not shown"]
Channel = Literal["alive", "dead", "open"]
Row = Mapping[str, Any]


def head(row: Row) -> Head | None:
    """Whether the raw head is certified in the population; None for a row without a bound."""
    bound = _number(row, "population_bound")
    return None if bound is None else "certified" if bound > 0 else "not certified"


def channel(row: Row) -> Channel | None:
    """Whether draws carry information: shown by the better of two heads that read draws, or excluded by the KL rate."""
    bound, rate = drawn_bound(row), _number(row, "kl_rate")
    if bound is not None and bound > 0:
        return "alive"
    if rate is not None and rate < DEAD_RATE:
        return "dead"
    return None if rate is None and bound is None else "open"


def drawn_bound(row: Row) -> float | None:
    """The better lower bound of the two heads that read draws, nats; None for a row without one."""
    bounds = [_number(row, name) for name in ("sampled_affine_population_bound", "sampled_population_bound")]
    return max((bound for bound in bounds if bound is not None), default=None)


def held_bound(row: Row) -> float | None:
    """Positive exactly where the channel is alive and the head certified, nats; None where a bound is missing."""
    bounds = (drawn_bound(row), _number(row, "population_bound"))
    return None if None in bounds else min(bound for bound in bounds if bound is not None)


def mean(row: Row) -> Mean | None:
    """Whether the means vary: shown by a fitted affine head, and then held against the noise of the posterior.

    They vary above the noise when the spread that the margin and the gain of the head enforce exceeds the posterior's
    own standard deviation, or when the draws, which carry that noise, are shown to carry information all the same.
    Where nobody knows the noise, or the gain, neither is shown.
    """
    bound = _number(row, "affine_population_bound")
    if bound is None:
        return None
    spread, noise = spread_bound(row), _number(row, "posterior_std")
    if bound > 0 and channel(row) == "alive":
        return "varies"
    if bound <= 0 or noise is None or spread is None:
        return "not shown"
    return "varies" if spread >= noise else "below the noise"


def units(row: Row) -> str | None:
    """How many units say something of the teacher, in words; None for a row that nobody counted."""
    found, there = row.get("certified_units"), row.get("latent_units")
    if found is None or there is None:
        return None
    return (
        f"at least {found} of {there} certified, {there - found} not shown" if found else f"none of {there} certified"
    )


def spread_bound(row: Row) -> float | None:
    """A lower bound of E ||mu - m|| over all fixed m: margin / (sqrt 2 gain) of the affine head on means.

    The gradient of a KL in its logits has a norm of at most sqrt 2, so a head of gain Lam needs that spread for its
    margin. None where no affine head was fitted.
    """
    margin, gain = _number(row, "affine_margin"), _number(row, "affine_gain")
    return None if margin is None or not gain else max(0.0, margin) / (math.sqrt(2) * gain)


def collapsed(row: Row) -> bool:
    """Only a dead channel is a collapse."""
    return channel(row) == "dead"


def awakens(row: Row) -> bool | None:
    """Whether alignment was expected to wake the dead channel that it began with; None where it began with another.

    It must pull at the network, and have the weight that the forecast asks for.
    """
    response, largest, critical = (_number(row, name) for name in ("response", "largest_weight", "critical_weight"))
    if response is None or largest is None:
        return None
    return response > NO_RESPONSE and critical is not None and critical <= largest


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return None if value is None or not math.isfinite(value) else float(value)
