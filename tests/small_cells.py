"""Cells of scikit-learn's digits that train in a fraction of a second, for tests of the whole chain."""

import dataclasses
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from certvae.data.dataset import SPLITS, Dataset, Split, open_dataset
from certvae.data.decoding import View, publish
from certvae.data.loading import load
from certvae.data.source import Contents
from certvae.protocols import stages
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data, Gaussian, LearnedHead, Mlp, Model, Training
from certvae.spec.rescue import Objective, Rescue, WarmUp
from certvae.spec.teachers import WarmUpGmm
from certvae.store.store import Store

CLASSES = 4
MODEL = Model(
    encoder=Mlp(hidden=(32,), latent=6),
    head=LearnedHead(hidden=()),
    likelihood=Gaussian(variance=0.5),
    decoder_sees_teacher=False,
)
TRAINING = Training(epochs=3, batch_size=64)
WARM_UP = WarmUp(alpha_kl=0.05, kl_ramp_epochs=2, training=TRAINING)
TEACHER = WarmUpGmm(
    classes=CLASSES,
    whitening=(0,),
    covariance=("diag",),
    regulariser=(1e-3,),
    temperature=(1.0,),
    initialisations=1,
    smoothing=0.02,
)
OBJECTIVE = Objective(alpha_kl=0.05)


def small_digits(cache: Path, limit: int = 240) -> Dataset:
    """216 train, 24 guard and 60 certify rows of 1 x 8 x 8, unless another limit is given."""
    return load(Data(name="digits", limit=limit, certify_limit=60), cache=cache, progress=False)


def small_cell(model: Model = MODEL, training: Training = TRAINING, seed: int = 0, **protocol: Any) -> CellSpec:
    """A chain of three epochs a stage and one teacher candidate."""
    given = {"warm_up": WARM_UP, "teacher": TEACHER, "objective": OBJECTIVE, "controls": (), **protocol}
    return CellSpec(study="small", seed=seed, model=model, protocol=Rescue(**given), training=training)


def with_noise_in(dataset: Dataset, splits: tuple[Split, ...], target: Path) -> Dataset:
    """The same data set with noise for the pixels of some splits; its other rows are untouched."""
    images = dataset.images.copy()
    for split in splits:
        rows = dataset.rows(split)
        images[rows] = np.random.default_rng(0).integers(0, 17, images[rows].shape)
    return with_images(dataset, images, target, "noise")


def leaking(dataset: Dataset, leaked: int, target: Path) -> Dataset:
    """The same data set with the pixels of train rows in so many of its certify rows."""
    images = dataset.images.copy()
    images[dataset.rows("certify")[:leaked]] = images[dataset.rows("train")[:leaked]]
    return with_images(dataset, images, target, f"{leaked} train images among the certify rows")


def with_images(dataset: Dataset, images: np.ndarray, target: Path, substitute: str) -> Dataset:
    """The same data set with other pixels."""
    places = np.zeros(len(dataset.labels), np.uint8)
    for split in SPLITS:
        places[dataset.rows(split)] = SPLITS.index(split)
    contents = Contents.of_arrays(
        images, dataset.labels, n_train=len(images), classes=dataset.classes, scale=dataset.scale
    )
    rows = np.arange(len(images))
    kept = View(contents=contents, rows=rows, splits=places, classes=dataset.classes, size=None)
    about = {"name": dataset.name, "source": "a test", "files": "0" * 64, "substitute": substitute}
    publish(target, kept, about, label=None)
    return open_dataset(target)


def warm_up_until_killed(folder: Path, epoch: int | None) -> None:
    """Runs one stage in a store below `folder`, with a checkpoint per epoch; dies in the report of the given epoch."""

    def report(event: Mapping[str, Any]) -> None:
        if epoch is not None and event["epoch"] == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    dataset = small_digits(folder / "data")
    store = Store(folder / "store", report=report, checkpoint_seconds=0.0)
    schedule = dataclasses.replace(WARM_UP, training=Training(epochs=5, batch_size=64))
    store.call(stages.warm_up, dataset, MODEL, CLASSES, schedule, 0)
