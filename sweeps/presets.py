"""Presets of the first paper's protocol, one per data set: the cell of seed 0 before any override."""

from certvae.spec import (
    CellSpec,
    Conv,
    Data,
    DataName,
    Gaussian,
    LearnedHead,
    Mlp,
    Model,
    Objective,
    Rescue,
    Training,
    WarmUp,
    WarmUpGmm,
)

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
