"""The training loop next to a bare PyTorch loop, on the CIFAR network: what a chain costs, and what the loop adds.

A chain of the presets passes 45,000 train images 20 + 3 x 60 times: 9 million images. Seconds are those of the
processor, so that other work on the machine does not count.
"""

import time
from pathlib import Path

import torch
from torch import nn

from certvae.data.dataset import Dataset
from certvae.data.loading import load
from certvae.models.nets import build
from certvae.spec.parts import Data, Training
from certvae.spec.presets import rescue
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import objective
from certvae.training.batches import Batches
from certvae.training.loop import fit
from certvae.training.losses import chain_loss
from tests.small_data import cifar_files, write_tar

IMAGES = 256
BATCH = 128
REPEATS = 2
LAMBDA_TS = 5.0
CHAIN_IMAGES = 45_000 * (20 + 3 * 60)


def images(folder: Path) -> Dataset:
    write_tar(folder / "cifar-10-python.tar.gz", cifar_files("cifar10", train=IMAGES * 10 // 8, test=10))
    return load(Data(name="cifar10", guard_fraction=0.2), folder, cache=folder / "cache", progress=False)


def teacher_rows(n: int, classes: int) -> torch.Tensor:
    return torch.softmax(torch.randn(n, classes, generator=torch.Generator().manual_seed(0)), dim=1)


def nobody_listens(progress: object) -> None:
    """Progress goes nowhere."""


def nothing_is_asked(network: object) -> dict[str, float | None]:
    """The guard rows cost what they cost in any loop."""
    return {}


def bare_seconds(dataset: Dataset, classes: int) -> float:
    """One epoch as a tutorial writes it: no curve, no checkpoint, no progress, images in memory as floats."""
    model = rescue("cifar10").model
    vae, noise = build(model, dataset.shape, classes, 0), torch.Generator().manual_seed(0)
    x = torch.from_numpy(dataset.images[dataset.rows("train")]).float() / 255
    teacher = teacher_rows(len(x), classes)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
    began = time.process_time()
    for rows in torch.randperm(len(x)).split(BATCH):
        mu, logvar = vae.encoder(x[rows])
        z = objective.sample(mu, logvar, noise)
        loss = objective.reconstruction(model.likelihood, vae.decoder(z, teacher[rows]), x[rows])
        logits = vae.head(z)
        loss = loss + objective.kl_rate(mu, logvar) + objective.balance(logits)
        loss = loss + LAMBDA_TS * objective.alignment(teacher[rows], logits)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        optimiser.step()
    return time.process_time() - began


def loop_seconds(dataset: Dataset, classes: int, store: Store) -> float:
    """One epoch of the project's loop, checkpoint and progress machinery included."""
    cell = rescue("cifar10")
    vae = build(cell.model, dataset.shape, classes, 0)
    bench = Workbench("cpu", nobody_listens, Checkpoints(store.disk, "0" * 64))
    targets = teacher_rows(len(dataset.rows("train")), classes).numpy()
    batches = Batches(dataset, "train", targets, BATCH, "cpu")
    loss = chain_loss(cell.model, cell.protocol.objective.unaligned(), LAMBDA_TS)  # pyright: ignore[reportAttributeAccessIssue]
    schedule = Training(epochs=1, batch_size=BATCH)
    began = time.process_time()
    fit(vae, loss, batches, schedule, stage="speed", seed=0, bench=bench, evaluate=nothing_is_asked)
    return time.process_time() - began


def test_the_loop_costs_little_more_than_a_bare_one(tmp_path, capsys):
    """Equal within noise, as it should be where a step takes a third of a second."""
    dataset, store = images(tmp_path / "data"), Store(tmp_path / "store")
    pairs = [(bare_seconds(dataset, 10), loop_seconds(dataset, 10, store)) for _ in range(REPEATS)]
    bare, loop = (min(seconds) for seconds in zip(*pairs, strict=True))
    with capsys.disabled():
        print(
            f"\n32 x 32 x 3, batch {BATCH}, {torch.get_num_threads()} thread: {IMAGES / loop:.0f} images/s, "
            f"bare loop {IMAGES / bare:.0f} images/s; a CIFAR chain of 9 million images takes "
            f"{CHAIN_IMAGES * loop / IMAGES / 3600:.0f} core-hours"
        )
    assert loop < 1.5 * bare
