"""CIFAR-100, one teacher for all seeds: only the students differ (arXiv 2605.05813, fixed-teacher control).

    python sweeps/cifar100_fixed_teacher.py                  the paper's protocol, seeds 0 1 2
    python sweeps/cifar100_fixed_teacher.py --data digits    the same chains on scikit-learn's digits

The teacher is that of seed 0, warm-up and search included; each seed then has a warm-up of its own for its students.
Seeds of this study share what those of cifar100_teacher_search draw anew, so the two are never pooled. A frozen
teacher has one I_T for all modes and seeds; the paper prints nine, from .0560 to .6799, which only a drifting one has.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue

TEACHER_SEED = 0


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets under the teacher of one seed."""
    base = rescue(data)
    return replace(base, protocol=replace(base.protocol, teacher_seed=TEACHER_SEED))


STUDY = Study(name="cifar100_fixed_teacher", about=__doc__ or "", data="cifar100", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
