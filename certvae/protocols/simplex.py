"""Stages of the simplex witness (arXiv 2605.18224): the teacher first, then networks that differ by their start.

    labels_teacher | pca_teacher          the teacher never reads an encoder
    vae                                   knows no teacher, lambda_ts or beta: one run serves a whole sweep of them
    initial -> aligned                    rst
    initial -> prefit -> aligned          rst_prefit and rst_alpha_prefit
    collapsed | vae | prefit -> escape    the same objective, watched step by step
    each trained artifact -> judge_witness, fair_witness

`aligned` is the stage of `stages`: the fixed head takes the place of a learned one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset, Split
from certvae.evaluation import diagnostics, facts, subspace
from certvae.evaluation.facts import Exam
from certvae.evaluation.simplex import fair_facts, witness_facts
from certvae.models.nets import SimplexWitness, Vae, build, weights
from certvae.protocols import stages
from certvae.protocols import trained as fitted
from certvae.quality import Verdict, from_row, judge
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Bernoulli, Conv, Data, Gaussian, Mlp, Model, SimplexHead, Training
from certvae.spec.rescue import Objective, Unaligned
from certvae.spec.simplex import ESCAPES, Labels, PcaGmm, Witness, WitnessMode
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage
from certvae.teachers import kinds
from certvae.training.batches import Batches
from certvae.training.loop import fit
from certvae.training.losses import chain_loss, code_loss
from certvae.training.objective import NAMES

NO_CLASSES = 2  # a witness has no weights, so any number of classes stands for it where no teacher is known yet


@stage(version=2)
def labels_teacher(dataset: Dataset, teacher: Labels, *, bench: Workbench) -> Content:  # noqa: ARG001 - nothing is fitted
    """Smoothed labels; the same for every seed."""
    return kinds.label_content(dataset, teacher)


@stage(version=2)
def pca_teacher(dataset: Dataset, teacher: PcaGmm, seed: int, *, bench: Workbench) -> Content:
    """A PCA-GMM search on pixels."""
    return kinds.pixel_content(dataset, teacher, seed, bench)


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
    watched = diagnostics.evaluation(dataset, "guard", arrays["targets_guard"], bench)
    on_guard = fitted.on_guard(dataset, arrays["targets_guard"], bench)

    def evaluate(network: Vae) -> dict[str, float | None]:
        return {**on_guard(network), "guard_gradient_norm": subspace.gradient_norm(network, watched)}

    first = {"epoch": 0, **dict.fromkeys(NAMES), **evaluate(network)}
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts)
    given = {"stage": "escape", "seed": seed, "bench": bench, "evaluate": evaluate}
    curve = fit(network, loss, batches, training, **given)
    return Content(weights(network), {"curve": [first, *curve], "steps_per_point": batches.steps})


@stage(version=3)
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
    gap = kinds.read(teacher, bench.device).view_gap(dataset, split)
    return facts.content(exam, {**facts.facts(exam, dataset.std, seed), **found, "view_gap": gap})


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
    return Content({}, facts.finite(found))


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
        targets = kinds.read(teacher, bench.device).rows(dataset, split)
    else:
        targets = teacher.arrays[f"targets_{split}"]
    network = fitted.network(dataset, model, known["classes"], trained, bench)
    return facts.exam(network, dataset, targets, split, looks, known["smoothing"], bench)


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


Call = Callable[..., Any]
START: dict[WitnessMode, str] = {
    "vae": "vae",
    "rst": "initial",
    "rst_prefit": "prefit",
    "rst_alpha_prefit": "alpha_prefit",
    "escape_collapsed": "collapsed",
    "escape_vae": "vae",
    "escape_prefit": "low_prefit",
}
STARTS = ("initial", "vae", "prefit", "alpha_prefit", "low_prefit", "collapsed")


def steps(protocol: Witness) -> tuple[str, ...]:
    """What a cell does, in order: teacher, starts, the networks that leave them, judge."""
    needed = {"initial", *(START[mode] for mode in protocol.modes)}
    left = tuple(mode for mode in protocol.modes if mode != "vae")
    return ("teacher", *(step for step in STARTS if step in needed), *left, "judge")


def schedules(spec: CellSpec, protocol: Witness) -> dict[str, Training]:
    """The training schedule of each step that passes over the train rows."""
    known = dict.fromkeys((mode for mode in protocol.modes if mode not in ESCAPES), spec.training)
    prefits = [step for step in steps(protocol) if step in ("prefit", "alpha_prefit", "low_prefit")]
    return known | dict.fromkeys(prefits, _prefit_schedule(spec, protocol))


def walk(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call) -> tuple[Any, dict[str, Any]]:
    """The teacher, and the networks by mode in the order of tables."""
    teacher = _teacher(spec, protocol, dataset, call)
    found = _starts(spec, protocol, dataset, call, teacher)
    given = (spec.training, spec.seed)
    goal, model = objective(protocol), spec.model
    networks = {}
    for mode in protocol.modes:
        start = found[START[mode]]
        if mode == "vae":
            networks[mode] = start
        elif mode in ESCAPES:
            watched = (replace(goal, kl_ramp_epochs=0), protocol.escape.steps_per_point)
            schedule = replace(spec.training, epochs=protocol.escape.points, report_every=1)
            networks[mode] = call(mode, escape, dataset, model, *watched, schedule, spec.seed, start, teacher)
        else:
            networks[mode] = call(mode, stages.aligned, dataset, model, goal, *given, start, teacher)
    return teacher, networks


def objective(protocol: Witness) -> Objective:
    """L_rec + alpha_kl L_KL + lambda_ts L_TS: this paper has no balance term."""
    return Objective(
        alpha_kl=protocol.alpha_kl,
        lambda_ts=protocol.lambda_ts,
        lambda_bal=0.0,
        kl_ramp_epochs=protocol.kl_ramp_epochs,
    )


def hyper_parameters(spec: CellSpec, protocol: Witness, mode: str) -> dict[str, float | None]:
    """The weights that searches vary; None where a mode does not have one."""
    scales = {"rst_prefit": 1.0, "rst_alpha_prefit": protocol.prefit.scale, "escape_prefit": protocol.escape.low_scale}
    return {
        "alpha_kl": protocol.alpha_kl,
        "lambda_ts": 0.0 if mode == "vae" else protocol.lambda_ts,
        "lambda_bal": 0.0,
        "beta": spec.model.head.beta if isinstance(spec.model.head, SimplexHead) else None,
        "prefit_scale": scales.get(mode),
    }


def verdict(teacher: Labels | PcaGmm, facts: dict[str, Any]) -> Verdict:
    """Quality control of a row's teacher numbers, and for a mixture its energy budget."""
    found = judge(from_row(facts), teacher.thresholds)
    match teacher:
        case PcaGmm(energy_budget=budget):
            return found.with_energy(facts["teacher_code_energy"], budget)
        case Labels():
            return found


