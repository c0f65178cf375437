"""Stages of a protected rescue: a shared-safe used head trains, the raw head is certified (arXiv 2605.05813)."""

import numpy as np
from jaxtyping import Float

from certvae import fitted, judgement, used_head
from certvae.certificate import Pairs
from certvae.data import Dataset, Split
from certvae.diagnostics import head_logits
from certvae.fitted import network, teacher_rows
from certvae.losses import chain_loss
from certvae.nets import Vae
from certvae.quality import measure
from certvae.spec import Model, Objective, Protection, Training
from certvae.store import Artifact, Content, Workbench, stage


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


@stage(version=1)
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
    logits = head_logits(vae.head, fitted.features(vae, dataset, "guard", bench))
    return Pairs.from_logits(targets, logits, split="guard").log_student
