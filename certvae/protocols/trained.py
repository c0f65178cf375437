"""Turns artifacts into networks, networks into teacher rows, and training into artifacts.

features  (n, d)  posterior means         T  (n, K)  teacher rows         rows in the order of the split
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Float, Int64

from certvae.canonical import finite, stage_seed
from certvae.certificate import Pairs, observe
from certvae.data.dataset import SPLITS, Dataset, Split
from certvae.evaluation import diagnostics, subspace
from certvae.evaluation.diagnostics import evaluation, features
from certvae.models.nets import Vae, build, load_weights, weights
from certvae.properties import levels
from certvae.quality import measure
from certvae.spec.control import Control
from certvae.spec.parts import Model, Training
from certvae.spec.rescue import Objective, Unaligned
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench
from certvae.teachers import kinds
from certvae.teachers.differentiable import ReadingTeacher
from certvae.teachers.kinds import FeatureTeacher
from certvae.training import loop
from certvae.training.batches import Batches
from certvae.training.loop import Loss
from certvae.training.losses import chain_loss
from certvae.training.objective import NAMES
from certvae.training.response import Response, respond
from certvae.training.steering import Controller, controlled_loss

HELD: tuple[Split, ...] = ("train", "guard")
"""The splits whose teacher rows are cached."""
Goal = tuple[Unaligned, float]
"""The objective without alignment, and the weight of alignment."""


def network(dataset: Dataset, model: Model, classes: int, trained: Artifact, bench: Workbench) -> Vae:
    """The network of an artifact, on the device."""
    return loaded(build(model, dataset.shape, classes, seed=0), trained, bench)


def loaded(vae: Vae, trained: Artifact, bench: Workbench) -> Vae:
    """A network with the weights of an artifact, on the device."""
    load_weights(vae, trained.arrays)
    return vae.to(bench.device)


def teacher_rows(
    dataset: Dataset, model: Model, warm: Artifact | None, teacher: Artifact, split: Split, bench: Workbench
) -> Float[np.ndarray, "n K"]:
    """T of every row of a split, float32: cached for train and guard, computed when certify is opened.

    Args:
        warm: the network whose features the teacher reads; None for a teacher that reads images or labels.
    """
    if split != "certify":
        return teacher.arrays[f"targets_{split}"]
    if warm is None:
        return kinds.read(teacher, bench.device).rows(dataset, split)
    vae = network(dataset, model, teacher.facts["classes"], warm, bench)
    return FeatureTeacher.of(teacher, bench.device).rows(features(vae, dataset, split, bench))


def permuted(rows: Float[np.ndarray, "n K"], split: Split, seed: int) -> Float[np.ndarray, "n K"]:
    """Rows of a split in an order that is drawn once per (seed, split)."""
    drawn = np.random.default_rng(stage_seed(seed, "teacher", 1 + SPLITS.index(split)))
    return rows[drawn.permutation(len(rows))]


def train(
    vae: Vae,
    dataset: Dataset,
    teacher: Artifact | None,
    loss: Loss,
    schedule: Training,
    stage: str,
    seed: int,
    bench: Workbench,
    *,
    evaluate: Callable[[Vae], dict[str, float | None]] | None = None,
) -> Content:
    """Trains a network in place: its weights, and the curve with the numbers of the guard rows."""
    arrays = {} if teacher is None else teacher.arrays
    batches = Batches(dataset, "train", arrays.get("targets_train"), schedule.batch_size, bench.device)
    asked = evaluate or on_guard(dataset, arrays.get("targets_guard"), bench)
    curve = loop.fit(vae, loss, batches, schedule, stage=stage, seed=seed, bench=bench, evaluate=asked)
    return Content(weights(vae), {"curve": curve})


def on_guard(
    dataset: Dataset, targets: Float[np.ndarray, "n K"] | None, bench: Workbench
) -> Callable[[Vae], dict[str, float | None]]:
    """What a point of the curve says about a network, against fixed teacher rows of the guard split."""
    batches = evaluation(dataset, "guard", targets, bench)
    return lambda vae: diagnostics.guard_numbers(vae.head, diagnostics.passage(vae, batches), targets)


def on_levels(
    dataset: Dataset, targets: Float[np.ndarray, "n K"], parts: Sequence[Int64[np.ndarray, " K"]], bench: Workbench
) -> Callable[[Vae], dict[str, float | None]]:
    """The same, and what the head says of partitions of the classes."""
    batches = evaluation(dataset, "guard", targets, bench)

    def numbers(vae: Vae) -> dict[str, float | None]:
        seen = diagnostics.passage(vae, batches)
        pairs = Pairs.from_logits(targets, diagnostics.head_logits(vae.head, seen.mu), split="guard")
        found = {f"guard_{name}": finite(value) for name, value in levels(pairs, parts).items()}
        return diagnostics.guard_numbers(vae.head, seen, targets) | found

    return numbers


def watched(
    vae: Vae,
    dataset: Dataset,
    teacher: Artifact,
    loss: Loss,
    pace: Training,
    steps_per_point: int,
    seed: int,
    bench: Workbench,
) -> Content:
    """As `train`, an epoch cut to a few steps, the start itself as point 0, and the norm of the alignment gradient."""
    arrays = teacher.arrays
    batches = Batches(dataset, "train", arrays["targets_train"], pace.batch_size, bench.device)
    batches.steps = min(batches.steps, steps_per_point)
    guard = evaluation(dataset, "guard", arrays["targets_guard"], bench)
    numbers = on_guard(dataset, arrays["targets_guard"], bench)

    def evaluate(vae: Vae) -> dict[str, float | None]:
        return {**numbers(vae), "guard_gradient_norm": subspace.gradient_norm(vae, guard)}

    first = {"epoch": 0, **dict.fromkeys(NAMES), **evaluate(vae)}
    curve = loop.fit(vae, loss, batches, pace, stage="escape", seed=seed, bench=bench, evaluate=evaluate)
    return Content(weights(vae), {"curve": [first, *curve], "steps_per_point": batches.steps})


def train_guarded(
    vae: Vae,
    dataset: Dataset,
    model: Model,
    teacher: Artifact,
    goal: Objective,
    control: Control,
    schedule: Training,
    seed: int,
    bench: Workbench,
) -> Content:
    """As `train`, under a controller: the start is point 0 of the curve, and all decisions are facts beside it."""
    arrays = teacher.arrays
    batches = Batches(dataset, "train", arrays["targets_train"], schedule.batch_size, bench.device)
    guard = evaluation(dataset, "guard", arrays["targets_guard"], bench)
    info = measure(arrays["targets_guard"].astype(np.float64)).info
    controller = Controller(control, goal.lambda_ts, schedule, vae, batches, guard, info)
    loss = controlled_loss(model, goal.unaligned(), controller)
    evaluate = on_guard(dataset, arrays["targets_guard"], bench)
    found = response_of(vae, dataset, teacher, schedule, bench)
    seen = {**evaluate(vae), **controller.point(), "guard_response": found.response}
    given = {"stage": "guarded", "seed": seed, "bench": bench, "evaluate": evaluate, "steering": controller}
    curve = [{"epoch": 0, **dict.fromkeys(NAMES), **seen}, *loop.fit(vae, loss, batches, schedule, **given)]
    facts = {"curve": curve, "decisions": controller.decisions, "response": asdict(found)}
    return Content(weights(vae), facts)


def response_of(vae: Vae, dataset: Dataset, teacher: Artifact, schedule: Training, bench: Workbench) -> Response:
    """Whether one step of alignment, as this schedule takes it, moves the network towards the teacher."""
    train, guard = (evaluation(dataset, split, teacher.arrays[f"targets_{split}"], bench) for split in HELD)
    return respond(vae, train, guard, schedule.learning_rate)


def train_live(
    dataset: Dataset,
    model: Model,
    goal: Goal,
    schedule: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    stage: str,
    bench: Workbench,
) -> Content:
    """As `train`, under the chosen mixture read on the features of the encoder that is being trained."""
    vae = network(dataset, model, teacher.facts["classes"], start, bench)
    live = FeatureTeacher.of(teacher, bench.device)
    loss = chain_loss(model, *goal, targets=live)
    evaluate = _on_guard_live(dataset, teacher.arrays["targets_guard"], live, bench)
    return train(vae, dataset, teacher, loss, schedule, stage, seed, bench, evaluate=evaluate)


def reading_teacher(
    dataset: Dataset, model: Model, warm: Artifact, teacher: Artifact, bench: Workbench
) -> ReadingTeacher:
    """The frozen teacher as a function of images that gradients pass through."""
    vae = network(dataset, model, teacher.facts["classes"], warm, bench)
    return ReadingTeacher(vae.encoder, FeatureTeacher.of(teacher, bench.device))


def drift(cached: Float[np.ndarray, "n K"], live: Float[np.ndarray, "n K"], split: Split) -> float:
    """E KL(Q || T_live), nats; infinite where the live teacher excludes what the cached one holds possible."""
    with np.errstate(divide="ignore"):
        log_live = np.log(live.astype(np.float64))
    return observe(Pairs(teacher=cached, log_student=log_live, split=split)).loss


def _on_guard_live(
    dataset: Dataset, cached: Float[np.ndarray, "n K"], live: FeatureTeacher, bench: Workbench
) -> Callable[[Vae], dict[str, float | None]]:
    """The numbers of a curve point against the teacher as it is now, and how far it has moved."""
    batches = evaluation(dataset, "guard", cached, bench)

    def numbers(vae: Vae) -> dict[str, float | None]:
        seen = diagnostics.passage(vae, batches, live)
        rows = live.rows(seen.mu)
        known = {"guard_drift": finite(drift(cached, rows, "guard"))}
        return diagnostics.guard_numbers(vae.head, seen, rows) | known

    return numbers
