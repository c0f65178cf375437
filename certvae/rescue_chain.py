"""The graph of a cell of the first paper, as calls of `call(step, stage, *inputs)` (arXiv 2605.05813).

warm_up -> teacher -> full
                   -> no_align -> rescue            rescue differs from full by its start alone
                               -> protected_rescue  the same, a used head training in the raw head's place
                   -> live_full, live_no_align -> live_rescue        the same three under a teacher that drifts
                   -> vanilla, beta_vae_low, ...                     baselines, each from scratch
"""

from collections.abc import Callable
from typing import Any

from certvae import stages
from certvae.data import Dataset
from certvae.spec import Baselines, CellSpec, Data, Objective, Rescue

Call = Callable[..., Any]
Taught = tuple[Any, Any, dict[str, Any]]
"""The warm-up that the teacher read, the teacher, and the networks by mode in the order of tables."""
PROTECTED = "protected_rescue"


def rescue(spec: CellSpec, protocol: Rescue, dataset: Dataset | Data, call: Call) -> Taught:
    """full, no_align and rescue under one frozen teacher, and the variants that the protocol asks for."""
    model, goal, schedule = spec.model, protocol.objective, (spec.training, spec.seed)
    read, teacher = _taught(spec, protocol, protocol.teacher_seed, dataset, call)
    start = read
    if protocol.teacher_seed is not None:
        classes = protocol.teacher.classes
        start = call("warm_up", stages.warm_up, dataset, model, classes, protocol.warm_up, spec.seed)
    ended = call("no_align", stages.no_align, dataset, model, goal.unaligned(), *schedule, start, teacher)
    full = call("full", stages.aligned, dataset, model, goal, *schedule, start, teacher)
    rescued = call("rescue", stages.aligned, dataset, model, goal, *schedule, ended, teacher)
    found = {"full": full, "no_align": ended, "rescue": rescued}
    if (protection := protocol.protection) is not None:
        given = (dataset, model, goal, protection, *schedule, ended, teacher)
        found[PROTECTED] = call(PROTECTED, stages.protected, *given)
    if protocol.live_features:
        found |= _live(spec, goal, dataset, call, start, teacher)
    return read, teacher, found


def _live(
    spec: CellSpec, goal: Objective, dataset: Dataset | Data, call: Call, start: Any, teacher: Any
) -> dict[str, Any]:
    model, schedule = spec.model, (spec.training, spec.seed)
    full = call("live_full", stages.live_aligned, dataset, model, goal, *schedule, start, teacher)
    ended = call("live_no_align", stages.live_no_align, dataset, model, goal.unaligned(), *schedule, start, teacher)
    rescued = call("live_rescue", stages.live_aligned, dataset, model, goal, *schedule, ended, teacher)
    return {"live_full": full, "live_no_align": ended, "live_rescue": rescued}


def baselines(spec: CellSpec, protocol: Baselines, dataset: Dataset | Data, call: Call) -> Taught:
    """Networks that nobody aligned, each from scratch, beside the teacher they are held against."""
    read, teacher = _taught(spec, protocol, None, dataset, call)
    given = (spec.training, spec.seed, teacher)
    found = {
        baseline.name: call(baseline.name, stages.baseline, dataset, spec.model, baseline, *given)
        for baseline in protocol.baselines
    }
    return read, teacher, found


def _taught(
    spec: CellSpec, protocol: Rescue | Baselines, teacher_seed: int | None, dataset: Dataset | Data, call: Call
) -> tuple[Any, Any]:
    """The warm-up that a teacher reads features of, and the teacher: of this seed, or of one for all seeds."""
    step, seed = ("warm_up", spec.seed) if teacher_seed is None else ("teacher_warm_up", teacher_seed)
    model, classes = spec.model, protocol.teacher.classes
    read = call(step, stages.warm_up, dataset, model, classes, protocol.warm_up, seed)
    return read, call("teacher", stages.teacher, dataset, model, protocol.teacher, seed, read)
