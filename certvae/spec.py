"""Specs: the frozen tree that names a cell, and nothing else does.

    CellSpec = study, seed + Data, Model, Training + the protocol: warm-up, teacher and objective of a chain

An invalid combination cannot be built. A field that cannot change a number (device, workers, paths) is not in here.
Stages are given only the branch they read, so branches are cache keys: see `certvae.stages`.

    nats per image for every loss term        epochs for every duration        [0, 1] for every pixel
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from certvae.baseline_specs import SEVEN, Baseline
from certvae.canonical import SEED_LIMIT, digest, plain
from certvae.checked import Above, AtLeast, Below, Checked, refuse
from certvae.quality import Thresholds
from certvae.witness_specs import Witness, check_witness

DataName = Literal["digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet-200"]
Covariance = Literal["diag", "tied", "spherical", "full"]
Count = Annotated[int, AtLeast(1)]
Weight = Annotated[float, AtLeast(0)]
Positive = Annotated[float, Above(0)]
Share = Annotated[float, AtLeast(0), Below(1)]
Seed = Annotated[int, AtLeast(0), Below(SEED_LIMIT)]


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """Which images. Rows are split the same way for every run seed: train, guard (a share of train), certify (test)."""

    name: DataName = "digits"
    """The data set."""
    limit: Annotated[int | None, AtLeast(2)] = None
    """Use this many official train images, drawn once; all when absent."""
    certify_limit: Annotated[int | None, AtLeast(1)] = None
    """Use this many official test images, drawn once; all when absent."""
    size: Annotated[int | None, AtLeast(8)] = None
    """Resize images to size x size pixels; as they are when absent."""
    classes: Annotated[int | None, AtLeast(2)] = None
    """Keep the images of the first so many classes; all when absent."""
    guard_fraction: Annotated[float, Above(0), Below(1)] = 0.1
    """Share of official train rows that search and guards see, and training never."""


@dataclass(frozen=True, kw_only=True)
class Mlp(Checked):
    """Fully connected encoder with ReLU, and its mirror as decoder."""

    hidden: Annotated[tuple[int, ...], AtLeast(1)] = (512, 256)
    """Widths of the hidden layers."""
    latent: Count = 16
    """Latent dimension d."""


@dataclass(frozen=True, kw_only=True)
class Conv(Checked):
    """Convolutions 4x4 of stride 2 with GroupNorm and SiLU, one hidden layer, and the mirror as decoder."""

    channels: Annotated[tuple[int, ...], AtLeast(1)] = (64, 128, 256)
    """Channels after each halving of the image."""
    hidden: Annotated[int, AtLeast(0)] = 256
    """Width of the fully connected layer before mu and logvar; 0 leaves it out."""
    latent: Count = 64
    """Latent dimension d."""


@dataclass(frozen=True, kw_only=True)
class LearnedHead(Checked):
    """A trained head on z: linear layers with SiLU between them. It sees z and nothing else."""

    hidden: Annotated[tuple[int, ...], AtLeast(1)] = (256,)
    """Widths of hidden layers; none makes the head linear."""


@dataclass(frozen=True, kw_only=True)
class SimplexHead(Checked):
    """The fixed witness softmax(beta V mu) of arXiv 2605.18224: no parameters."""

    beta: Positive = 5.0
    """Witness gain."""
    reads: Literal["mu", "sampled"] = "mu"
    """What training aligns: the posterior mean, as in the paper, or the draw z. Certificates show both."""
    protected: bool = False
    """Reconstruction sends no gradient into the witness's part of the means; the rest is left to it."""


@dataclass(frozen=True, kw_only=True)
class Gaussian(Checked):
    """||x - xhat||^2 / (2 variance), summed over an image."""

    variance: Positive = 0.1
    """Observation variance s_x^2 in [0, 1] pixel space."""


@dataclass(frozen=True, kw_only=True)
class Bernoulli(Checked):
    """Cross-entropy of pixels in [0, 1], summed over an image."""


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """Encoder, decoder and raw head: the same for every mode of a chain."""

    encoder: Mlp | Conv = field(default_factory=Mlp)
    head: LearnedHead | SimplexHead = field(default_factory=LearnedHead)
    likelihood: Gaussian | Bernoulli = field(default_factory=Gaussian)
    decoder_sees_teacher: bool = True
    """The decoder reads z and T(x); the certificate never looks at the decoder."""


