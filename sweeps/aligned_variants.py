"""Alignment is a term that any VAE can carry: six of them with it and without (arXiv 2605.05813, modularity).

    python sweeps/aligned_variants.py                     scikit-learn's digits
    python sweeps/aligned_variants.py --data mnist        any data set that another study takes
    python sweeps/aligned_variants.py --lambda-ts 20      more alignment

beta-VAE, KL annealing, free bits, InfoVAE (MMD), GMVAE and VQ-VAE from one initialisation, each twice: as its authors
wrote it, and with lambda_ts L_TS towards the frozen teacher of the seed. The certificate is that of the raw head, which
only the second has heard of; the columns of heads fitted afterwards give the first its fair chance.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.baselines import Baselines, BetaVae, FreeBits, Gmvae, InfoVae, KlAnnealing, VqVae
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue


def preset(data: str | Description) -> CellSpec:
    """The six under the teacher of the presets, KL weights in units of the preset's, alignment as in `full`."""
    base = rescue(data)
    chain = base.protocol
    if not isinstance(chain, Rescue):
        raise TypeError(f"variants take the teacher of a rescue chain, got {type(chain).__name__}")
    unit = chain.objective.alpha_kl
    variants = (
        BetaVae(strength="high", alpha_kl=4 * unit),
        KlAnnealing(alpha_kl=4 * unit),
        FreeBits(alpha_kl=unit),
        InfoVae(alpha_kl=unit / 10, mmd=100 * unit),
        Gmvae(alpha_kl=unit),
        VqVae(),
    )
    given = {"warm_up": chain.warm_up, "teacher": chain.teacher, "baselines": variants}
    return replace(base, protocol=Baselines(**given, lambda_ts=chain.objective.lambda_ts))


STUDY = Study(name="aligned_variants", about=__doc__ or "", data="digits", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
