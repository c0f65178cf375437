"""Columns of a row that follow from the spec of its cell: weights, the kind of teacher, and the teacher's verdict.

Nothing here is computed by a stage, so a column may be added or renamed without training anything again.
"""

from typing import Any

from certvae import quality, witness_chain
from certvae.spec import Baselines, CellSpec, Rescue
from certvae.witness_specs import Witness

LIVE = ("live_full", "live_no_align", "live_rescue")


def hyper_parameters(spec: CellSpec, mode: str) -> dict[str, float | None]:
    """The weights that searches vary, as columns of a row."""
    match spec.protocol:
        case Rescue(objective=goal):
            return {"alpha_kl": goal.alpha_kl, "lambda_ts": goal.lambda_ts, "lambda_bal": goal.lambda_bal}
        case Baselines(baselines=baselines):
            weights = {baseline.name: baseline.alpha_kl for baseline in baselines}
            return {"alpha_kl": weights[mode], "lambda_ts": 0.0, "lambda_bal": 0.0}
        case Witness():
            return witness_chain.hyper_parameters(spec, spec.protocol, mode)


def teaching(spec: CellSpec, mode: str) -> dict[str, str | int | None]:
    """How the teacher of a mode came about: rows that differ here answer different questions and are not pooled.

    teacher_features  `frozen`: T is a function of x; `live`: it drifts with the encoder
    teacher_seed      the seed whose teacher all seeds share, or None where each searches its own
    """
    features = "live" if mode in LIVE else "frozen"
    match spec.protocol:
        case Rescue(teacher_seed=teacher_seed):
            return {"teacher_features": features, "teacher_seed": teacher_seed}
        case Baselines() | Witness():
            return {"teacher_features": features, "teacher_seed": None}


def verdict(spec: CellSpec, facts: dict[str, Any]) -> quality.Verdict:
    """Quality control of the teacher numbers of a row."""
    match spec.protocol:
        case Rescue(teacher=teacher) | Baselines(teacher=teacher):
            return quality.judge(quality.from_row(facts), teacher.thresholds)
        case Witness(teacher=teacher):
            return witness_chain.verdict(teacher, facts)
