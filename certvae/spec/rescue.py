"""The first paper's protocol: warm-up, teacher search, objective, rescue (arXiv 2605.05813)."""

from dataclasses import fields
from typing import Any, Literal

from certvae.canonical import fields_of
from certvae.spec.control import (
    Alternate,
    Barrier,
    Fixed,
    Guard,
    Rollback,
    Staged,
    StudentFirst,
    check_control,
)
from certvae.spec.parts import Classes, Count, CountOrNone, ProperShare, Seed, Several, Training, Weight
from certvae.spec.teachers import Teacher, WarmUpGmm
from certvae.spec.validation import refuse, spec

REGULARISERS = ("lambda_active", "lambda_contrast")
MOST_LEVELS = 3


@spec
class WarmUp:
    """The short plain VAE whose encoder gives the teacher its features, and every mode its start."""

    alpha_kl: Weight = 1.0
    """KL weight."""
    kl_ramp_epochs: CountOrNone = 10
    """Epochs in which the KL weight grows linearly from 0."""
    training: Training = Training(epochs=20)


@spec
class Unaligned:
    """What `no_align` minimises: L_rec + alpha_kl L_KL + lambda_bal L_bal. It has no lambda_ts to read."""

    alpha_kl: Weight = 1.0
    """KL weight."""
    lambda_bal: Weight = 1.0
    """Weight of KL(mean head row of a batch || uniform): against heads that use few classes."""
    kl_ramp_epochs: CountOrNone = 0
    """Epochs in which the KL weight grows linearly from 0."""
    lambda_active: Weight | None = None
    """Weight of a hinge on the spread of each posterior mean: against units that carry nothing; none when absent."""
    lambda_contrast: Weight | None = None
    """Weight of telling two draws of an image from draws of others; none when absent."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; the regularisers leave no trace where they are absent."""
        return fields_of(self, later=REGULARISERS)


