"""Near-collapse drift: how likely is it that a margin near 0 reaches it (arXiv 2605.05813, near-collapse dynamics)?

The paper claims that a drift away from 0 makes it unlikely, and prints no formula; this is the one that follows for

    dG = m dt + s dW,  m >= m0 > 0:      P(G ever reaches 0) <= exp(-2 m0 G(0) / s^2)

It is a local statement: it says what a drift and a noise would do if they stayed as they are, which nobody knows.

    G  margin, nats        m0  drift, nats per unit of time        s  noise, nats per square root of it
"""

import math
import statistics
from collections.abc import Sequence

FEWEST = 3  # increments that a drift is estimated from


def hitting_bound(drift: float, noise: float, margin: float) -> float:
    """exp(-2 m0 G / s^2); 1, which says nothing, where there is no drift away from 0 or no margin left."""
    return math.exp(-2 * drift * margin / noise**2) if drift > 0 and margin > 0 else 1.0


def estimated(increments: Sequence[float]) -> tuple[float, float] | None:
    """Drift and noise per increment of a margin; None of fewer than three, or of equal ones."""
    if len(increments) < FEWEST or (noise := statistics.stdev(increments)) == 0:
        return None
    return statistics.fmean(increments), noise


def risk(increments: Sequence[float], margin: float) -> float | None:
    """`hitting_bound` with drift and noise of these increments of the margin; None where they are not known."""
    found = estimated(increments)
    return None if found is None else hitting_bound(*found, margin)
