"""Parts of a cell that every protocol has: images, networks, likelihoods, schedules."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen

from certvae import foreign
from certvae.canonical import SEED_LIMIT, canonical_json, fields_of
from certvae.spec.validation import refuse, spec

DataName = str
"""The name of an official data set, or of content that somebody brought: `folder@...`, `npz@...`, `module@...`."""
DIGEST_LENGTH = 16
OWN = re.compile(rf"(folder|npz|module)@[0-9a-f]{{{DIGEST_LENGTH}}}")
_OFFICIAL = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
Precision = Literal["fp32", "tf32", "bf16"]
Covariance = Literal["diag", "tied", "spherical", "full"]
T = TypeVar("T")
Several = Annotated[tuple[T, ...], MinLen(1)]
Count = Annotated[int, Ge(1)]
CountOrNone = Annotated[int, Ge(0)]
Weight = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]
ProperShare = Annotated[float, Gt(0), Lt(1)]
Seed = Annotated[int, Ge(0), Lt(SEED_LIMIT)]
Latent = Annotated[int, Ge(1), Le(65_536)]
Width = Annotated[int, Ge(1), Le(1_048_576)]
Classes = Annotated[int, Ge(2), Le(65_536)]
MOST_PARAMETERS = 2**31
"""Of one network: a size mistyped is refused before anything is allocated."""


@spec
class Data:
    """Which images. Rows are split the same way for every run seed: train, guard (a share of train), certify (test)."""

    name: DataName = "digits"
    """The data set."""
    limit: Annotated[int, Ge(2)] | None = None
    """Use this many official train images, drawn once; all when absent."""
    certify_limit: Count | None = None
    """Use this many official test images, drawn once; all when absent."""
    size: Annotated[int, Ge(8), Le(4096)] | None = None
    """Resize images to size x size pixels; as they are when absent."""
    classes: Classes | None = None
    """Keep the images of the first so many classes; all when absent."""
    guard_fraction: ProperShare = 0.1
    """Share of official train rows that search and guards see, and training never; without meaning for data that
    bring train, val and test."""

    def __post_init__(self) -> None:
        if not OWN.fullmatch(self.name) and not _OFFICIAL.fullmatch(self.name):
            wanted = "the name of a data set, or of content: a spec holds no place"
            remedy = f"take the name of certvae.data.describe({self.name!r}), or say --data {self.name}"
            raise refuse("Data.name", wanted, self.name, remedy)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a preset must know of images; `certvae.data.describe` says it.

    name     as a spec holds it
    shape    (C, H, W); vectors are (1, 1, d)
    classes  None without labels
    n        rows of all parts
    place    where the data of somebody's own lie: what `load` takes as root; None for official ones
    """

    name: str
    shape: tuple[int, int, int]
    classes: int | None
    n: int
    place: str | None = None


@spec
class Mlp:
    """Fully connected encoder with ReLU, and its mirror as decoder."""

    hidden: Several[Width] = (512, 256)
    """Widths of the hidden layers."""
    latent: Latent = 16
    """Latent dimension d."""


@spec
class Conv:
    """Convolutions 4x4 of stride 2 with GroupNorm and SiLU, one hidden layer, and the mirror as decoder."""

    channels: Several[Width] = (64, 128, 256)
    """Channels after each halving of the image."""
    hidden: Annotated[int, Ge(0), Le(1_048_576)] = 256
    """Width of the fully connected layer before mu and logvar; 0 leaves it out."""
    latent: Latent = 64
    """Latent dimension d."""


@spec
class LearnedHead:
    """A trained head on z: linear layers with SiLU between them. It sees z and nothing else."""

    hidden: tuple[Width, ...] = (256,)
    """Widths of hidden layers; none makes the head linear."""


@spec
class SimplexHead:
    """The fixed witness softmax(beta V mu) of arXiv 2605.18224: no parameters."""

    beta: Positive = 5.0
    """Witness gain."""
    reads: Literal["mu", "sampled"] = "mu"
    """What training aligns: the posterior mean, as in the paper, or the draw z. Certificates show both."""
    protected: bool = False
    """Reconstruction sends no gradient into the witness's part of the means; the rest is left to it."""


Head = LearnedHead | SimplexHead


@spec
class Gaussian:
    """||x - xhat||^2 / (2 variance), summed over an image."""

    variance: Positive = 0.1
    """Observation variance s_x^2 in [0, 1] pixel space."""


@spec
class Bernoulli:
    """Cross-entropy of pixels in [0, 1], summed over an image."""


