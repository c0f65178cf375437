"""Does a teacher go down more easily from coarse to fine? K in steps, by merging components of one mixture.

    python sweeps/curriculum.py                                                scikit-learn's digits: 2, 5, then 10
    python sweeps/curriculum.py --curriculum.levels 4 --curriculum.epochs 20   one coarse level
    python sweeps/curriculum.py --data cifar100 --curriculum.levels 5 20       five parts, twenty, then all 100

`curriculum_full` is `full`, aligned with partitions of the teacher's classes first; the teacher itself is the same, and
so are all other terms. Curves show the margin of every level, and rows its certificate, a claim about these rows.
"""

import sys

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.fields import replaced
from certvae.spec.parts import Description
from certvae.spec.presets import rescue
from certvae.spec.rescue import Curriculum


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets, the curriculum beside it."""
    return replaced(rescue(data), "curriculum", Curriculum())


STUDY = Study(name="curriculum", about=__doc__ or "", data="digits", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
