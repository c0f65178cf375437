"""Presets of each protocol, one per data set: the cell of seed 0 before any override."""

from certvae.spec.cell import CellSpec
from certvae.spec.parts import Bernoulli, Conv, Data, DataName, Gaussian, LearnedHead, Mlp, Model, SimplexHead, Training
from certvae.spec.rescue import Objective, Rescue, WarmUp, WarmUpGmm
from certvae.spec.simplex import Labels, PcaGmm, Witness

FAIR_CLASSES = 100  # above, heads fitted after training cost more than the training of a mode


def rescue(data: DataName) -> CellSpec:
    """The paper prints no architecture: layer widths, epochs and weights are this project's reading."""
    match data:
        case "digits":
            return _digits()
        case "mnist" | "fashion-mnist":
            return _images(data, Mlp(hidden=(512, 256), latent=16), classes=10)
        case "cifar10":
            return _images(data, Conv(channels=(64, 128, 256), latent=64), classes=10)
        case "cifar100":
            return _images(data, Conv(channels=(64, 128, 256), latent=64), classes=100)
        case "tiny-imagenet-200":
            return _images(data, Conv(channels=(64, 128, 256, 256), latent=128), classes=200)


def _images(data: DataName, encoder: Mlp | Conv, classes: int) -> CellSpec:
    protocol = Rescue(teacher=WarmUpGmm(classes=classes), fair_heads=classes <= FAIR_CLASSES)
    return CellSpec(data=Data(name=data), model=Model(encoder=encoder), protocol=protocol)


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


CLASSES: dict[DataName, int] = {
    "digits": 10,
    "mnist": 10,
    "fashion-mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "tiny-imagenet-200": 200,
}


def witness(data: DataName) -> CellSpec:
    """The paper prints gain, teacher smoothing and a table: networks, latent sizes and epochs are this project's.

    On MNIST, 16 latent units and lambda_ts = 1 reproduce the printed loss, energy and active units within a few
    percent; at lambda_ts = 0.1 nothing is certified.
    """
    match data:
        case "digits":
            return _witness_digits()
        case "mnist" | "fashion-mnist":
            model = Model(encoder=Mlp(hidden=(512, 256), latent=16), likelihood=Bernoulli(), **_FIXED_HEAD)
            return _witness_cell(
                model, Data(name=data), PcaGmm(classes=10, whitening=(16, 32), initialisations=2), Training(epochs=30)
            )
        case "cifar10":
            return _witness_images(data, (64, 128, 256), latent=64)
        case "cifar100":
            return _witness_images(data, (64, 128, 256), latent=128)
        case "tiny-imagenet-200":
            return _witness_images(data, (64, 128, 256, 256), latent=256)


def labels(base: CellSpec) -> Labels:
    """Smoothed labels for the data of a cell."""
    return Labels(classes=base.data.classes or CLASSES[base.data.name])


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


def _witness_images(data: DataName, channels: tuple[int, ...], latent: int) -> CellSpec:
    """K latent units less one belong to the witness, the others to reconstruction."""
    model = Model(encoder=Conv(channels=channels, latent=latent), likelihood=Gaussian(variance=0.1), **_FIXED_HEAD)
    return _witness_cell(model, Data(name=data), PcaGmm(classes=CLASSES[data]), Training(epochs=60), kl_ramp_epochs=10)


def _witness_digits() -> CellSpec:
    """Seconds per network on a CPU; the variance is small enough for a VAE that survives alpha_kl = 8 in 400 steps."""
    model = Model(encoder=Mlp(hidden=(128, 128), latent=16), likelihood=Gaussian(variance=0.02), **_FIXED_HEAD)
    teacher = PcaGmm(classes=10, whitening=(8, 16), initialisations=2)
    return _witness_cell(model, Data(name="digits"), teacher, Training(epochs=20, batch_size=64))
