"""The training loop against a bare one: curves, checks, reports and seeded order must cost next to nothing."""

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from certvae.data.dataset import Dataset, open_dataset
from certvae.data.decoding import View, publish
from certvae.data.source import Contents
from certvae.models.nets import Vae, build
from certvae.spec.parts import Conv, Model, Training
from certvae.spec.rescue import Unaligned
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import loop as training
from certvae.training.batches import Batch, Batches
from certvae.training.loop import Loss
from certvae.training.losses import chain_loss

MODEL = Model(encoder=Conv(channels=(16, 32, 64), hidden=64, latent=32))
SCHEDULE = Training(epochs=2, batch_size=64)
CLASSES, IMAGES, REPEATS = 10, 384, 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Noise of the size of CIFAR images: 256 train rows, so four steps an epoch."""
    generator, target = np.random.default_rng(0), tmp_path_factory.mktemp("noise") / "noise"
    images = generator.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(IMAGES) % CLASSES
    contents = Contents.of_arrays(images, labels, n_train=IMAGES - 64, classes=CLASSES)
    splits = np.repeat(np.arange(3, dtype=np.uint8), [IMAGES - 128, 64, 64])
    rows = View(contents=contents, rows=np.arange(IMAGES), splits=splits, classes=CLASSES, size=None)
    publish(target, rows, {"name": "noise", "source": "noise", "files": "0" * 64, "substitute": None}, label=None)
    return open_dataset(target)


def bare(vae: Vae, loss: Loss, x: torch.Tensor, teacher: torch.Tensor) -> None:
    """What anyone would write for the same training: all images in memory, no order to repeat, nothing recorded."""
    optimiser = torch.optim.Adam(vae.parameters(), lr=SCHEDULE.learning_rate, fused=True)
    noise = torch.Generator().manual_seed(0)
    vae.train()
    for _ in range(SCHEDULE.epochs):
        for rows in torch.randperm(len(x)).split(SCHEDULE.batch_size):
            terms = loss(vae, Batch(x[rows], teacher[rows]), noise, 0.0)
            optimiser.zero_grad(set_to_none=True)
            terms.total.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), SCHEDULE.gradient_clip)
            optimiser.step()


def test_training_keeps_the_pace_of_a_bare_loop(dataset: Dataset, tmp_path: Path):
    """Processor time of turns that alternate, so that a busy machine slows both alike.

    Measured on one thread: 96 % of the steps of the bare loop; the bound leaves room for a noisy machine.
    """
    store = Store(tmp_path / "store")
    bench = Workbench("cpu", [].append, Checkpoints(store.disk, "0" * 64), 1e9)
    targets = np.random.default_rng(0).dirichlet(np.ones(CLASSES), size=IMAGES - 128).astype(np.float32)
    x = torch.from_numpy(dataset.images[dataset.rows("train")]).float() / 255
    loss = chain_loss(MODEL, Unaligned(), 5.0)

    def ours(vae: Vae) -> None:
        batches = Batches(dataset, "train", targets, SCHEDULE.batch_size, "cpu")
        training.fit(vae, loss, batches, SCHEDULE, stage="full", seed=0, bench=bench, evaluate=lambda network: {})  # noqa: ARG005

    def seconds(loop) -> float:
        vae = build(MODEL, dataset.shape, CLASSES, seed=0)
        began = time.process_time()
        loop(vae)
        return time.process_time() - began

    loops = (lambda vae: bare(vae, loss, x, torch.from_numpy(targets)), ours)
    for loop in loops:
        seconds(loop)
    turns = [[seconds(loop) for loop in loops] for _ in range(REPEATS)]
    share = statistics.median(plain / full for plain, full in turns)
    print(f"training loop: {share:.1%} of the steps per second of a bare loop")
    assert share >= 0.90