@dataclass(frozen=True, kw_only=True)
class Training(Checked):
    """How long and how fast one stage trains, with Adam."""

    epochs: Count = 60
    batch_size: Count = 256
    learning_rate: Positive = 1e-3
    gradient_clip: Positive = 5.0
    """Largest norm of the gradient."""
    report_every: Count = 1
    """Epochs between two points of the guard curve."""


@dataclass(frozen=True, kw_only=True)
class WarmUp(Checked):
    """The short plain VAE whose encoder gives the teacher its features, and every mode its start."""

    alpha_kl: Weight = 1.0
    """KL weight."""
    kl_ramp_epochs: Annotated[int, AtLeast(0)] = 10
    """Epochs in which the KL weight grows linearly from 0."""
    training: Training = Training(epochs=20)


@dataclass(frozen=True, kw_only=True)
class WarmUpGmm(Checked):
    """Candidates for the teacher: Gaussian mixtures on frozen warm-up features (arXiv 2605.05813, teacher search).

    Every combination of whitening, covariance, regulariser and initialisation is one fit; each fit is read at every
    temperature. The best strict-feasible candidate on the guard rows wins; if there is none, the best of all is run as
    a stress case.
    """

    classes: Annotated[int, AtLeast(2)] = 10
    """K, the number of components."""
    whitening: Annotated[tuple[int, ...], AtLeast(0)] = (0, 16, 32, 64)
    """PCA-whitening dimensions to try; 0 leaves the features as they are."""
    covariance: tuple[Covariance, ...] = ("diag", "tied", "spherical")
    regulariser: Annotated[tuple[float, ...], AtLeast(0)] = (1e-4, 1e-3, 1e-2)
    """Added to the diagonal of covariances."""
    temperature: Annotated[tuple[float, ...], Above(0)] = (1.0, 2.0, 4.0)
    """Posterior logits are divided by it: larger is softer."""
    initialisations: Count = 3
    fit_rows: Annotated[int, AtLeast(2)] = 50_000
    """At most so many train rows are used for a fit."""
    max_iterations: Count = 100
    smoothing: Share = 0.01
    """eps of T = (1 - eps) posterior + eps / K. The smoothed rows are the teacher."""
    thresholds: Thresholds = Thresholds()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("whitening", "covariance", "regulariser", "temperature"):
            if not getattr(self, name):
                raise refuse(f"WarmUpGmm.{name}", "a list with at least one value", (), "give one value or more")


@dataclass(frozen=True, kw_only=True)
class Unaligned(Checked):
    """What `no_align` minimises: L_rec + alpha_kl L_KL + lambda_bal L_bal. It has no lambda_ts to read."""

    alpha_kl: Weight = 1.0
    """KL weight."""
    lambda_bal: Weight = 1.0
    """Weight of the student's usage balance."""
    kl_ramp_epochs: Annotated[int, AtLeast(0)] = 0
    """Epochs in which the KL weight grows linearly from 0."""