@spec
class Objective:
    """What `full` and `rescue` minimise: L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal.

    The regularisers of the code stand in every mode, aligned or not; no certificate reads them.
    """

    alpha_kl: Weight = 1.0
    """KL weight."""
    lambda_ts: Weight = 5.0
    """Alignment weight, > 0."""
    lambda_bal: Weight = 1.0
    """Weight of KL(mean head row of a batch || uniform): against heads that use few classes."""
    kl_ramp_epochs: CountOrNone = 0
    """Epochs in which the KL weight grows linearly from 0."""
    lambda_active: Weight | None = None
    """Weight of a hinge on the spread of each posterior mean: against units that carry nothing; none when absent."""
    lambda_contrast: Weight | None = None
    """Weight of telling two draws of an image from draws of others; none when absent."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; see `Unaligned.identity`."""
        return fields_of(self, later=REGULARISERS)

    def __post_init__(self) -> None:
        if self.lambda_ts <= 0:
            raise refuse("Objective.lambda_ts", "> 0", self.lambda_ts, "for no alignment read mode 'no_align'")

    def unaligned(self) -> Unaligned:
        """The same objective without alignment: all that `no_align` may depend on."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "lambda_ts"}
        return Unaligned(**kept)


@spec
class SharedAffine:
    """Used rows softmax(c log S + b): c in [0.1, 10] and b are fitted to a batch and shared by its rows."""

    tau: Weight = 0.10
    """The used head stands in for the raw one while I_T - L_TS - tau of the raw head is negative, nats."""
    newton_steps: Count = 8
    """Steps of the fit of (c, b)."""


@spec
class SafeMix:
    """Used rows (1 - weight) S + weight Tbar."""

    tau: Weight = 0.10
    """The used head stands in for the raw one while I_T - L_TS - tau of the raw head is negative, nats."""
    weight: ProperShare = 0.5
    """Share of the mean teacher row."""


Protection = SharedAffine | SafeMix


@spec
class Triad:
    """Weights of the edges through the reconstruction, which the frozen teacher reads (arXiv 2605.05813, triad)."""

    through: Weight = 1.0
    """Of KL(T(x) || T(xhat))."""
    back: Weight = 1.0
    """Of KL(T(xhat) || S(z))."""


@spec
class Curriculum:
    """K from coarse to fine: alignment with a partition of the teacher's classes first, with all of them in the end.

    Partitions are nested, made by merging the parts whose union costs least I_T (`certvae.properties.merged`).
    """

    levels: Several[Classes] = (2, 5)
    """Parts of each coarse level, rising, three levels at most."""
    epochs: Count = 10
    """Epochs of each coarse level."""

    def __post_init__(self) -> None:
        if len(self.levels) > MOST_LEVELS or list(self.levels) != sorted(set(self.levels)):
            wanted = f"rising numbers of parts, at most {MOST_LEVELS}"
            raise refuse("Curriculum.levels", wanted, self.levels, "give each level more parts than the one before")


def check_curriculum(curriculum: Curriculum, classes: int, epochs: int) -> None:
    """Refuses levels that never come to all classes.

    Raises:
        ConfigFault: a level as fine as the teacher, or no epoch left for the teacher itself.
    """
    if curriculum.levels[-1] >= classes:
        wanted = f"fewer than the {classes} classes of the teacher in each"
        raise refuse("Curriculum.levels", wanted, curriculum.levels, "leave the finest out: all classes come last")
    coarse = len(curriculum.levels) * curriculum.epochs
    if coarse >= epochs:
        wanted = f"fewer than {epochs} epochs for {len(curriculum.levels)} levels together"
        raise refuse("Curriculum.epochs", wanted, coarse, "give fewer epochs a level, or more to training")


ControlMode = Literal["head_only", "untrained", "full_long", "permuted"]


@spec
class Rescue:
    """full, no_align and rescue from one warm-up and one teacher (arXiv 2605.05813)."""

    warm_up: WarmUp = WarmUp()
    teacher: Teacher = WarmUpGmm()
    """Where T(x) comes from."""
    objective: Objective = Objective()
    teacher_seed: Seed | None = None
    """One teacher for all seeds: that of this seed. Each seed searches its own when absent."""
    live_features: bool = False
    """Adds live_full, live_no_align and live_rescue: the same mixture read on the features of the encoder in training,
    so that the teacher drifts with it. Their rows are never pooled with those of the frozen teacher."""
    protection: SharedAffine | SafeMix | None = None
    """Adds protected_rescue: a used head that keeps equal rows equal stands in for the raw head while that is below
    the constant baseline. Certificates read the raw head in every mode."""
    controls: tuple[ControlMode, ...] = ("head_only", "untrained")
    """Modes that a claim stands beside: head_only aligns the head and leaves the code alone; untrained is the network
    as it was initialised; full_long is full for the epochs of no_align and rescue; permuted is full towards teacher
    rows that belong to other images, and must not be certified on rows that it has not seen."""
    controller: Fixed | Guard | StudentFirst | Rollback | Barrier | Alternate | Staged | None = None
    """Adds guarded_full and guarded_rescue: the same objective, its weights set by the margin of the guard rows. Their
    rows are never pooled with those of the plain modes."""
    triad: Triad | None = None
    """Adds triad_full, which minimises all three edges, and triad_no_align, which is no_align with its edges read. The
    edges are not certified: they show whether a decoder bypasses the latent."""
    curriculum: Curriculum | None = None
    """Adds curriculum_full: the full objective, aligned with partitions of the classes before all of them. Each level
    has a certificate of its own in the row, and a margin in the curve."""
    fair_heads: bool = True
    """Fits heads after training, so that not certified is said of a latent only after it had a fair chance. Their cost
    grows with K and the train rows."""

    def identity(self) -> dict[str, Any]:
        """What names it: cells without controller, triad and curriculum are called as before there was one."""
        return fields_of(self, later=("controller", "triad", "curriculum"))

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, WarmUpGmm) and (self.live_features or self.triad is not None):
            name = "live_features" if self.live_features else "triad"
            wanted = "left out for a teacher that reads no encoder of the chain"
            raise refuse(f"Rescue.{name}", wanted, getattr(self, name), "leave it out, or take a WarmUpGmm")
        if self.controller is not None:
            check_control(self.controller, self.objective.lambda_ts)
