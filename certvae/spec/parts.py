"""Parts of a cell that every protocol has: images, networks, likelihoods, schedules."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from certvae.canonical import SEED_LIMIT
from certvae.spec.validation import Above, AtLeast, Below, Checked, refuse

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


def check_tau(tau: float, classes: int) -> float:
    """A safety buffer in nats, in [0, log K).

    Raises:
        ConfigFault: outside, since no margin exceeds log K.
    """
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 <= tau < math.log(classes):
        wanted = f"inside [0, log K) = [0, {math.log(classes):.6f}) nats for K = {classes}"
        raise refuse("tau", wanted, tau, "give a buffer in nats, such as 0.10")
    return float(tau)