@dataclass(frozen=True, kw_only=True)
class Objective(Checked):
    """What `full` and `rescue` minimise: L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal."""

    alpha_kl: Weight = 1.0
    """KL weight."""
    lambda_ts: Weight = 5.0
    """Alignment weight, > 0."""
    lambda_bal: Weight = 1.0
    """Weight of the student's usage balance."""
    kl_ramp_epochs: Annotated[int, AtLeast(0)] = 0
    """Epochs in which the KL weight grows linearly from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lambda_ts <= 0:
            raise refuse("Objective.lambda_ts", "> 0", self.lambda_ts, "for no alignment read mode 'no_align'")

    def unaligned(self) -> Unaligned:
        """The same objective without alignment: all that `no_align` may depend on."""
        return Unaligned(alpha_kl=self.alpha_kl, lambda_bal=self.lambda_bal, kl_ramp_epochs=self.kl_ramp_epochs)


@dataclass(frozen=True, kw_only=True)
class SharedAffine(Checked):
    """Used rows softmax(c log S + b): c in [0.1, 10] and b are fitted to a batch and shared by its rows."""

    tau: Weight = 0.10
    """The used head stands in for the raw one while I_T - L_TS - tau of the raw head is negative, nats."""
    newton_steps: Count = 8
    """Steps of the fit of (c, b)."""


@dataclass(frozen=True, kw_only=True)
class SafeMix(Checked):
    """Used rows (1 - weight) S + weight Tbar."""

    tau: Weight = 0.10
    """The used head stands in for the raw one while I_T - L_TS - tau of the raw head is negative, nats."""
    weight: Annotated[float, Above(0), Below(1)] = 0.5
    """Share of the mean teacher row."""


Protection = SharedAffine | SafeMix


@dataclass(frozen=True, kw_only=True)
class Rescue(Checked):
    """full, no_align and rescue from one warm-up and one teacher (arXiv 2605.05813)."""

    warm_up: WarmUp = WarmUp()
    teacher: WarmUpGmm = WarmUpGmm()
    objective: Objective = Objective()
    teacher_seed: Annotated[int | None, AtLeast(0), Below(SEED_LIMIT)] = None
    """One teacher for all seeds: that of this seed. Each seed searches its own when absent."""
    live_features: bool = False
    """Adds live_full, live_no_align and live_rescue: the same mixture read on the features of the encoder in training,
    so that the teacher drifts with it. Their rows are never pooled with those of the frozen teacher."""
    protection: SharedAffine | SafeMix | None = None
    """Adds protected_rescue: a used head that keeps equal rows equal stands in for the raw head while that is below
    the constant baseline. Certificates read the raw head in every mode."""
    fair_heads: bool = True
    """Fits heads after training, so that not certified is said of a latent only after it had a fair chance. Their cost
    grows with K and the train rows."""


@dataclass(frozen=True, kw_only=True)
class Baselines(Checked):
    """VAEs that are never aligned, against the frozen teacher of the same seed (arXiv 2605.05813, baseline table).

    Each is trained from scratch on the cell's schedule; its decoder reads the latent alone, and its raw head is there
    from the start and hears nothing of the teacher.
    """

    warm_up: WarmUp = WarmUp()
    teacher: WarmUpGmm = WarmUpGmm()
    baselines: tuple[Baseline, ...] = SEVEN

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [baseline.name for baseline in self.baselines]
        if not names or len(set(names)) < len(names):
            raise refuse("Baselines.baselines", "one or more of different names", names, "give each once")


@dataclass(frozen=True, kw_only=True)
class CellSpec(Checked):
    """One (config, seed): one chain, one trial, one slot of the pool."""

    study: str = "tiny_fixed_q"
    seed: Seed = 0
    data: Data = Data()
    model: Model = Model()
    protocol: Rescue | Baselines | Witness = Rescue()
    training: Training = Training()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.study or not set(self.study) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-."):
            raise refuse("CellSpec.study", "a name of a-z, 0-9, _, - and .", self.study, "choose such a name")
        if isinstance(self.protocol, Witness):
            check_witness(
                fixed_head=isinstance(self.model.head, SimplexHead),
                decoder_sees_teacher=self.model.decoder_sees_teacher,
                latent=self.model.encoder.latent,
                classes=self.protocol.teacher.classes,
            )

    @cached_property
    def cell(self) -> str:
        """Names the cell: 64 hexadecimal digits."""
        return digest(self)

    @cached_property
    def config(self) -> str:
        """Names everything but the seed: 64 hexadecimal digits."""
        return digest({name: value for name, value in plain(self).items() if name != "seed"} | {"type": "config"})


def check_tau(tau: float, classes: int) -> float:
    """A safety buffer in nats, in [0, log K).

    Raises:
        ConfigFault: outside, since no margin exceeds log K.
    """
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 <= tau < math.log(classes):
        wanted = f"inside [0, log K) = [0, {math.log(classes):.6f}) nats for K = {classes}"
        raise refuse("tau", wanted, tau, "give a buffer in nats, such as 0.10")
    return float(tau)
