"""Specs of the baseline VAEs (arXiv 2605.05813, baseline table). None of them has an alignment weight of its own.

The paper prints rows and no weights: the defaults are this project's reading of those rows. `name` is a row's mode.

    alpha_kl    KL weight, or None where the model has no KL term          nats per image
"""

from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from certvae.canonical import fields_of
from certvae.spec.parts import Positive, ProperShare, Weight
from certvae.spec.rescue import WarmUp
from certvae.spec.teachers import Teacher, WarmUpGmm
from certvae.spec.validation import refuse, spec


@spec
class Vanilla:
    """L_rec + L_KL."""

    name: ClassVar[str] = "vanilla"
    alpha_kl: Weight = 1.0
    """KL weight."""


@spec
class BetaVae:
    """L_rec + alpha_kl L_KL: low for reconstruction, high for compression (Higgins et al., 2017)."""

    strength: Literal["low", "high"]
    """Against the KL weight of vanilla."""
    alpha_kl: Weight
    """KL weight."""

    @property
    def name(self) -> str:
        return f"beta_vae_{self.strength}"


@spec
class KlAnnealing:
    """The KL weight grows linearly from 0 and stays large (Bowman et al., 2016).

    The printed row has the PSNR and the active units of the large beta, so it ends there and not at 1.
    """

    name: ClassVar[str] = "kl_annealing"
    alpha_kl: Weight = 4.0
    """KL weight at the end."""
    ramp_share: ProperShare = 0.5
    """Share of the epochs in which it grows."""


@spec
class FreeBits:
    """L_rec + sum_j max(KL_j, nats): a latent unit pays nothing for its first bits (Kingma et al., 2016).

    The printed row equals vanilla to three digits, as if the threshold never bound: rows say on how many units it does.
    """

    name: ClassVar[str] = "free_bits"
    alpha_kl: Weight = 1.0
    """KL weight."""
    nats: Weight = 0.05
    """Free per latent unit, as a mean over the batch."""


@spec
class Gmvae:
    """Minimal Gaussian-mixture VAE: K prior components, and the raw head is q(y|z) (Dilokthanakul et al., 2016)."""

    name: ClassVar[str] = "gmvae"
    alpha_kl: Weight = 1.0
    """KL weight."""


@spec
class VqVae:
    """z is the nearest code of a codebook, with a straight-through gradient (van den Oord et al., 2017).

    One code per image: the printed PSNR, by far the lowest of the table, leaves room for very few.
    """

    name: ClassVar[str] = "vq_vae"
    alpha_kl: ClassVar[None] = None
    codes: Annotated[int, Ge(2), Le(65_536)] = 512
    """Entries of the codebook."""
    commitment: Weight = 0.25
    """Weight of the squared distance between what the encoder says and its code."""


@spec
class InfoVae:
    """L_rec + alpha_kl L_KL + mmd MMD^2(q(z) || N(0, I)): the aggregate posterior is held to the prior, and single ones
    hardly (Zhao et al., 2017, arXiv 1706.02262)."""

    name: ClassVar[str] = "info_vae"
    alpha_kl: Weight = 0.1
    """KL weight."""
    mmd: Weight = 100.0
    """Weight of the squared maximum mean discrepancy."""


Baseline = Vanilla | BetaVae | KlAnnealing | FreeBits | Gmvae | VqVae | InfoVae
SEVEN: tuple[Baseline, ...] = (
    Vanilla(),
    BetaVae(strength="low", alpha_kl=0.1),
    BetaVae(strength="high", alpha_kl=4.0),
    KlAnnealing(),
    FreeBits(),
    Gmvae(),
    VqVae(),
)


@spec
class Baselines:
    """VAEs that are never aligned, against the frozen teacher of the same seed (arXiv 2605.05813, baseline table).

    Each is trained from scratch on the cell's schedule; its decoder reads the latent alone, and its raw head is there
    from the start and hears nothing of the teacher.
    """

    warm_up: WarmUp = WarmUp()
    teacher: Teacher = WarmUpGmm()
    """Where T(x) comes from."""
    baselines: tuple[Baseline, ...] = SEVEN
    """Which are trained."""
    lambda_ts: Positive | None = None
    """Adds aligned_<name> of each: the same objective and this weight of L_TS, from the same initialisation."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; lambda_ts leaves no trace where it is absent."""
        return fields_of(self, later=("lambda_ts",))

    def __post_init__(self) -> None:
        names = [baseline.name for baseline in self.baselines]
        if not names or len(set(names)) < len(names):
            raise refuse("Baselines.baselines", "one or more of different names", names, "give each once")