def _teacher(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call) -> Any:
    match protocol.teacher:
        case Labels():
            return call("teacher", labels_teacher, dataset, protocol.teacher)
        case PcaGmm():
            return call("teacher", pca_teacher, dataset, protocol.teacher, spec.seed)


def _starts(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call, teacher: Any) -> dict[str, Any]:
    model, seed, needed = spec.model, spec.seed, steps(protocol)
    found = {"initial": call("initial", initial, dataset, model.encoder, seed)}
    if "vae" in needed:
        plain = objective(protocol).unaligned()
        found["vae"] = call("vae", vae, dataset, model.encoder, model.likelihood, plain, spec.training, seed)
    scales = {"prefit": 1.0, "alpha_prefit": protocol.prefit.scale, "low_prefit": protocol.escape.low_scale}
    for step in (step for step in needed if step in scales):
        fitted = (scales[step], protocol.prefit.rest_weight, _prefit_schedule(spec, protocol))
        found[step] = call(step, prefit, dataset, model, *fitted, seed, found["initial"], teacher)
    if "collapsed" in needed:
        found["collapsed"] = call("collapsed", collapsed, found["initial"])
    return found


def _prefit_schedule(spec: CellSpec, protocol: Witness) -> Training:
    return replace(spec.training, epochs=protocol.prefit.epochs, learning_rate=protocol.prefit.learning_rate)
