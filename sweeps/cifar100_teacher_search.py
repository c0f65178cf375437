"""CIFAR-100, one teacher search per seed: full, no_align and rescue under it (arXiv 2605.05813, main study).

    python sweeps/cifar100_teacher_search.py                       the paper's protocol, seeds 0 1 2
    python sweeps/cifar100_teacher_search.py --no-live-features    without the drifting teacher
    python sweeps/cifar100_teacher_search.py --data digits         the same chains on scikit-learn's digits

Each seed has its own warm-up and its own search. A search that finds no strict-feasible candidate runs its best one all
the same, as a stress case: its rows bear the reason, are listed one by one and never enter a mean. Two teachers are
trained towards, from the same warm-up: the frozen one, a function of x, and the live one (modes live_*), which reads
the features of the encoder in training and drifts with it, as the printed table implies.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets, with the live teacher beside the frozen one."""
    base = rescue(data)
    return replace(base, protocol=replace(base.protocol, live_features=True))


STUDY = Study(name="cifar100_teacher_search", about=__doc__ or "", data="cifar100", preset=preset)

if __name__ == "__main__":
    sys.exit(main(STUDY))
