"""Presets of each protocol, one per data set and one by shape: the cell of seed 0 before any override."""

import math
from dataclasses import replace

from certvae.spec.cell import CellSpec
from certvae.spec.parts import (
    Bernoulli,
    Conv,
    Data,
    Description,
    Gaussian,
    LearnedHead,
    Mlp,
    Model,
    SimplexHead,
    Training,
)
from certvae.spec.rescue import Objective, Rescue, WarmUp
from certvae.spec.simplex import Witness
from certvae.spec.teachers import Labels, PcaGmm, WarmUpGmm
from certvae.spec.validation import nearest, refuse

FAIR_CLASSES = 100  # above, heads fitted after training cost more than the training of a mode
CLASSES: dict[str, int] = {
    "digits": 10,
    "mnist": 10,
    "fashion-mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "tiny-imagenet-200": 200,
}
"""K of the data sets that have a preset of their own."""
UNLABELLED = 10  # K of a mixture where no labels say how many kinds there are
SMALL = 1024  # pixels: below, convolutions gain nothing
_PIXELS = Gaussian()


def rescue(data: str | Description) -> CellSpec:
    """The chain of arXiv 2605.05813. The paper prints no architecture: layer widths, epochs and weights are ours.

    Args:
        data: a data set below, or the description of any other (`certvae.data.describe`), whose networks are chosen by
            shape and whose K is its number of classes, or 10.

    Raises:
        ConfigFault: a name that is none of them, without its shape.
    """
    match data if isinstance(data, str) else data.name:
        case "digits":
            return _digits()
        case "mnist" | "fashion-mnist" as name:
            return _images(name, Mlp(hidden=(512, 256), latent=16), CLASSES[name])
        case "cifar10" | "cifar100" as name:
            return _images(name, Conv(channels=(64, 128, 256), latent=64), CLASSES[name])
        case "tiny-imagenet-200" as name:
            return _images(name, Conv(channels=(64, 128, 256, 256), latent=128), CLASSES[name])
        case _:
            about = _described(data)
            return _images(about.name, encoder_for(about.shape), about.classes or UNLABELLED, _likelihood(about.shape))


def encoder_for(shape: tuple[int, int, int]) -> Mlp | Conv:
    """A network for images that nobody tuned one for: convolutions where an image halves twice at least, to 4 pixels
    or more, and is not small."""
    halvings = halved(shape[1:])
    if math.prod(shape) <= SMALL or halvings < 2:
        return Mlp(hidden=(512, 256), latent=16)
    return Conv(channels=(64, 128, 256, 256)[:halvings], latent=64 if halvings < 4 else 128)


def halved(sides: tuple[int, int]) -> int:
    """How often both sides halve, at most four times, without falling below 4 pixels."""
    fits = (count for count in range(4, 0, -1) if all(side % 2**count == 0 and side >> count >= 4 for side in sides))
    return next(fits, 0)


def _likelihood(shape: tuple[int, int, int]) -> Gaussian:
    """Vectors in [0, 1] by their range vary less than pixels: a normal sample has a range of about seven deviations,
    and a tenth of that variance leaves something to encode."""
    return Gaussian(variance=0.002) if shape[:2] == (1, 1) else Gaussian()


def _described(data: str | Description) -> Description:
    if isinstance(data, Description):
        return data
    remedy = nearest(data, tuple(CLASSES)) if ":" not in data else f"give certvae.data.describe({data!r})"
    raise refuse("data", "a data set with a preset, or a description", data, remedy)


def _images(data: str, encoder: Mlp | Conv, classes: int, likelihood: Gaussian = _PIXELS) -> CellSpec:
    protocol = Rescue(teacher=WarmUpGmm(classes=classes), fair_heads=classes <= FAIR_CLASSES)
    return CellSpec(data=Data(name=data), model=Model(encoder=encoder, likelihood=likelihood), protocol=protocol)


