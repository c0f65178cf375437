"""CIFAR-100, seven VAEs that nobody aligned, against the frozen teacher of their seed (arXiv 2605.05813, baselines).

    python sweeps/cifar100_baselines.py                  vanilla, beta-VAE twice, KL annealing, free bits, GMVAE, VQ-VAE
    python sweeps/cifar100_baselines.py --data digits    the same on scikit-learn's digits

The teacher is that of cifar100_teacher_search: on the same store it is found, not searched again. Every baseline has
the network of that study and the epochs of its warm-up and of one mode together. The raw head hears nothing of the
teacher, so it is not certified whatever the latent does; whether the latent could be is asked of heads that are fitted
afterwards: the best affine head (affine), one stopped early as the printed values imply (short_affine), and the raw
head with its classes renamed (relabelled).
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.baselines import SEVEN, Baseline, Baselines, VqVae
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue


def preset(data: str | Description) -> CellSpec:
    """The seven baselines under the teacher of the presets, with the epochs of a whole chain up to one mode."""
    base = rescue(data)
    chain = base.protocol
    if not isinstance(chain, Rescue):
        raise TypeError(f"baselines take the teacher of a rescue chain, got {type(chain).__name__}")
    unit = chain.objective.alpha_kl
    protocol = Baselines(
        warm_up=chain.warm_up, teacher=chain.teacher, baselines=tuple(weighted(one, unit) for one in SEVEN)
    )
    epochs = chain.warm_up.training.epochs + base.training.epochs
    return replace(base, protocol=protocol, training=replace(base.training, epochs=epochs))


def weighted(baseline: Baseline, unit: float) -> Baseline:
    """The baseline with its KL weight in units of the preset's, so that vanilla has the weight of a chain."""
    return baseline if isinstance(baseline, VqVae) else replace(baseline, alpha_kl=unit * baseline.alpha_kl)


STUDY = Study(name="cifar100_baselines", about=__doc__ or "", data="cifar100", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
