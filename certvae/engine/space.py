"""Spaces that several studies search: functions of an Optuna trial and a base cell, as a study of yours writes them."""

from collections.abc import Callable
from dataclasses import replace

from optuna.trial import BaseTrial

from certvae.spec.cell import CellSpec
from certvae.spec.rescue import Rescue
from certvae.spec.validation import refuse

Space = Callable[[BaseTrial, CellSpec], CellSpec]
"""Draws a config: suggests values on the trial and puts them into the base."""


def weights(trial: BaseTrial, base: CellSpec) -> CellSpec:
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
    if usual <= 0:
        raise refuse("Objective.alpha_kl", "> 0 to be searched in log scale", usual, "give a base such as 1.0")
    goal = replace(
        protocol.objective,
        alpha_kl=trial.suggest_float("alpha_kl", usual / 10, usual * 10, log=True),
        lambda_ts=trial.suggest_float("lambda_ts", 0.3, 30.0, log=True),
    )
    return replace(base, protocol=replace(protocol, objective=goal))
