"""How much KL pressure a simplex witness bears: alpha_kl 1, 2, 4, 8 over five seeds (arXiv 2605.18224, KL stress).

    python sweeps/simplex_stress.py                          CIFAR-10; --data cifar100 for the second set
    python sweeps/simplex_stress.py --data fashion-mnist     or mnist, for a machine without a GPU
    python sweeps/simplex_stress.py --data digits            a first look in two minutes

The four configs multiply the preset's alpha_kl. Each row shows the margin on posterior means, which the paper reports,
and on draws: under stress the fixed gain amplifies posterior noise, and a margin on means can stay high while no draw
could be certified. The affine head on draws says whether the channel itself is dead.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import protocol_of, witness

STRESS = (1.0, 2.0, 4.0, 8.0)


def preset(data: str | Description) -> CellSpec:
    """The plain VAE and the two ends of the prefit scale: none, and the scaled code."""
    base = witness(data)
    return replace(base, protocol=replace(protocol_of(base), modes=("vae", "rst", "rst_alpha_prefit")))


def configs(base: CellSpec) -> tuple[CellSpec, ...]:
    """The base under each stress; teacher, prefits and initialisation are shared."""
    protocol = protocol_of(base)
    return tuple(replace(base, protocol=replace(protocol, alpha_kl=factor * protocol.alpha_kl)) for factor in STRESS)


STUDY = Study(
    name="simplex_stress",
    about=__doc__ or "",
    data="cifar10",
    preset=preset,
    configs=configs,
    seeds=(0, 1, 2, 3, 4),
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
