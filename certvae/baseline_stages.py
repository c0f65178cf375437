"""Stages of the baseline VAEs: trained from scratch, held against the frozen teacher of the same seed.

dataset -> warm_up -> teacher -> baseline -> judge_baseline, posthoc_baseline       (arXiv 2605.05813, baselines)
"""

from certvae import baselines, fitted, judgement
from certvae.baseline_specs import Baseline
from certvae.baselines import QuantisedEncoder
from certvae.canonical import stage_seed
from certvae.data import Dataset, Split
from certvae.fitted import teacher_rows
from certvae.judgement import Exam
from certvae.nets import load_weights
from certvae.spec import Model, Training
from certvae.store import Artifact, Content, Workbench, stage


@stage(version=3)
def baseline(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    training: Training,
    seed: int,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """A baseline from the initialisation of the warm-up; the teacher is read for the curve, and by no gradient."""
    initial = stage_seed(seed, "init")
    vae = baselines.network(baseline, model, dataset.shape, teacher.facts["classes"], initial).to(bench.device)
    if isinstance(vae.encoder, QuantisedEncoder):
        rows = fitted.evaluation(dataset, "train", None, bench)
        baselines.place_codes(vae.encoder, (batch.x for batch in rows.in_order()), initial)
    loss = baselines.loss(baseline, model, training)
    return fitted.train(vae, dataset, teacher, loss, training, baseline.name, seed, bench)


@stage(version=1)
def judge_baseline(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    seed: int,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `judge`, with what only this baseline has."""
    exam = _exam(dataset, model, baseline, split, looks, warm, teacher, trained, bench)
    facts = judgement.facts(exam, dataset.std, seed) | {"teacher_source": teacher.facts["source"]}
    return judgement.content(exam, {**facts, **baselines.facts(baseline, exam.vae, exam.seen)})


@stage(version=1)
def posthoc_baseline(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    seed: int,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `posthoc`."""
    exam = _exam(dataset, model, baseline, split, looks, warm, teacher, trained, bench)
    return Content({}, judgement.finite(judgement.posthoc_facts(exam, dataset, teacher, seed, bench)))


def _exam(
    dataset: Dataset,
    model: Model,
    baseline: Baseline,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    bench: Workbench,
) -> Exam:
    targets = teacher_rows(dataset, model, warm, teacher, split, bench)
    vae = baselines.network(baseline, model, dataset.shape, targets.shape[1], seed=0)
    load_weights(vae, trained.arrays)
    smoothing = teacher.facts["smoothing"]
    return judgement.exam(vae.to(bench.device), dataset, targets, split, looks, smoothing, bench)
