"""The model of a search: the largest certified margin that reconstruction can afford. Copy this file for your own.

    python sweeps/search_margin_psnr.py --search 64 --data digits
    python sweeps/search_margin_psnr.py --search 64 --sampler gp --goal.psnr-drop 1.0
    python sweeps/search_margin_psnr.py --search 64 --goal.pareto        margin and PSNR as two objectives

Every config runs on three search seeds and is judged on the guard split; the winner runs on five fresh seeds and opens
the certify split, once.
"""

import sys
from dataclasses import replace

from optuna.trial import BaseTrial

from certvae.goal import Goal
from certvae.spec import CellSpec, Rescue
from sweeps.driver import main
from sweeps.presets import rescue
from sweeps.study import Study


def space(trial: BaseTrial, base: CellSpec) -> CellSpec:
    """alpha_kl and lambda_ts around the base, both in log scale.

    What is identifiable: multiplying the objective by twice the observation variance shows that (variance, alpha_kl,
    lambda_ts, lambda_bal) has one redundant scale, so the variance stays fixed. Nothing here changes the teacher: the
    margin is at most I_T, so a search over K, smoothing or features would only buy a larger I_T. tau is not searched
    either: it shifts every margin alike, and is a view on stored rows.
    """
    protocol = base.protocol
    if not isinstance(protocol, Rescue):
        raise TypeError(f"this space searches a rescue chain, got {type(protocol).__name__}")
    usual = protocol.objective.alpha_kl
    goal = replace(
        protocol.objective,
        alpha_kl=trial.suggest_float("alpha_kl", usual / 10, usual * 10, log=True),
        lambda_ts=trial.suggest_float("lambda_ts", 0.3, 30.0, log=True),
    )
    return replace(base, protocol=replace(protocol, objective=goal))


STUDY = Study(
    name="search_margin_psnr",
    about=__doc__ or "",
    data="tiny-imagenet-200",
    preset=rescue,
    space=space,
    goal=Goal(mode="full", reference="no_align", score="mean", psnr_drop=1.5),
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
