"""Loops of others with a monitor in them: one's own, Lightning's, transformers' and diffusers', five lines at most."""

import ast
import inspect
import textwrap

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from certvae import Monitor, fit_teacher

X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
TRAIN, GUARD = X[:1200], X[1200:]
MOST_LINES = 5
OURS = {"monitor", "Monitor", "teacher", "fit_teacher"}


def loss_of(x, decoded, mu, logvar, kl_weight=1.0):
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)
    return (functional.mse_loss(decoded, x, reduction="none").sum(dim=1) / 0.1 + kl_weight * kl).mean()


class Vae(nn.Module):
    """Somebody's."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def forward(self, x, kl_weight=1.0):
        mu, logvar = self.encode(x)
        return loss_of(x, self.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu)), mu, logvar, kl_weight)


def own_loop(epochs, kl_weight):
    """A loop with a monitor."""
    torch.manual_seed(0)
    vae = Vae()
    optimiser = torch.optim.Adam(vae.parameters(), lr=2e-3)
    teacher = fit_teacher(TRAIN)
    monitor = Monitor(teacher.rows(GUARD), GUARD, every=60)
    for _ in range(epochs):
        for batch in TRAIN[torch.randperm(len(TRAIN))].split(100):
            optimiser.zero_grad()
            vae(batch, kl_weight).backward()
            optimiser.step()
            monitor.step(vae.encode)
    return monitor


def added_lines(loop) -> int:
    """Statements of a loop that are there for the monitor, but for what hands it to a test."""
    parsed = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(loop))))
    simple = [
        one for one in parsed if isinstance(one, ast.Assign | ast.Expr) and not isinstance(one.value, ast.Constant)
    ]
    return sum(bool({name.id for name in ast.walk(one) if isinstance(name, ast.Name)} & OURS) for one in simple)


def test_ones_own_loop_needs_three_lines_and_comes_to_life():
    monitor = own_loop(epochs=30, kl_weight=1.0)
    last = monitor.observations[-1]
    assert added_lines(own_loop) <= MOST_LINES
    assert (last.mean, last.channel, last.findings) == ("varies", "alive", ())
    margins = [one.row["affine_margin"] for one in monitor.observations]
    assert margins[-1] > 1.0


def test_a_kl_weight_past_the_threshold_of_these_images_is_told_as_a_dead_channel():
    monitor = own_loop(epochs=30, kl_weight=40.0)
    assert monitor.observations[-1].channel == "dead"
    assert monitor.worst == "error"


def lightning_loop(library, folder):
    class Module(library.LightningModule):
        def __init__(self):
            super().__init__()
            self.vae = Vae()

        def encode(self, x):
            return self.vae.encode(x)

        def training_step(self, batch, _):
            return self.vae(batch[0])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    teacher = fit_teacher(TRAIN)
    monitor = Monitor(teacher.rows(GUARD), GUARD, every=60)
    trainer = library.Trainer(
        max_epochs=25, accelerator="cpu", default_root_dir=folder, callbacks=[monitor.lightning()], **quiet
    )
    trainer.fit(Module(), DataLoader(TensorDataset(TRAIN), batch_size=100, shuffle=True))
    return monitor


@pytest.mark.slow
def test_a_lightning_module_is_watched(tmp_path):
    library = pytest.importorskip("lightning.pytorch")
    monitor = lightning_loop(library, tmp_path)
    assert added_lines(lightning_loop) <= MOST_LINES
    assert len(monitor.observations) == 5
    assert monitor.observations[-1].channel == "alive"


def transformers_loop(library, folder):
    class Model(Vae):
        def forward(self, x, kl_weight=1.0):
            return {"loss": super().forward(x, kl_weight)}

    rows = [{"x": one} for one in TRAIN]
    given = {"per_device_train_batch_size": 100, "num_train_epochs": 25, "report_to": [], "use_cpu": True}
    arguments = library.TrainingArguments(
        str(folder), learning_rate=2e-3, save_strategy="no", disable_tqdm=True, **given
    )
    teacher = fit_teacher(TRAIN)
    monitor = Monitor(teacher.rows(GUARD), GUARD, every=60)
    trainer = library.Trainer(Model(), arguments, train_dataset=rows, callbacks=[monitor.transformers()])
    trainer.train()
    return monitor


@pytest.mark.slow
def test_a_trainer_of_transformers_is_watched(tmp_path):
    library = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    monitor = transformers_loop(library, tmp_path)
    assert added_lines(transformers_loop) <= MOST_LINES
    assert len(monitor.observations) == 5
    assert monitor.observations[-1].mean == "varies"


def diffusers_loop(library, steps):
    torch.manual_seed(0)
    sizes = {"block_out_channels": (16,), "norm_num_groups": 4, "latent_channels": 1}
    vae = library.AutoencoderKL(in_channels=1, out_channels=1, **sizes)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
    images = X.reshape(-1, 1, 8, 8)
    teacher = fit_teacher(images[:1200])
    monitor = Monitor(teacher.rows(images[1200:]), images[1200:], every=steps - 1)
    for batch in images[:1200].split(50)[:steps]:
        posterior = vae.encode(batch).latent_dist
        loss = functional.mse_loss(vae.decode(posterior.sample()).sample, batch) + 1e-6 * posterior.kl().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        monitor.step(lambda x: (vae.encode(x).latent_dist.mean, vae.encode(x).latent_dist.logvar))
    return monitor


@pytest.mark.slow
def test_an_autoencoder_of_diffusers_is_watched():
    library = pytest.importorskip("diffusers")
    monitor = diffusers_loop(library, steps=12)
    assert added_lines(diffusers_loop) <= MOST_LINES
    assert len(monitor.observations) == 2
    assert np.isfinite(monitor.observations[-1].row["kl_rate"])
