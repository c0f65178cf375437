"""How a collapsed code leaves collapse, step by step, from three starts (arXiv 2605.18224, escape trajectories).

    python sweeps/simplex_escape.py                     CIFAR-10; --data cifar100 for the second set
    python sweeps/simplex_escape.py --data mnist        for a machine without a GPU
    python sweeps/simplex_escape.py --data digits       a first look in a minute

Starts: exactly constant means (escape_collapsed), the end of a plain VAE whose axes the witness does not know
(escape_vae), and a code at two percent of its scale (escape_prefit). The curve of a network shows, for the start and
then every few steps: margin, force norm, norm of the parameter gradient, and spread and KL inside and outside the
witness subspace. The force norm of a constant code is never below a floor that the teacher alone sets.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import protocol_of, witness
from certvae.spec.simplex import ESCAPES


def preset(data: str | Description) -> CellSpec:
    """The three escapes; a plain VAE is trained where one of them starts."""
    base = witness(data)
    return replace(base, protocol=replace(protocol_of(base), modes=ESCAPES))


STUDY = Study(name="simplex_escape", about=__doc__ or "", data="cifar10", preset=preset, seeds=(0, 1, 2, 3, 4))

if __name__ == "__main__":
    sys.exit(main(STUDY))
