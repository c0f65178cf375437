"""How compressive may a code be? The largest KL weight at which it stays alive and its head certified, in all seeds.

    python sweeps/largest_kl.py --search 24                                 digits, full: the forecast says 5.8
    python sweeps/largest_kl.py --search 24 --objective.lambda-ts 20        more alignment, a larger weight
    python sweeps/largest_kl.py --search 24 --goal.mode guarded_full --controller guard

alpha_kl alone is searched, from that of the preset to a thousand times as much, and judged on guard rows. A config is
feasible where every seed has a channel that is alive and a head that is certified, and the largest feasible one wins;
the winner runs on fresh seeds and opens the certify split, once.
"""

import sys
from dataclasses import replace

from optuna.trial import BaseTrial

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue

RANGE = 1000.0


def space(trial: BaseTrial, base: CellSpec) -> CellSpec:
    """alpha_kl in log scale, upwards from the base; warm-up and teacher are shared by all configs."""
    if not isinstance(base.protocol, Rescue):
        raise TypeError(f"a rescue chain is needed, got {type(base.protocol).__name__}")
    goal = base.protocol.objective
    drawn = trial.suggest_float("alpha_kl", goal.alpha_kl, RANGE * goal.alpha_kl, log=True)
    return replace(base, protocol=replace(base.protocol, objective=replace(goal, alpha_kl=drawn)))


STUDY = Study(
    name="largest_kl",
    about=__doc__ or "",
    data="digits",
    preset=rescue,
    space=space,
    goal=Goal(kind="max_kl", mode="full", psnr_drop=None),
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
