"""The model of a search: the largest certified margin that reconstruction can afford. Copy this file for your own.

    python sweeps/search_margin_psnr.py --search 64 --data digits
    python sweeps/search_margin_psnr.py --search 64 --race 0.9 --goal.psnr-drop 1.0
    python sweeps/search_margin_psnr.py --search 64 --goal.pareto        margin and PSNR as two objectives

Every config runs on three search seeds and is judged on the guard split; the winner runs on five fresh seeds and opens
the certify split, once.
"""

import sys

from certvae.engine.main import main
from certvae.engine.space import weights
from certvae.engine.study import Study
from certvae.spec.goal import Goal
from certvae.spec.presets import rescue

STUDY = Study(
    name="search_margin_psnr",
    about=__doc__ or "",
    data="tiny-imagenet-200",
    preset=rescue,
    space=weights,
    goal=Goal(mode="full", reference="no_align", score="mean", psnr_drop=1.5),
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
