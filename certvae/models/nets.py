"""Networks: an encoder, a decoder that may see the teacher row, and a raw head that never sees anything but the latent.

Encoder and decoder are ours, or somebody's own.

    x       (n, C, H, W)  pixels in [0, 1]      mu, logvar, z   (n, d)   latent
    logits  (n, C, H, W)  of the decoder        T               (n, K)   teacher rows
    a       (n, K)        logits of the raw head; the student is S = softmax(a)

No BatchNorm anywhere: it mixes rows and amplifies vanishing variation, so a certified head could not be trusted.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from certvae.models import own
from certvae.simplex import vertices
from certvae.spec.parts import Conv, Head, LearnedHead, Mlp, Model, Module, SimplexHead, check_parameters
from certvae.spec.validation import refuse

Shape = tuple[int, int, int]
GROUPS = 8
KERNEL, STRIDE, PADDING = 4, 2, 1  # each convolution halves the image
LOWEST, HIGHEST = -12.0, 6.0  # log-variances: a posterior never narrower, never wider


class Encoder(nn.Module):
    """x -> (mu, logvar) of q(z|x) = N(mu, diag exp(logvar))."""

    def __init__(self, body: nn.Module, width: int, latent: int):
        super().__init__()
        self.body, self.latent = body, latent
        self.mu = nn.Linear(width, latent)
        self.logvar = nn.Linear(width, latent)

    def forward(self, x: Float[Tensor, "n C H W"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        features = self.body(x)
        return self.mu(features), self.logvar(features).clamp(LOWEST, HIGHEST)


class Decoder(nn.Module):
    """z, and T(x) where the model says so -> logits of pixels in [0, 1]."""

    def __init__(self, body: nn.Module, shape: Shape, classes: int, *, sees_teacher: bool):
        super().__init__()
        self.body, self.shape, self.classes, self.sees_teacher = body, shape, classes, sees_teacher

    def forward(self, z: Float[Tensor, "n d"], teacher: Float[Tensor, "n K"] | None = None) -> Float[Tensor, "n C H W"]:
        """Without a teacher row, a decoder that expects one gets the uniform row."""
        if self.sees_teacher:
            z = torch.cat([z, self.slot(z, teacher)], dim=1)
        return self.body(z).view(-1, *self.shape)

    def slot(self, z: Float[Tensor, "n d"], teacher: Float[Tensor, "n K"] | None) -> Float[Tensor, "n K"]:
        """What stands in the place of the teacher row."""
        return z.new_full((len(z), self.classes), 1 / self.classes) if teacher is None else teacher


class OwnEncoder(Encoder):
    """`encode` of a network of somebody's own, whose parameters are all here, those of `decode` too."""

    def __init__(self, network: nn.Module, latent: int):
        nn.Module.__init__(self)  # nothing of ours is trained
        self.network, self.latent = network, latent

    def forward(self, x: Float[Tensor, "n C H W"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        mu, logvar = own.encode(self.network, x, self.latent)
        return mu, logvar.clamp(LOWEST, HIGHEST)


class OwnDecoder(Decoder):
    """`decode` of the same network, which it only points at: weights are stored and trained once."""

    def __init__(self, network: nn.Module, shape: Shape, classes: int, *, sees_teacher: bool):
        super().__init__(nn.Identity(), shape, classes, sees_teacher=sees_teacher)
        self._network = (network,)

    def forward(self, z: Float[Tensor, "n d"], teacher: Float[Tensor, "n K"] | None = None) -> Float[Tensor, "n C H W"]:
        given = (z, self.slot(z, teacher)) if self.sees_teacher else (z,)
        return own.decode(self._network[0], given, self.shape)


class RawHead(nn.Module):
    """The learned witness: logits of S from z alone."""

    def __init__(self, latent: int, hidden: tuple[int, ...], classes: int):
        super().__init__()
        self.body = _perceptron((latent, *hidden, classes), nn.SiLU)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        return self.body(z)


class SimplexWitness(nn.Module):
    """The fixed witness beta V z, with the vertices of a regular simplex as rows of V (arXiv 2605.18224)."""

    def __init__(self, latent: int, classes: int, beta: float):
        super().__init__()
        scaled = torch.as_tensor(beta * vertices(classes, latent), dtype=torch.float32)
        self.register_buffer("scaled_vertices", scaled, persistent=False)
        self.scaled_vertices: Tensor
        self.beta = beta

    @property
    def subspace(self) -> int:
        """Dimension of the witness subspace W: its first K - 1 coordinates are W, the others it cannot see."""
        return len(self.scaled_vertices) - 1

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        return z @ self.scaled_vertices.T

    def code(self, teacher: Float[Tensor, "n K"]) -> Float[Tensor, "n d"]:
        """The shortest mean whose witness is a (strictly positive) teacher row: mu* = (K-1)/(K beta) V' clr(T)."""
        log_teacher = teacher.log()
        centred = log_teacher - log_teacher.mean(dim=1, keepdim=True)
        classes = len(self.scaled_vertices)
        return (classes - 1) / (classes * self.beta**2) * centred @ self.scaled_vertices


class Vae(nn.Module):
    """Encoder, decoder and raw head."""

    def __init__(self, encoder: Encoder, decoder: Decoder, head: RawHead | SimplexWitness):
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head


def build(model: Model, shape: Shape, classes: int, seed: int) -> Vae:
    """A freshly initialised network: same arguments, same weights, whatever was drawn before.

    Raises:
        ConfigFault: when the image does not halve as often as the convolutions ask, a simplex does not fit, or there
            are more parameters than a machine holds.
    """
    if model.network is not None:
        return _own(model, model.network, shape, classes, seed)
    with torch.device("meta"):  # shapes alone: nothing is allocated yet
        check_parameters(sum(weight.numel() for weight in _assemble(model, shape, classes).parameters()))
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made; ours overwrites that
        vae = _assemble(model, shape, classes)
    _initialise(vae, torch.Generator().manual_seed(seed))
    return vae


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """All parameters by name, as arrays on the host."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """The inverse of `weights`; every name must be there."""
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def _own(model: Model, network: Module, shape: Shape, classes: int, seed: int) -> Vae:
    """A network of somebody's own as it draws its weights from our seed, and a head of ours."""
    made = own.make(network, shape, classes, seed)
    latent = own.latent(made, shape)
    with torch.random.fork_rng(devices=[]):
        head = _head(model.head, latent, classes)
    _initialise(head, torch.Generator().manual_seed(seed))
    decoder = OwnDecoder(made, shape, classes, sees_teacher=model.decoder_sees_teacher)
    return Vae(OwnEncoder(made, latent), decoder, head)


def _assemble(model: Model, shape: Shape, classes: int) -> Vae:
    slot = classes if model.decoder_sees_teacher else 0
    match model.encoder:
        case Mlp():
            encoder_body, width, decoder_body = _mlp_bodies(model.encoder, shape, slot)
        case Conv():
            encoder_body, width, decoder_body = _conv_bodies(model.encoder, shape, slot)
    latent = model.encoder.latent
    return Vae(
        Encoder(encoder_body, width, latent),
        Decoder(decoder_body, shape, classes, sees_teacher=model.decoder_sees_teacher),
        _head(model.head, latent, classes),
    )


def _head(head: Head, latent: int, classes: int) -> RawHead | SimplexWitness:
    match head:
        case LearnedHead():
            return RawHead(latent, head.hidden, classes)
        case SimplexHead():
            if latent < classes - 1:
                remedy = f"give the encoder latent >= {classes - 1}, or take fewer classes"
                raise refuse("Model.encoder.latent", f">= K - 1 = {classes - 1} for a simplex", latent, remedy)
            return SimplexWitness(latent, classes, head.beta)


def _perceptron(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*_dense(widths, activation)[:-1])


def _mlp_bodies(encoder: Mlp, shape: Shape, slot: int) -> tuple[nn.Module, int, nn.Module]:
    pixels = math.prod(shape)
    body = nn.Sequential(nn.Flatten(), _perceptron((pixels, *encoder.hidden), nn.ReLU), nn.ReLU())
    mirror = _perceptron((encoder.latent + slot, *reversed(encoder.hidden), pixels), nn.ReLU)
    return body, encoder.hidden[-1], mirror


def _conv_bodies(encoder: Conv, shape: Shape, slot: int) -> tuple[nn.Module, int, nn.Module]:
    channels, height, width = shape
    halvings = 2 ** len(encoder.channels)
    if height % halvings or width % halvings:
        remedy = "take fewer channels, or resize the images (Data.size)"
        raise refuse("Model.encoder.channels", f"few enough for {height} x {width}", encoder.channels, remedy)
    small = (encoder.channels[-1], height // halvings, width // halvings)
    down = [_block(nn.Conv2d, a, b) for a, b in pairwise((channels, *encoder.channels))]
    up = [_block(nn.ConvTranspose2d, b, a) for a, b in reversed(list(pairwise(encoder.channels)))]
    last = nn.ConvTranspose2d(encoder.channels[0], channels, KERNEL, STRIDE, PADDING)
    hidden = [encoder.hidden] if encoder.hidden else []
    flat = math.prod(small)
    body = nn.Sequential(*down, nn.Flatten(), *_dense((flat, *hidden)))
    mirror = nn.Sequential(*_dense((encoder.latent + slot, *hidden, flat)), nn.Unflatten(1, small), *up, last)
    return body, (hidden or [flat])[-1], mirror


def _block(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], inside: int, outside: int) -> nn.Sequential:
    groups = math.gcd(GROUPS, outside)
    return nn.Sequential(kind(inside, outside, KERNEL, STRIDE, PADDING), nn.GroupNorm(groups, outside), nn.SiLU())


def _dense(widths: tuple[int, ...], activation: type[nn.Module] = nn.SiLU) -> list[nn.Module]:
    return [layer for inside, outside in pairwise(widths) for layer in (nn.Linear(inside, outside), activation())]


def _initialise(vae: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's default distributions, drawn from our own generator, layer by layer in order."""
    for module in vae.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
