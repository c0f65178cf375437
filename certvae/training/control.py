"""Decides the weights of the loss for every controller, from what it carried over and what it read.

    G_tau = I_T - L_TS - tau             of the guard rows, z = mu, nats
    g_a, g_b                             gradients of L_TS, and of all other losses as they are weighed
    dG/dt = <g_a, g_b> + lambda ||g_a||^2    along the flow of arXiv 2605.05813, guarded dynamics

So `lambda > -<g_a, g_b> / ||g_a||^2`, the critical weight, makes the margin grow. Adam moves along P g with P = 1 /
(sqrt(v) + eps): products that decide are taken under this metric, and those under the Euclidean one are recorded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from certvae.errors import NumberFault
from certvae.spec.control import Alternate, Barrier, Control, Fixed, Guard, Rollback, Staged, StudentFirst

NO_FORCE = 1e-8  # ||g_a|| below it: no alignment weight moves anything


class State(IntEnum):
    """Where the margin of the guard rows stands; numbers because they are drawn as a curve."""

    SAFE = 0
    WARN = 1
    BREACH = 2


@dataclass(frozen=True)
class Force:
    """What the loss uses: the alignment weight, and shares of L_rec + alpha_kl L_KL and of lambda_bal L_bal."""

    lambda_ts: float
    vae: float = 1.0
    student: float = 1.0


@dataclass(frozen=True)
class Slopes:
    """Products of g_a and g_b over the parameters of encoder and head; `metric_*` under that of the optimiser.

    share   of the losses behind g_b that was in force when it was taken
    """

    alignment: float
    base: float
    product: float
    metric_alignment: float
    metric_product: float
    share: float = 1.0

    @property
    def is_still(self) -> bool:
        """Whether the gradient of the alignment is zero, so that no weight of it helps."""
        return math.sqrt(self.alignment) < NO_FORCE

    @property
    def critical(self) -> float | None:
        """The alignment weight at which the margin stands still under the whole of the other losses."""
        if self.is_still or self.share <= 0 or self.metric_alignment <= 0:
            return None
        return -self.metric_product / self.share / self.metric_alignment


@dataclass(frozen=True)
class Reading:
    """What a controller reads before a decision.

    margin   G_tau of the guard rows, nats         slopes   None before the first step
    epoch    epochs that are done, a whole number at the end of one
    """

    margin: float
    slopes: Slopes | None
    epoch: float


@dataclass(frozen=True)
class Memory:
    """What is carried from one decision to the next.

    floor     alignment weight of SAFE             accepted   margin of the newest state to go back to
    rate      share of the learning rate in force  again      rollbacks since a state was accepted
    waited    decisions in the strip since it was entered, or since the floor last grew
    """

    force: Force
    floor: float
    state: State = State.SAFE
    breaches: int = 0
    waited: int = 0
    accepted: float | None = None
    rate: float = 1.0
    rollbacks: int = 0
    again: int = 0
    is_still: bool = False

    @staticmethod
    def of(facts: Mapping[str, Any]) -> "Memory":
        """The inverse of `asdict`."""
        return Memory(**{**facts, "force": Force(**facts["force"]), "state": State(facts["state"])})


def cbf_weight(
    margin: float, product: float, alignment: float, *, kappa: float, least: float, most: float
) -> tuple[float, bool]:
    """clip((-kappa G - <g_a, g_b>) / ||g_a||^2, least, most), and whether the alignment pulls at nothing.

    Args:
        kappa: per unit of flow time.
        alignment: ||g_a||^2.
    """
    if math.sqrt(max(alignment, 0.0)) < NO_FORCE:
        return most, True
    return min(max((-kappa * margin - product) / alignment, least), most), False


def barrier(margin: float, rho: float) -> float:
    """-rho log G_tau, nats; infinite where G_tau <= 0."""
    return -rho * math.log(margin) if margin > 0 else math.inf


def state_of(margin: float, gamma: float) -> State:
    """SAFE above gamma, BREACH at 0 and below, WARN between."""
    if margin > gamma:
        return State.SAFE
    return State.WARN if margin > 0 else State.BREACH


def decide(control: Control, lambda_ts: float, epoch_time: float, memory: Memory, reading: Reading) -> Memory:
    """The force until the next decision. Pure: the same memory and reading give the same decision.

    Args:
        lambda_ts: alignment weight of the objective.
        epoch_time: flow time of an epoch, learning rate times steps.
    """
    state = state_of(reading.margin, control.gamma)
    still = reading.slopes is not None and reading.slopes.is_still
    seen = replace(memory, state=state, is_still=still)
    match control:
        case Fixed():
            return replace(seen, force=Force(lambda_ts))
        case Guard():
            return _guarded(control, epoch_time, memory, seen, reading)
        case StudentFirst(lambda_max=most, base=base):
            leads = reading.margin < 0
            return replace(seen, force=Force(most, base, base) if leads else Force(lambda_ts))
        case Rollback():
            return _tentative(control, lambda_ts, seen, reading)
        case Barrier(rho=rho, lambda_max=most):
            weight = lambda_ts + rho / reading.margin if reading.margin > 0 else most
            return replace(seen, force=Force(min(weight, most)))
        case Alternate(student_epochs=student, vae_epochs=vae):
            leads = math.floor(reading.epoch) % (student + vae) < student
            return replace(seen, force=Force(lambda_ts, vae=0.0) if leads else Force(0.0, student=0.0))
        case Staged(student_epochs=student):
            return replace(seen, force=Force(lambda_ts, vae=float(reading.epoch >= student)))


def _guarded(control: Guard, epoch_time: float, before: Memory, seen: Memory, reading: Reading) -> Memory:
    """A breach lasts until the margin has left the strip."""
    sank = before.state is State.SAFE and seen.state is not State.SAFE and reading.slopes is not None
    waited = before.waited + 1 if before.state is seen.state is State.WARN else 0
    failed = sank or waited == control.patience
    floor = min(before.floor * control.growth, control.lambda_max) if failed else before.floor
    seen = replace(seen, floor=floor, waited=0 if failed else waited)
    if seen.state is State.BREACH or (before.state is State.BREACH and seen.state is State.WARN):
        breaches = before.breaches + (before.state is not State.BREACH)
        force = Force(control.lambda_max, control.base, control.base)
        return replace(seen, state=State.BREACH, force=force, breaches=breaches)
    if seen.state is State.SAFE or reading.slopes is None:
        return replace(seen, force=Force(floor))
    slopes = reading.slopes
    if slopes.is_still:
        return replace(seen, force=Force(control.lambda_max))
    given = (reading.margin, slopes.metric_product / slopes.share, slopes.metric_alignment)
    bounds = {"kappa": control.kappa / epoch_time, "least": floor, "most": control.lambda_max}
    return replace(seen, force=Force(cbf_weight(*given, **bounds)[0]))


def _tentative(control: Rollback, lambda_ts: float, seen: Memory, reading: Reading) -> Memory:
    """Accepts the stretch since the last decision, or counts a rollback: whoever holds the states acts on it."""
    kept = seen.accepted
    lost = kept is not None and kept - reading.margin > control.xi and reading.margin < control.gamma
    if lost and seen.rollbacks < control.most:
        counted = {"rollbacks": seen.rollbacks + 1, "again": seen.again + 1, "rate": seen.rate / 2}
        return replace(seen, force=Force(lambda_ts), **counted)
    return replace(seen, force=Force(lambda_ts), accepted=reading.margin, again=0)


def check_start(control: Control, margin: float) -> None:
    """Refuses the start of a barrier where it is infinite.

    Raises:
        NumberFault: the start of a barrier is not feasible.
    """
    if isinstance(control, Barrier) and not barrier(margin, control.rho) < math.inf:
        raise NumberFault(
            f"a barrier needs G_tau > 0 at its start, got {margin:+.4f} nats on the guard rows",
            "begin with student_first or guard, which need no feasible start, or give a smaller tau",
            where="Barrier",
            cause=f"the start lacks {-margin:.4f} nats of margin: the barrier is infinite there",
        )