@spec
class Module:
    """A network of your own: an `nn.Module` with `encode` and `decode` that a function, or a class, of a file makes.

        build(shape, classes, **options) -> module         shape (C, H, W), K classes
        module.encode(x) -> mu, logvar                      x (n, C, H, W) in [0, 1]; mu, logvar (n, d)
        module.decode(z) -> logits of pixels                (n, C, H, W), and decode(z, teacher), teacher (n, K), where
                                                            Model.decoder_sees_teacher says so

    It needs no base class. Rows must not influence each other, and all of its parameters must take part:
    `certvae.testing.NetworkLaws` says what else. logvar is held in [-12, 6], as that of our own encoders.
    """

    build: str = field(kw_only=False)
    """module:function, found where Python looks or in the working directory."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the function: what JSON can write."""
    source: str = ""
    """Digest of the text of the module and of those beside it that it imports; read when absent."""

    def __post_init__(self) -> None:
        options = {name: _as_json(f"Module.options.{name}", value) for name, value in self.options.items()}
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "source", self.source or foreign.source(self.build))

    def __hash__(self) -> int:
        return hash(canonical_json(self))


@spec
class Model:
    """Encoder, decoder and raw head: the same for every mode of a chain."""

    encoder: Mlp | Conv = field(default_factory=Mlp)
    head: Head = field(default_factory=LearnedHead)
    """What reads the latent alone, and is held against the teacher."""
    likelihood: Gaussian | Bernoulli = field(default_factory=Gaussian)
    decoder_sees_teacher: bool = True
    """The decoder reads z and T(x). The certificate never looks at the decoder, but PSNR and the weight at which a code
    dies depend on what it reads."""
    network: Module | None = None
    """A network of your own in place of encoder and decoder: module:function, and options as name=value."""

    @property
    def body(self) -> Mlp | Conv | Module:
        """What encodes, and decodes."""
        return self.network or self.encoder

    @property
    def latent(self) -> int | None:
        """Latent dimension d; None where the network is somebody's own, which says when it is built."""
        return None if self.network else self.encoder.latent

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of: the encoder of ours, or the network that takes its place."""
        named = fields_of(self, later=("network",))
        return named if self.network is None else {name: one for name, one in named.items() if name != "encoder"}

    def __post_init__(self) -> None:
        """What the widths alone tell; images and classes add to it when the network is built."""
        if self.network is None:
            head = self.head.hidden if isinstance(self.head, LearnedHead) else ()
            check_parameters(2 * _weights(self.encoder) + _weights_between(self.encoder.latent, *head))


@spec
class Training:
    """How long and how fast one stage trains, with Adam."""

    epochs: Count = 60
    """Passes over the train rows: of each mode, or of the warm-up."""
    batch_size: Count = 256
    """Train rows of a step."""
    learning_rate: Positive = 1e-3
    """Step size of Adam."""
    gradient_clip: Positive = 5.0
    """Largest norm of the gradient."""
    report_every: Count = 1
    """Epochs between two points of the guard curve."""
    precision: Precision = "fp32"
    """What the layers of a network multiply in while it trains: fp32; tf32 or bf16 on devices that have them. Losses,
    weights and whatever is certified are computed in fp32 or wider all the same."""
    graph: bool = True
    """On a GPU, record one step as a CUDA graph and replay it: the same bytes, in a fraction of the time where a
    network is small. A step that cannot be recorded runs as it is, and so do all on a CPU."""

    def identity(self) -> dict[str, Any]:
        """The fields that its digest is made of; precision and graph leave no trace at their defaults."""
        return fields_of(self, later=("precision", "graph"))


def _as_json(where: str, value: Any) -> Any:
    """The same as JSON reads it again."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        remedy = "give numbers, texts, lists and mappings, and let the function make of them what it needs"
        raise refuse(where, "what JSON can write", value, remedy) from None


def check_parameters(count: int) -> None:
    """Refuses a network of more than 2^31 parameters, before it is allocated.

    Raises:
        ConfigFault: above.
    """
    if count > MOST_PARAMETERS:
        remedy = "make the layers narrower (hidden, channels, latent) or the images smaller (Data.size)"
        raise refuse("Model.parameters", f"<= {MOST_PARAMETERS:,}", count, remedy)


def _weights(encoder: Mlp | Conv) -> int:
    """Of the layers between widths that an encoder names itself."""
    match encoder:
        case Mlp():
            return _weights_between(*encoder.hidden, encoder.latent)
        case Conv():
            return 16 * _weights_between(*encoder.channels) + encoder.hidden * encoder.latent


def _weights_between(*widths: int) -> int:
    return sum(inside * outside for inside, outside in pairwise(widths))


def check_tau(tau: float, classes: int) -> float:
    """A safety buffer in nats, in [0, log K).

    Raises:
        ConfigFault: outside, since no margin exceeds log K.
    """
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 <= tau < math.log(classes):
        wanted = f"inside [0, log K) = [0, {math.log(classes):.6f}) nats for K = {classes}"
        raise refuse("tau", wanted, tau, "give a buffer in nats, such as 0.10")
    return float(tau)
