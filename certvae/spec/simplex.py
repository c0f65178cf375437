"""Specs of the simplex witness (arXiv 2605.18224): the modes of a chain, and how each begins.

The fixed head itself is `certvae.spec.SimplexHead`: its gain is beta, and beta means nothing else.

    nats per image for every loss term        epochs for every duration        K  classes
"""

from typing import Annotated, Literal

from annotated_types import Gt, Le

from certvae.spec.parts import Count, CountOrNone, Positive, Weight
from certvae.spec.teachers import Fixed, PcaGmm, require_smoothing
from certvae.spec.validation import refuse, spec

WitnessMode = Literal["vae", "rst", "rst_prefit", "rst_alpha_prefit", "escape_collapsed", "escape_vae", "escape_prefit"]
FOUR: tuple[WitnessMode, ...] = ("vae", "rst", "rst_prefit", "rst_alpha_prefit")
ESCAPES: tuple[WitnessMode, ...] = ("escape_collapsed", "escape_vae", "escape_prefit")


@spec
class Prefit:
    """Encoder means are first fitted to the analytic code of the teacher: E ||P_W mu - scale mu*||^2."""

    epochs: Count = 5
    """Passes over the train rows."""
    learning_rate: Positive = 1e-3
    """Step size of Adam."""
    scale: Annotated[float, Gt(0), Le(1)] = 0.3
    """The scaled code of rst_alpha_prefit. rst_prefit uses 1; 0.3 is near the equilibrium scale at alpha_kl = 8."""
    rest_weight: Weight = 0.01
    """Weight of the squared mean outside the witness subspace."""


@spec
class Escape:
    """How an escape from a low-margin start is recorded: one point before the first step, then every few steps."""

    points: Count = 100
    """Points after the first."""
    steps_per_point: Count = 4
    """Steps of training between two points."""
    low_scale: Annotated[float, Gt(0), Le(1)] = 0.02
    """Scale of the prefit that escape_prefit starts from."""


@spec
class Witness:
    """A plain VAE and aligned ones against one teacher that never saw an encoder (arXiv 2605.18224).

    vae               no alignment; the witness is attached for the certificate alone
    rst               L_rec + alpha_kl L_KL + lambda_ts L_TS from scratch
    rst_prefit        the same from means fitted to the analytic code
    rst_alpha_prefit  the same from means fitted to the scaled code
    escape_*          the same, watched step by step, from exactly collapsed means (collapsed), from the end of
                      vae (vae), and from a tiny code (prefit)
    """

    teacher: Fixed = PcaGmm()
    """Where T(x) comes from."""
    alpha_kl: Weight = 1.0
    """KL weight."""
    lambda_ts: Positive = 1.0
    """Alignment weight of all modes but vae."""
    kl_ramp_epochs: CountOrNone = 0
    """Epochs in which the KL weight grows linearly from 0; escapes feel the whole of it at once."""
    prefit: Prefit = Prefit()
    escape: Escape = Escape()
    modes: tuple[WitnessMode, ...] = FOUR
    """Which networks are trained and judged."""

    def __post_init__(self) -> None:
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise refuse("Witness.modes", "one or more different modes", self.modes, "name each mode once")
        require_smoothing(type(self.teacher).__name__, self.teacher.smoothing)


def check_witness(*, fixed_head: bool, decoder_sees_teacher: bool, latent: int | None, classes: int) -> None:
    """What a chain of the simplex witness asks of its model.

    Raises:
        ConfigFault: a learned head, a decoder that reads the teacher row, or a latent too narrow for the simplex.
    """
    if not fixed_head:
        raise refuse("Model.head", "a SimplexHead", "LearnedHead", "this protocol certifies the fixed witness")
    if decoder_sees_teacher:
        raise refuse("Model.decoder_sees_teacher", "false", True, "the decoder of this protocol reads z alone")
    if latent is not None and latent < classes - 1:
        remedy = f"give the encoder latent >= {classes - 1}, or take fewer classes"
        raise refuse("Model.encoder.latent", f">= K - 1 = {classes - 1} for a simplex", latent, remedy)
