"""Stages of the simplex witness (arXiv 2605.18224): the teacher first, then networks that differ by their start.

    labels_teacher | pca_teacher          the teacher never reads an encoder
    vae                                   knows no teacher, lambda_ts or beta: one run serves a whole sweep of them
    initial -> aligned                    rst
    initial -> prefit -> aligned          rst_prefit and rst_alpha_prefit
    collapsed | vae | prefit -> escape    the same objective, watched step by step
    each trained artifact -> judge_witness, fair_witness

`aligned` is the stage of `certvae.stages`: the fixed head takes the place of a learned one.
"""

import numpy as np

from certvae import data_teacher, fitted, judgement, subspace
from certvae.canonical import stage_seed
from certvae.data import Dataset, Split
from certvae.judgement import Exam
from certvae.losses import chain_loss, code_loss
from certvae.nets import SimplexWitness, Vae, build, weights
from certvae.objective import NAMES
from certvae.spec import Bernoulli, Conv, Gaussian, Mlp, Model, Objective, SimplexHead, Training, Unaligned
from certvae.store import Artifact, Content, Workbench, stage
from certvae.training import Batches, fit
from certvae.witness_facts import fair_facts, witness_facts
from certvae.witness_specs import Labels, PcaGmm

NO_CLASSES = 2  # a witness has no weights, so any number of classes stands for it where no teacher is known yet


@stage(version=2)
def labels_teacher(dataset: Dataset, teacher: Labels, *, bench: Workbench) -> Content:  # noqa: ARG001 - nothing is fitted
    """Smoothed labels; the same for every seed."""
    return data_teacher.label_content(dataset, teacher)


@stage(version=2)
def pca_teacher(dataset: Dataset, teacher: PcaGmm, seed: int, *, bench: Workbench) -> Content:
    """A PCA-GMM search on pixels."""
    return data_teacher.pixel_content(dataset, teacher, seed, bench)


@stage(version=1)
def vae(
    dataset: Dataset,
    encoder: Mlp | Conv,
    likelihood: Gaussian | Bernoulli,
    objective: Unaligned,
    training: Training,
    seed: int,
    *,
    bench: Workbench,
) -> Content:
    """L_rec + alpha_kl L_KL from the initialisation that the aligned modes of the seed share."""
    model = _without_teacher(encoder, likelihood)
    network = build(model, dataset.shape, NO_CLASSES, stage_seed(seed, "init")).to(bench.device)
    return fitted.train(network, dataset, None, chain_loss(model, objective, 0.0), training, "vae", seed, bench)


@stage(version=1)
def initial(dataset: Dataset, encoder: Mlp | Conv, seed: int, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The untrained network of a seed."""
    model = _without_teacher(encoder, Gaussian())
    return Content(weights(build(model, dataset.shape, NO_CLASSES, stage_seed(seed, "init"))), {})


@stage(version=1)
def collapsed(start: Artifact, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The same network with exactly constant means: the layer before them is zeroed."""
    arrays = {name: np.zeros_like(a) if name.startswith("encoder.mu.") else a for name, a in start.arrays.items()}
    return Content(arrays, {})


@stage(version=1)
def prefit(
    dataset: Dataset,
    model: Model,
    scale: float,
    rest_weight: float,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """Encoder means fitted to the scaled analytic code of the teacher; decoder and variances are left as they are."""
    network = fitted.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = code_loss(witness_of(network), scale, rest_weight)
    return fitted.train(network, dataset, teacher, loss, training, "prefit", seed, bench)


@stage(version=1)
def escape(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    steps_per_point: int,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The aligned objective from a low-margin start; an epoch is cut to a few steps, and epoch 0 is the start itself.

    Points show besides the usual guard numbers the norm of d L_TS / d parameters on the guard rows.
    """
    network = fitted.network(dataset, model, teacher.facts["classes"], start, bench)
    arrays = teacher.arrays
    batches = Batches(dataset, "train", arrays["targets_train"], training.batch_size, bench.device)
    batches.steps = min(batches.steps, steps_per_point)
    watched = fitted.evaluation(dataset, "guard", arrays["targets_guard"], bench)
    on_guard = fitted.on_guard(dataset, arrays["targets_guard"], bench)

    def evaluate(network: Vae) -> dict[str, float | None]:
        return {**on_guard(network), "guard_gradient_norm": subspace.gradient_norm(network, watched)}

    first = {"epoch": 0, **dict.fromkeys(NAMES), **evaluate(network)}
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts)
    given = {"stage": "escape", "seed": seed, "bench": bench, "evaluate": evaluate}
    curve = fit(network, loss, batches, training, **given)
    return Content(weights(network), {"curve": [first, *curve], "steps_per_point": batches.steps})


@stage(version=2)
def judge_witness(
    dataset: Dataset,
    model: Model,
    seed: int,
    split: Split,
    looks: int,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `judge`, with the witness subspace, the decoder's use of it, and the view gap of the teacher."""
    exam = _exam(dataset, model, split, looks, teacher, trained, bench)
    found = witness_facts(exam, witness_of(exam.vae), model.likelihood, teacher, seed)
    gap = data_teacher.read(teacher, bench.device).view_gap(dataset, split)
    return judgement.content(exam, {**judgement.facts(exam, dataset.std, seed), **found, "view_gap": gap})


@stage(version=1)
def fair_witness(
    dataset: Dataset,
    model: Model,
    seed: int,
    split: Split,
    looks: int,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The best rotation and affine heads of a network on one split, and the witness on the train rows."""
    exam = _exam(dataset, model, split, looks, teacher, trained, bench)
    found = fair_facts(exam, witness_of(exam.vae), model.likelihood, dataset, teacher, seed, bench)
    return Content({}, judgement.finite(found))


def _exam(
    dataset: Dataset,
    model: Model,
    split: Split,
    looks: int,
    teacher: Artifact,
    trained: Artifact,
    bench: Workbench,
) -> Exam:
    """Teacher rows are cached for train and guard, and read when certify is opened."""
    known = teacher.facts
    if split == "certify":
        targets = data_teacher.read(teacher, bench.device).rows(dataset, split)
    else:
        targets = teacher.arrays[f"targets_{split}"]
    network = fitted.network(dataset, model, known["classes"], trained, bench)
    return judgement.exam(network, dataset, targets, split, looks, known["smoothing"], bench)


def witness_of(network: Vae) -> SimplexWitness:
    """The fixed head of a network.

    Raises:
        TypeError: for a learned head, which a checked spec of this protocol cannot have.
    """
    if not isinstance(network.head, SimplexWitness):
        raise TypeError(f"a simplex witness is needed, got a {type(network.head).__name__}")
    return network.head


def _without_teacher(encoder: Mlp | Conv, likelihood: Gaussian | Bernoulli) -> Model:
    return Model(encoder=encoder, head=SimplexHead(), likelihood=likelihood, decoder_sees_teacher=False)
