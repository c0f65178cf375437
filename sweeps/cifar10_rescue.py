"""CIFAR-10, a sanity check, with and without shared-safe protection of the rescue (arXiv 2605.05813).

    python sweeps/cifar10_rescue.py                  the paper's protocol, seeds 0 1 2
    python sweeps/cifar10_rescue.py --data digits    the same chains on scikit-learn's digits

The paper describes its rescue once with a used head and once without. Both are trained from the same end of no_align:
rescue aligns the raw head; protected_rescue aligns a used head while the raw one is below the constant baseline.
Certificates read the raw head of both; what the used head says stands beside it as used_loss and used_margin, and can
enter no certificate.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue
from certvae.spec.rescue import SharedAffine


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets with a protected rescue beside the plain one."""
    base = rescue(data)
    return replace(base, protocol=replace(base.protocol, protection=SharedAffine()))


STUDY = Study(name="cifar10_rescue", about=__doc__ or "", data="cifar10", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
