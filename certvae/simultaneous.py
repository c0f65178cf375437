"""Makes several claims that hold together share one error probability. Numpy only.

By Holm (Scandinavian Journal of Statistics 6, 1979) where claims stand beside each other, and in a fixed order where
each is only asked once those before it hold.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float


def holm(bounds: Sequence[Callable[[float], float]], delta: float) -> list[float]:
    """Lower bounds whose signs hold together: with probability 1 - delta no margin <= 0 has a positive one (Holm 1979).

    bounds  error probability -> lower bound, which falls with it; one for each claim, fixed before the rows are seen

    Of k claims left each gets delta / k; those that turn out positive leave, and the others share delta anew. The first
    wrong one to leave does so while all wrong ones are there: it had delta / their number at most.
    """
    found, left, before = {}, list(range(len(bounds))), None
    while left != before:
        found |= {claim: bounds[claim](delta / len(left)) for claim in left}
        before, left = left, [claim for claim in left if not found[claim] > 0]
    return [found[claim] for claim in range(len(bounds))]


def in_sequence(evidence: Float[np.ndarray, " j"], delta: float) -> int:
    """Claims that hold together, in an order fixed before the rows were seen: all before the first that fails.

    evidence  logarithms of e-values, in that order. Each is held against the whole delta: the first wrong one ends it.
    """
    return int(np.append(evidence >= -math.log(delta), False).argmin())
