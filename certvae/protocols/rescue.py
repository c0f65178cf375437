"""The graph of a cell of the first paper, as calls of `call(step, stage, *inputs)` (arXiv 2605.05813).

warm_up -> teacher -> full
                   -> no_align -> rescue            rescue differs from full by its start alone
                               -> protected_rescue  the same, a used head training in the raw head's place
                   -> live_full, live_no_align -> live_rescue        the same three under a teacher that drifts
                   -> vanilla, beta_vae_low, ...                     baselines, each from scratch
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from certvae.certificate import Pairs, certify
from certvae.data.dataset import Dataset, Split
from certvae.evaluation import diagnostics
from certvae.evaluation import facts as judgement
from certvae.evaluation.diagnostics import head_logits
from certvae.evaluation.facts import Exam
from certvae.models.nets import Vae
from certvae.protocols import baselines as baselines_of
from certvae.protocols import stages
from certvae.protocols import trained as fitted
from certvae.protocols.trained import network, teacher_rows
from certvae.quality import measure
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Model, Training
from certvae.spec.rescue import Objective, Protection, Rescue, Unaligned
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage
from certvae.teachers.kinds import FeatureTeacher
from certvae.training import used_head
from certvae.training.losses import chain_loss

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
        found[PROTECTED] = call(PROTECTED, protected, *given)
    if protocol.live_features:
        found |= _live(spec, goal, dataset, call, start, teacher)
    return read, teacher, found


def _live(
    spec: CellSpec, goal: Objective, dataset: Dataset | Data, call: Call, start: Any, teacher: Any
) -> dict[str, Any]:
    model, schedule = spec.model, (spec.training, spec.seed)
    full = call("live_full", live_aligned, dataset, model, goal, *schedule, start, teacher)
    ended = call("live_no_align", live_no_align, dataset, model, goal.unaligned(), *schedule, start, teacher)
    rescued = call("live_rescue", live_aligned, dataset, model, goal, *schedule, ended, teacher)
    return {"live_full": full, "live_no_align": ended, "live_rescue": rescued}


def baselines(spec: CellSpec, protocol: Baselines, dataset: Dataset | Data, call: Call) -> Taught:
    """Networks that nobody aligned, each from scratch, beside the teacher they are held against."""
    read, teacher = _taught(spec, protocol, None, dataset, call)
    given = (spec.training, spec.seed, teacher)
    found = {
        baseline.name: call(baseline.name, baselines_of.baseline, dataset, spec.model, baseline, *given)
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


@stage(version=1)
def live_aligned(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective towards a teacher that reads the features of this very encoder."""
    goal = objective.unaligned()
    return _train(dataset, model, goal, objective.lambda_ts, training, seed, start, teacher, "live_aligned", bench)


@stage(version=1)
def live_no_align(
    dataset: Dataset,
    model: Model,
    objective: Unaligned,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """Without alignment; the teacher that is recorded, and that the decoder may see, drifts all the same."""
    return _train(dataset, model, objective, 0.0, training, seed, start, teacher, "live_no_align", bench)


@stage(version=2)
def judge_live(
    dataset: Dataset,
    model: Model,
    seed: int,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `judge`, against the rows that the teacher shows on the features of the trained network."""
    vae = network(dataset, model, teacher.facts["classes"], trained, bench)
    live = FeatureTeacher.of(teacher, bench.device)
    cached = teacher_rows(dataset, model, warm, teacher, split, bench)
    batches = diagnostics.evaluation(dataset, split, cached, bench)
    seen = diagnostics.passage(vae, batches, live)
    exam = Exam(
        vae=vae,
        batches=batches,
        seen=seen,
        teacher=live.rows(seen.mu),
        split=split,
        looks=looks,
        eps=teacher.facts["smoothing"],
        targets=live,
    )
    facts = judgement.facts(exam, dataset.std, seed)
    known = {**judgement.teacher_quality(cached), "teacher_source": teacher.facts["source"]}
    return judgement.content(exam, {**facts, **known, "teacher_drift": drift(cached, exam.teacher, split)})


def drift(cached: Float[np.ndarray, "n K"], live: Float[np.ndarray, "n K"], split: Split) -> float:
    """E KL(Q || T_live), nats; infinite where the live teacher excludes what the cached one holds possible."""
    with np.errstate(divide="ignore"):
        log_live = np.log(live.astype(np.float64))
    return certify(Pairs(teacher=cached, log_student=log_live, split=split)).loss


def _train(
    dataset: Dataset,
    model: Model,
    goal: Unaligned,
    lambda_ts: float,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    name: str,
    bench: Workbench,
) -> Content:
    vae = network(dataset, model, teacher.facts["classes"], start, bench)
    live = FeatureTeacher.of(teacher, bench.device)
    loss = chain_loss(model, goal, lambda_ts, targets=live)
    evaluate = _on_guard(dataset, teacher.arrays["targets_guard"], live, bench)
    return fitted.train(vae, dataset, teacher, loss, training, name, seed, bench, evaluate=evaluate)


def _on_guard(
    dataset: Dataset, cached: Float[np.ndarray, "n K"], live: FeatureTeacher, bench: Workbench
) -> Callable[[Vae], dict[str, float | None]]:
    """The numbers of a curve point against the teacher as it is now, and how far it has moved."""
    batches = diagnostics.evaluation(dataset, "guard", cached, bench)

    def numbers(vae: Vae) -> dict[str, float | None]:
        seen = diagnostics.passage(vae, batches, live)
        rows = live.rows(seen.mu)
        moved = drift(cached, rows, "guard")
        return diagnostics.guard_numbers(vae.head, seen, rows) | {
            "guard_drift": moved if math.isfinite(moved) else None
        }

    return numbers


@stage(version=1)
def protected(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    protection: Protection,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective; while the raw head is below the buffer, a used head is aligned in its place."""
    vae = network(dataset, model, teacher.facts["classes"], start, bench)
    align = used_head.protected_alignment(protection, measure(teacher.arrays["targets_train"]).info)
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts, align=align)
    return fitted.train(vae, dataset, teacher, loss, training, "protected", seed, bench)


@stage(version=2)
def judge_protected(
    dataset: Dataset,
    model: Model,
    protection: Protection,
    seed: int,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `judge`: the certificate is that of the raw head. What the used head says stands beside it as `used_*`."""
    targets = teacher_rows(dataset, model, warm, teacher, split, bench)
    vae = network(dataset, model, targets.shape[1], trained, bench)
    exam = judgement.exam(vae, dataset, targets, split, looks, teacher.facts["smoothing"], bench)
    facts = judgement.facts(exam, dataset.std, seed)
    guard = _log_student(vae, dataset, teacher.arrays["targets_guard"], bench)
    used = used_head.diagnose(
        protection,
        (teacher.arrays["targets_guard"], guard),
        (targets, exam.pairs(exam.raw_logits()).log_student),
        split=split,
    )
    beside = {"used_loss": used.loss, "used_margin": used.margin, "teacher_source": teacher.facts["source"]}
    return judgement.content(exam, {**facts, **beside})


def _log_student(
    vae: Vae, dataset: Dataset, targets: Float[np.ndarray, "n K"], bench: Workbench
) -> Float[np.ndarray, "n K"]:
    """Rows of the raw head on the guard split, on which the map of the used head is fitted."""
    logits = head_logits(vae.head, diagnostics.features(vae, dataset, "guard", bench))
    return Pairs.from_logits(targets, logits, split="guard").log_student
