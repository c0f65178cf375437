"""Stages of a live teacher: the chosen mixture read on the features of the encoder that is being trained.

The printed CIFAR-100 tables of arXiv 2605.05813 show another I_T for every mode of one seed, which no function of x
does: that teacher moved with the encoder. These stages reproduce it and log how far it moves,

    drift = E KL(Q || T_live)    nats, Q the cache of the frozen teacher, on guard rows in curves, on the split in rows

T_live carries no gradient. Its rows bear `teacher_features = "live"` and modes of their own, and are never pooled with
those of the frozen teacher, whose quality they show: that is what was known when training began.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from certvae import diagnostics, fitted, judgement
from certvae.certificate import Pairs, certify
from certvae.data import Dataset, Split
from certvae.fitted import network, teacher_rows
from certvae.judgement import Exam
from certvae.losses import chain_loss
from certvae.nets import Vae
from certvae.spec import Model, Objective, Training, Unaligned
from certvae.store import Artifact, Content, Workbench, stage
from certvae.targets import FeatureTeacher


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


@stage(version=1)
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
    batches = fitted.evaluation(dataset, split, cached, bench)
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
    batches = fitted.evaluation(dataset, "guard", cached, bench)

    def numbers(vae: Vae) -> dict[str, float | None]:
        seen = diagnostics.passage(vae, batches, live)
        rows = live.rows(seen.mu)
        moved = drift(cached, rows, "guard")
        return diagnostics.guard_numbers(vae.head, seen, rows) | {
            "guard_drift": moved if math.isfinite(moved) else None
        }

    return numbers