def _digits() -> CellSpec:
    """A linear head, a decoder without the teacher row, and squared errors with weight one: seconds on a CPU."""
    schedule = Training(epochs=60, batch_size=128)
    return CellSpec(
        data=Data(name="digits"),
        model=Model(
            encoder=Mlp(hidden=(256, 256), latent=16),
            head=LearnedHead(hidden=()),
            likelihood=Gaussian(variance=0.5),
            decoder_sees_teacher=False,
        ),
        protocol=Rescue(
            warm_up=WarmUp(alpha_kl=0.05, kl_ramp_epochs=0, training=schedule),
            teacher=WarmUpGmm(classes=10, whitening=(0, 8), regulariser=(1e-3, 1e-2), smoothing=0.02),
            objective=Objective(alpha_kl=0.05),
        ),
        training=schedule,
    )


def witness(data: str | Description) -> CellSpec:
    """The paper prints gain, teacher smoothing and a table: networks, latent sizes and epochs are this project's.

    On MNIST, 16 latent units and lambda_ts = 1 reproduce the printed loss, energy and active units within a few
    percent; at lambda_ts = 0.1 nothing is certified. Arguments and errors are those of `rescue`.
    """
    match data if isinstance(data, str) else data.name:
        case "digits":
            return _witness_digits()
        case "mnist" | "fashion-mnist" as name:
            model = Model(encoder=Mlp(hidden=(512, 256), latent=16), likelihood=Bernoulli(), **_FIXED_HEAD)
            return _witness_cell(
                model, Data(name=name), PcaGmm(classes=10, whitening=(16, 32), initialisations=2), Training(epochs=30)
            )
        case "cifar10" as name:
            return _witness_images(name, (64, 128, 256), latent=64)
        case "cifar100" as name:
            return _witness_images(name, (64, 128, 256), latent=128)
        case "tiny-imagenet-200" as name:
            return _witness_images(name, (64, 128, 256, 256), latent=256)
        case _:
            return _witness_for(_described(data))


def _witness_for(about: Description) -> CellSpec:
    """K - 1 latent units belong to the witness, and as many as the encoder of this shape has to reconstruction."""
    classes, encoder = about.classes or UNLABELLED, encoder_for(about.shape)
    encoder = replace(encoder, latent=encoder.latent + classes - 1)
    model = Model(encoder=encoder, likelihood=_likelihood(about.shape), **_FIXED_HEAD)
    return _witness_cell(model, Data(name=about.name), PcaGmm(classes=classes), Training(epochs=60), kl_ramp_epochs=10)


def labels(base: CellSpec) -> Labels:
    """Smoothed labels for the data of a cell; of data that a user brought, K of the teacher of its preset is theirs."""
    known = CLASSES.get(base.data.name, base.protocol.teacher.classes)
    return Labels(classes=base.data.classes or known)


def protocol_of(base: CellSpec) -> Witness:
    """The protocol of a cell of these presets.

    Raises:
        TypeError: for a cell of another protocol, which no command line of these studies can build.
    """
    if not isinstance(base.protocol, Witness):
        raise TypeError(f"a cell of the simplex witness is needed, got {type(base.protocol).__name__}")
    return base.protocol


_FIXED_HEAD = {"head": SimplexHead(beta=5.0), "decoder_sees_teacher": False}


def _witness_cell(model: Model, data: Data, teacher: PcaGmm, training: Training, kl_ramp_epochs: int = 0) -> CellSpec:
    protocol = Witness(teacher=teacher, kl_ramp_epochs=kl_ramp_epochs)
    return CellSpec(data=data, model=model, protocol=protocol, training=training)


def _witness_images(data: str, channels: tuple[int, ...], latent: int) -> CellSpec:
    """K latent units less one belong to the witness, the others to reconstruction."""
    model = Model(encoder=Conv(channels=channels, latent=latent), likelihood=Gaussian(variance=0.1), **_FIXED_HEAD)
    return _witness_cell(model, Data(name=data), PcaGmm(classes=CLASSES[data]), Training(epochs=60), kl_ramp_epochs=10)


def _witness_digits() -> CellSpec:
    """Seconds per network on a CPU; the variance is small enough for a VAE that survives alpha_kl = 8 in 400 steps."""
    model = Model(encoder=Mlp(hidden=(128, 128), latent=16), likelihood=Gaussian(variance=0.02), **_FIXED_HEAD)
    teacher = PcaGmm(classes=10, whitening=(8, 16), initialisations=2)
    return _witness_cell(model, Data(name="digits"), teacher, Training(epochs=20, batch_size=64))
