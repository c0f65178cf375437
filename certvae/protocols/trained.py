"""Between artifacts and networks: a network out of its artifact, teacher rows out of a network, an artifact out of
training.

    features  (n, d)  posterior means         T  (n, K)  teacher rows         rows in the order of the split
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from certvae.data.dataset import Dataset, Split
from certvae.evaluation import diagnostics
from certvae.evaluation.diagnostics import evaluation, features
from certvae.models.nets import Vae, build, load_weights, weights
from certvae.spec.parts import Model, Training
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench
from certvae.teachers.kinds import FeatureTeacher
from certvae.training import loop
from certvae.training.batches import Batches
from certvae.training.loop import Loss


def network(dataset: Dataset, model: Model, classes: int, trained: Artifact, bench: Workbench) -> Vae:
    """The network of an artifact, on the device."""
    vae = build(model, dataset.shape, classes, seed=0)
    load_weights(vae, trained.arrays)
    return vae.to(bench.device)


def teacher_rows(
    dataset: Dataset, model: Model, warm: Artifact, teacher: Artifact, split: Split, bench: Workbench
) -> Float[np.ndarray, "n K"]:
    """T of every row of a split, float32: cached for train and guard, computed when certify is opened."""
    if split != "certify":
        return teacher.arrays[f"targets_{split}"]
    vae = network(dataset, model, teacher.facts["classes"], warm, bench)
    return FeatureTeacher.of(teacher, bench.device).rows(features(vae, dataset, split, bench))


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
