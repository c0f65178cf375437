"""Who sets the weights of the objective while a mode trains: by the margin of the guard rows, never by certify.

Every controller reads G_tau = I_T - L_TS - tau of the guard rows (nats) every so many steps and names its state:

    SAFE    G_tau > gamma       WARN    0 < G_tau <= gamma       BREACH    G_tau <= 0

Schedules and the barrier are named by arXiv 2605.05813 (appendices on guarded dynamics and schedules), which prints no
numbers: bounds, defaults and laws are this project's.
"""

from typing import Annotated, Literal, get_args

from annotated_types import Ge

from certvae.spec.parts import Count, CountOrNone, Positive, ProperShare, Weight
from certvae.spec.validation import refuse, spec


@spec
class Watching:
    """What every controller has: the margin that it holds, and how often it looks."""

    tau: Weight = 0.10
    """Safety buffer, nats."""
    gamma: Positive = 0.10
    """Width of the WARN strip, nats."""
    every: Count | None = None
    """Steps between two decisions, counted in each epoch; an epoch when absent."""


@spec
class Fixed(Watching):
    """The objective's own weights throughout; what the others would read is recorded."""


@spec
class Guard(Watching):
    """A control barrier function: alignment weighs as much as keeps the margin from falling faster than kappa G_tau.

    SAFE uses the floor, WARN the weight of the barrier, BREACH lambda_max with the other losses cut down, until G_tau
    exceeds gamma. The floor begins at lambda_ts and grows when the margin leaves SAFE and when it lingers in the strip:
    a weight that let it sink is not trusted again. So the critical weight is found within a factor of `growth`.
    """

    kappa: Weight = 0.1
    """Share of the margin that may be lost in an epoch."""
    lambda_max: Positive = 500.0
    """Largest alignment weight."""
    base: ProperShare = 0.1
    """Share of the other losses in BREACH."""
    growth: Annotated[float, Ge(1)] = 2.0
    """The floor is multiplied by it; 1 returns to lambda_ts each time."""
    patience: Count = 5
    """Decisions in the strip after which the floor grows."""


@spec
class StudentFirst(Watching):
    """Alignment dominates while G_tau < 0; then the objective as it is."""

    lambda_max: Positive = 500.0
    """Alignment weight while the student goes first."""
    base: ProperShare = 0.1
    """Share of the other losses meanwhile."""


@spec
class Rollback(Watching):
    """A stretch that costs more than xi and ends below gamma is undone, and the learning rate halved."""

    xi: Weight = 0.05
    """Loss of margin that is put up with, nats."""
    ring: CountOrNone = 3
    """Accepted states that are kept to go back to."""
    most: Count = 10
    """Rollbacks at most; afterwards training runs on as it is."""

    def __post_init__(self) -> None:
        if self.ring < 1:
            raise refuse("Rollback.ring", ">= 1", self.ring, "keep at least one state to go back to")


@spec
class Barrier(Watching):
    """Minimises L - rho log G_tau: its force is that of a further alignment weight rho / G_tau. Needs G_tau > 0."""

    rho: Positive = 1.0
    """Weight of the barrier, nats."""
    lambda_max: Positive = 500.0
    """Largest alignment weight: the barrier itself has none."""


@spec
class Alternate(Watching):
    """The student's losses (alignment and balance) and the VAE's (reconstruction and KL) in turn, student first."""

    student_epochs: Count = 1
    """Epochs of a turn of the student."""
    vae_epochs: Count = 1
    """Epochs of a turn of the VAE."""


@spec
class Staged(Watching):
    """The student's losses alone at first, then all of them."""

    student_epochs: Count = 20
    """Epochs of alignment and balance alone."""


Control = Fixed | Guard | StudentFirst | Rollback | Barrier | Alternate | Staged
ControlName = Literal["fixed", "guard", "student_first", "rollback", "barrier", "alternate", "staged"]
CONTROLS: dict[str, type[Control]] = dict(zip(get_args(ControlName), get_args(Control), strict=True))


def check_control(control: Control, lambda_ts: float) -> None:
    """Refuses a controller that cannot work on this alignment weight.

    Raises:
        ConfigFault: no alignment to control, or a largest weight below the one it starts from.
    """
    if lambda_ts <= 0:
        where = f"{type(control).__name__}.lambda_ts"
        raise refuse(where, "> 0 to be controlled", lambda_ts, "control a mode with alignment, such as 'full'")
    match control:
        case Guard(lambda_max=most) | StudentFirst(lambda_max=most) | Barrier(lambda_max=most) if most < lambda_ts:
            where = f"{type(control).__name__}.lambda_max"
            remedy = f"give {lambda_ts:g} or more, or a smaller lambda_ts"
            raise refuse(where, f">= lambda_ts = {lambda_ts:g}", most, remedy)
        case _:
            pass


def check_every(control: Control, steps: int) -> int:
    """Steps between two decisions in an epoch of so many.

    Raises:
        ConfigFault: an epoch would end before its first decision.
    """
    if control.every is not None and control.every > steps:
        where = f"{type(control).__name__}.every"
        raise refuse(where, f"<= the {steps} steps of an epoch", control.every, f"give {steps} or less, or none")
    return steps if control.every is None else control.every
