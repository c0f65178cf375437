"""Tiny-ImageNet-200 with a fixed cached teacher: full, no_align and rescue per seed (arXiv 2605.05813, fixed-Q study).

python sweeps/tiny_fixed_q.py                     the paper's protocol, seeds 0 1 2
python sweeps/tiny_fixed_q.py --data digits       the same chain on scikit-learn's digits, in a minute
"""

import sys

from certvae.engine.main import main
from certvae.engine.space import weights
from certvae.engine.study import Study
from certvae.spec.presets import rescue

STUDY = Study(name="tiny_fixed_q", about=__doc__ or "", data="tiny-imagenet-200", preset=rescue, space=weights)

if __name__ == "__main__":
    sys.exit(main(STUDY))
