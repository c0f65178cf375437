"""How many units of a latent say something of the teacher: nested affine heads on draws, tested in a fixed order.

Units stand in the order of their KL on train rows, largest first. Head j reads draws of the first j and goes on from
where head j - 1 ended. Unit j counts when, on certify rows, head j has less loss than head j - 1, and less than itself
with unit j held at its train mean. The first unit that fails ends the count, so each test has the whole delta
(fixed-sequence testing): with probability 1 - delta no unit is counted that fails in the population.

The second test is there because head j is also fitted for longer. A unit that is independent of the teacher and of
earlier units fails it by Jensen, whatever the fit: a log-softmax is concave in logits (and eta is small). A copy of
earlier units fails the first. "At least": units that need one another, or stand behind one that fails, are not seen.

    z (n, d)  draws of q(z|x)      T (n, K)  teacher rows      order (d,)  units, that of the largest KL first
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from certvae.certificate import Pairs, improvement
from certvae.evaluation.diagnostics import Passage
from certvae.evaluation.heads import AffineHead, Latents, Rows, affine_head, constant_head
from certvae.simultaneous import in_sequence

FIT_ROWS = 10_000  # train rows that a head is fitted to: with all rows of a large data set a wide latent takes minutes
Order = Int64[np.ndarray, " d"]


@dataclass(frozen=True)
class Drawn:
    """Draws and teacher rows of one split."""

    z: Latents
    T: Rows

    def thinned(self, rows: int) -> "Drawn":
        """Every k-th row, so many at most."""
        step = -(-len(self.z) // rows)
        return Drawn(self.z[::step], self.T[::step])

    def in_order(self, units: Order) -> "Drawn":
        """The same with these units first to last."""
        return Drawn(self.z[:, units], self.T)

    def pairs(self, head: AffineHead) -> Pairs:
        """Teacher rows and what a head says that reads the first units."""
        logits = head.logits(self.z[:, : head.weight.shape[1]])
        return Pairs.from_logits(self.T, logits, split="certify", view="sampled")


def by_rate(seen: Passage) -> Order:
    """Units in the order of their mean KL to the prior on these rows, largest first."""
    mu, logvar = seen.mu.astype(np.float64), seen.logvar.astype(np.float64)
    return np.argsort(-(mu**2 + np.exp(logvar) - 1 - logvar).mean(axis=0), kind="stable")


def evidence(
    order: Order, train: Drawn, guard: Drawn, held: Drawn, *, largest_delta: float, device: str = "cpu"
) -> Float[np.ndarray, " j"]:
    """The logarithm of the evidence for each unit in order, for `in_sequence`; the last may be the first that fails.

    Args:
        train, guard: draws that heads are fitted to, and stopped by.
        held: draws of certify rows.
        largest_delta: of those at which units will be counted.
    """
    found = []
    held = held.in_order(order)
    for heads in _nested(train.thinned(FIT_ROWS).in_order(order), guard.in_order(order), device):
        with_it, without, idle = map(held.pairs, heads)
        found.append(min(improvement(with_it, without), improvement(with_it, idle)))
        if in_sequence(np.array(found), largest_delta) < len(found):
            break
    return np.array(found)


def _nested(train: Drawn, guard: Drawn, device: str) -> Iterator[tuple[AffineHead, AffineHead, AffineHead]]:
    """For each unit: the head that reads it, the one before, and the former with the unit at its train mean."""
    head, centre = constant_head(train.T, 0), train.z.mean(axis=0, dtype=np.float64)
    for j in range(1, train.z.shape[1] + 1):
        before = AffineHead(np.pad(head.weight, ((0, 0), (0, 1))), head.bias)
        head = affine_head(train.z[:, :j], train.T, guard.z[:, :j], guard.T, device, start=before)
        still = head.bias + centre[j - 1] * head.weight[:, -1]
        yield head, before, AffineHead(head.weight * (np.arange(j) < j - 1), still)
