"""One cell, top to bottom: train the chain, then judge it. The graph of stages is the calls below.

warm_up -> teacher -> full
                   -> no_align -> rescue            rescue differs from full by its start alone
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from certvae import environment, quality, stages
from certvae.canonical import digest, plain
from certvae.data import Dataset, Split
from certvae.errors import NumberFault, TeacherFault
from certvae.spec import CellSpec, Rescue
from certvae.store import Artifact, Stage, Store

Outcome = Literal["ok", "diverged", "infeasible_teacher"]
Row = dict[str, Any]
Announce = Callable[[str], None]
VERSIONED = ("certvae", "torch", "numpy", "scikit-learn")


def silent(step: str) -> None:
    """Hears which step begins, and says nothing."""


@dataclass(frozen=True)
class Failed:
    """A deterministic outcome that is not a network: it takes the place of an artifact, and of all that follow it."""

    outcome: Outcome
    reason: str


Ended = Artifact | Failed
Call = Callable[..., Ended]


@dataclass(frozen=True)
class Chain:
    """What training a cell left behind: all modes share one teacher, and one warm-up where its features come from."""

    spec: CellSpec
    warm: Ended
    teacher: Ended
    modes: Mapping[str, Ended]


def steps(spec: CellSpec) -> tuple[str, ...]:
    """What a cell does, in order; the modes are among them."""
    match spec.protocol:
        case Rescue():
            return ("warm_up", "teacher", "no_align", "full", "rescue", "judge")


def modes(spec: CellSpec) -> tuple[str, ...]:
    """The networks of a cell that are judged, in the order of tables."""
    match spec.protocol:
        case Rescue():
            return ("full", "no_align", "rescue")


def train(spec: CellSpec, dataset: Dataset, store: Store, announce: Announce = silent) -> Chain:
    """All stages of a cell, each computed once per store.

    Args:
        announce: hears which step begins; all steps before it are published then.
    """

    def call(step: str, stage: Stage, *inputs: Any) -> Ended:
        announce(step)
        return _call(store, stage, *inputs)

    match spec.protocol:
        case Rescue():
            return _rescue(spec, spec.protocol, dataset, call)


def _rescue(spec: CellSpec, protocol: Rescue, dataset: Dataset, call: Call) -> Chain:
    model, seed, goal, schedule = spec.model, spec.seed, protocol.objective, (spec.training, spec.seed)
    warm = call("warm_up", stages.warm_up, dataset, model, protocol.teacher.classes, protocol.warm_up, seed)
    teacher = call("teacher", stages.teacher, dataset, model, protocol.teacher, seed, warm)
    ended = call("no_align", stages.no_align, dataset, model, goal.unaligned(), *schedule, warm, teacher)
    full = call("full", stages.aligned, dataset, model, goal, *schedule, warm, teacher)
    rescued = call("rescue", stages.aligned, dataset, model, goal, *schedule, ended, teacher)
    return Chain(spec, warm, teacher, {"full": full, "no_align": ended, "rescue": rescued})


def judge(chain: Chain, dataset: Dataset, store: Store, split: Split, looks: int = 1) -> list[Row]:
    """One row per mode on one split, published in the store.

    Args:
        looks: how many configs of the study may open this split: every bound uses delta / looks.
    """
    rows = []
    for mode, trained in chain.modes.items():
        place = (split, looks, chain.warm, chain.teacher, trained)
        judged = _call(store, stages.judge, dataset, chain.spec.model, chain.spec.seed, *place)
        rows.append(_row(chain, mode, split, dataset, judged))
        store.put_row(rows[-1])
    return rows


def shared(spec: CellSpec) -> dict[str, str]:
    """Steps that cells with other hyper-parameters may need too, by a digest of all that each reads."""
    match spec.protocol:
        case Rescue(warm_up=warm_up, teacher=teacher, objective=goal):
            warm = [spec.data, spec.model, teacher.classes, warm_up, spec.seed]
            found = [*warm, teacher]
            ended = [*found, goal.unaligned(), spec.training]
            return {"warm_up": digest(warm), "teacher": digest(found), "no_align": digest(ended)}


def _call(store: Store, stage: Stage, *inputs: Any) -> Ended:
    """A stage of the store; failures of its inputs and its own deterministic ones are passed on as values."""
    for given in inputs:
        if isinstance(given, Failed):
            return given
    try:
        return store.call(stage, *inputs)
    except NumberFault as fault:
        return Failed("diverged", str(fault))
    except TeacherFault as fault:
        return Failed("infeasible_teacher", str(fault))


def _row(chain: Chain, mode: str, split: Split, dataset: Dataset, judged: Ended) -> Row:
    spec = chain.spec
    named = {
        "study": spec.study,
        "cell": spec.cell,
        "config": spec.config,
        "seed": spec.seed,
        "mode": mode,
        "split": split,
        "classes": spec.protocol.teacher.classes,
        "data": spec.data.name,
        "data_digest": dataset.digest,
        "substitute": dataset.substitute,
        **hyper_parameters(spec),
        "spec": plain(spec),
        "environment": digest(environment.fingerprint(environment.device())),
        **{f"key_{name}": ended.key for name, ended in _artifacts(chain, mode, judged).items()},
        **{f"version_{name}": metadata.version(name) for name in VERSIONED},
        **{f"stage_version_{stage.name}": stage.version for stage in stages.STAGES},
    }
    if isinstance(judged, Failed):
        return {**named, "outcome": judged.outcome, "reason": judged.reason}
    facts = judged.facts
    verdict = quality.judge(quality.from_row(facts), spec.protocol.teacher.thresholds)
    return {
        **named,
        **facts,
        "outcome": "ok",
        "reason": "",
        "teacher_status": verdict.status,
        "teacher_verdict": str(verdict),
    }


def hyper_parameters(spec: CellSpec) -> dict[str, float]:
    """The weights that searches vary, as columns of a row."""
    match spec.protocol:
        case Rescue(objective=goal):
            return {"alpha_kl": goal.alpha_kl, "lambda_ts": goal.lambda_ts, "lambda_bal": goal.lambda_bal}


def _artifacts(chain: Chain, mode: str, judged: Ended) -> dict[str, Artifact]:
    ended = {"warm_up": chain.warm, "teacher": chain.teacher, "trained": chain.modes[mode], "judged": judged}
    return {name: found for name, found in ended.items() if isinstance(found, Artifact)}
