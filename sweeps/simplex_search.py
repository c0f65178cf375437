"""Search over alpha_kl, lambda_ts and beta of the simplex witness: the largest margin that reconstruction can afford.

    python sweeps/simplex_search.py --search 32                                    MNIST, PCA-GMM teacher
    python sweeps/simplex_search.py --search 4 --data digits                       a first look in two minutes
    python sweeps/simplex_search.py --search 32 --modes vae rst --goal.mode rst    the joint mode without a prefit

Every config runs on three search seeds and is judged on the guard split; the winner runs on five fresh seeds and opens
the certify split, once.
"""

import sys
from dataclasses import replace

from optuna.trial import BaseTrial

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.parts import Description, SimplexHead
from certvae.spec.presets import protocol_of, witness


def preset(data: str | Description) -> CellSpec:
    """The searched mode, and the plain VAE that reconstruction is held against."""
    base = witness(data)
    return replace(base, protocol=replace(protocol_of(base), modes=("vae", "rst_alpha_prefit")))


def space(trial: BaseTrial, base: CellSpec) -> CellSpec:
    """alpha_kl, lambda_ts and beta, in coordinates that the model can tell apart.

    Without reconstruction the equilibrium margin depends on lambda_ts beta^2 / alpha_kl alone: the search draws that
    ratio, alpha_kl, and beta at a fixed ratio, which sets the radius of the code against the posterior noise; lambda_ts
    follows. The teacher stays: a search over K or smoothing would only buy a larger I_T. No view, as tau, is drawn.
    """
    protocol = protocol_of(base)
    alpha_kl = trial.suggest_float("alpha_kl", protocol.alpha_kl / 4, protocol.alpha_kl * 8, log=True)
    ratio = trial.suggest_float("alignment_ratio", 2.5, 250.0, log=True)
    beta = trial.suggest_float("beta", 2.0, 10.0, log=True)
    searched = replace(protocol, alpha_kl=alpha_kl, lambda_ts=ratio * alpha_kl / beta**2)
    return replace(base, model=replace(base.model, head=replace(head_of(base), beta=beta)), protocol=searched)


def head_of(base: CellSpec) -> SimplexHead:
    """The fixed head of a cell. Raises: TypeError for a learned one, which this protocol refuses."""
    if not isinstance(base.model.head, SimplexHead):
        raise TypeError(f"a simplex head is needed, got {type(base.model.head).__name__}")
    return base.model.head


STUDY = Study(
    name="simplex_search",
    about=__doc__ or "",
    data="mnist",
    preset=preset,
    space=space,
    goal=Goal(mode="rst_alpha_prefit", reference="vae", score="mean", psnr_drop=1.5),
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
