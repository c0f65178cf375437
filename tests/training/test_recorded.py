"""A recorded step computes what the step itself does, to the byte; what cannot be recorded is said once and goes on."""

import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from certvae.canonical import digest, plain
from certvae.data.dataset import Dataset
from certvae.models.nets import build, weights
from certvae.spec.parts import Conv, Gaussian, Mlp, Model, Training
from certvae.spec.rescue import Objective, Triad, Unaligned
from certvae.spec.rescue import SharedAffine as Affine
from certvae.store.artifact import Content
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import loop, recorded
from certvae.training.batches import Batches
from certvae.training.loop import Loss, Steering, Step
from certvae.training.losses import chain_loss
from certvae.training.objective import NAMES, kl_weight
from certvae.training.optimisers import Adam
from certvae.training.recorded import BEFORE, Recorded
from certvae.training.triad import triad_loss
from certvae.training.used_head import protected_alignment
from tests.laws import Cut, CuttingCheckpoints

CLASSES = 4
MLP = Model(encoder=Mlp(hidden=(32,), latent=6))
CONV = Model(encoder=Conv(channels=(16, 16), hidden=16, latent=6), likelihood=Gaussian(variance=0.5))
GOAL = Objective(alpha_kl=0.3, kl_ramp_epochs=3, lambda_ts=5.0, lambda_bal=0.5)
REGULARISED = replace(GOAL.unaligned(), lambda_active=0.1, lambda_contrast=0.1)
SCHEDULE = Training(epochs=4, batch_size=50)
EPOCHS = range(4)


@pytest.fixture(autouse=True)
def nothing_said_yet():
    recorded._say.cache_clear()


class Again:
    """A recorder of a machine without graphs: what repeats a step is the step."""

    def __init__(self) -> None:
        self.ran = self.replayed = 0

    def run(self, once: Callable[[], None]) -> None:
        self.ran += 1
        once()

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replayed += 1
            once()

        return replay


class Never(Again):
    """Of a step that asks the host for a number, noticed while it runs or is recorded. It has drawn noise by then."""

    def __init__(self, noise: torch.Generator, runs: int):
        super().__init__()
        self._noise, self._runs = noise, runs

    def run(self, once: Callable[[], None]) -> None:
        if self.ran == self._runs:
            self.record(once)
        super().run(once)

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        torch.empty(99).normal_(generator=self._noise)
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


def teacher_rows(dataset: Dataset) -> np.ndarray:
    n = len(dataset.rows("train"))
    return np.random.default_rng(0).dirichlet(np.ones(CLASSES), size=n).astype(np.float32)


def made(dataset: Dataset, model: Model, loss: Loss, device: str = "cpu", schedule: Training = SCHEDULE) -> Step:
    vae = build(model, dataset.shape, CLASSES, seed=3).to(device).train()
    batches = Batches(dataset, "train", teacher_rows(dataset), schedule.batch_size, device)
    optimiser = Adam(vae.parameters(), lr=1e-3, fused=True, capturable=device != "cpu")
    return Step(vae, loss, batches, schedule, optimiser, Steering())


def passed(step: Step, through: Step | Recorded) -> tuple[dict[str, np.ndarray], list[list[float]]]:
    """Weights and terms after four epochs, as the loop goes through them."""
    told = []
    for epoch in EPOCHS:
        through.noise.manual_seed(epoch)
        for number, rows in enumerate(step.batches.order(epoch)):
            told.append(through(number, rows, epoch + number / step.batches.steps).tolist())
    return weights(step.vae), told


def log_rows(images: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(images.flatten(1)[:, :CLASSES], dim=1)


LOSSES = {
    "the warm-up": lambda model: chain_loss(model, GOAL.unaligned(), 0.0),
    "full": lambda model: chain_loss(model, GOAL.unaligned(), GOAL.lambda_ts),
    "regularised": lambda model: chain_loss(model, REGULARISED, GOAL.lambda_ts),
    "the triad": lambda model: triad_loss(model, GOAL, Triad(), log_rows),
}
each = pytest.mark.parametrize("name", LOSSES)


@each
@pytest.mark.parametrize("model", [MLP, CONV], ids=["perceptron", "convolutions"])
def test_on_buffers_a_step_computes_the_same_bytes(digits, model, name):
    loss, again = LOSSES[name](model), Again()
    eager, buffered = (made(digits, model, loss) for _ in range(2))
    plainly = passed(eager, eager)
    on_buffers = passed(buffered, Recorded(buffered, 50, len(NAMES), again))
    assert plainly[1] == on_buffers[1]
    assert Content(plainly[0], {}).files() == Content(on_buffers[0], {}).files()
    assert (again.ran, again.replayed) == (BEFORE, len(plainly[1]) - BEFORE)


@pytest.mark.parametrize("runs", [0, 1, BEFORE], ids=["at the first step", "at the second", "while it is recorded"])
def test_what_cannot_be_recorded_is_said_once_and_computes_the_same_bytes(digits, caplog, runs):
    loss = LOSSES["full"](MLP)
    eager, stubborn = (made(digits, MLP, loss) for _ in range(2))
    with caplog.at_level(logging.WARNING):
        found = passed(stubborn, Recorded(stubborn, 50, len(NAMES), Never(stubborn.noise, runs)))
    assert found[1] == passed(eager, eager)[1]
    [said] = [record.getMessage() for record in caplog.records]
    assert said.endswith("steps run one by one: operation not permitted when stream is capturing")


class Watching(Again):
    """Notes what a recording is surrounded by; the last of its attempts fails, with what it holds."""

    def __init__(self, fails: bool):
        super().__init__()
        self.collects: list[bool] = []
        self.held: weakref.ref[Again] | None = None
        self._fails = fails

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        self.collects.append(gc.isenabled())
        memory = Again()
        self.held = weakref.ref(memory)
        if self._fails:
            raise RuntimeError("out of memory")
        return super().record(once)


def test_no_garbage_is_collected_while_a_step_is_recorded(digits):
    """A graph among it would be destroyed, which no device allows while it records another one."""
    step, recorder = made(digits, MLP, LOSSES["full"](MLP)), Watching(fails=False)
    passed(step, Recorded(step, 50, len(NAMES), recorder))
    assert recorder.collects == [False]
    assert gc.isenabled()


def test_a_step_that_was_not_recorded_runs_without_the_memory_of_the_attempt(digits):
    """What it had recorded lay beside the step, where memory was short already."""
    step, recorder = made(digits, MLP, LOSSES["full"](MLP)), Watching(fails=True)
    through, found = Recorded(step, 50, len(NAMES), recorder), []
    take = step.optimiser.step

    def watched() -> None:
        found.append(recorder.held is not None and recorder.held() is not None)
        take()

    step.optimiser.step = watched
    passed(step, through)
    assert not any(found)
    assert recorder.collects == [False]
    assert gc.isenabled()


@pytest.mark.parametrize("ramp", [0, 3, 7])
@pytest.mark.parametrize("alpha_kl", [0.05, 1 / 3, 743.0])
def test_the_weight_of_the_kl_term_is_the_same_as_a_scalar_of_the_device(alpha_kl, ramp):
    kl = torch.tensor(1.2345)
    for done in (0, 1 / 7, 2.999, 3, 50.5):
        number = kl_weight(alpha_kl, done, ramp) * kl
        on_device = kl_weight(alpha_kl, torch.tensor(done, dtype=torch.float64), ramp) * kl
        assert number.dtype == on_device.dtype == torch.float32
        assert number.equal(on_device)


class TestSchedule:
    def test_the_plain_way_is_called_as_before_and_others_otherwise(self):
        assert "graph" not in plain(Training())
        assert digest(Training()) != digest(Training(graph=False))

    def test_a_cpu_has_no_graphs_and_goes_on_without_a_word(self, digits, tmp_path, caplog):
        disk = Store(tmp_path / "store").disk
        either = [
            trained(digits, replace(SCHEDULE, graph=graph), Checkpoints(disk, f"{number}" * 64))
            for number, graph in enumerate((True, False))
        ]
        assert either[0].files() == either[1].files()
        assert not caplog.text


def trained(dataset: Dataset, schedule: Training, checkpoints: Checkpoints, device: str = "cpu") -> Content:
    vae = build(CONV, dataset.shape, CLASSES, seed=3).to(device)
    bench = Workbench(device, [].append, checkpoints, 0.0)
    batches = Batches(dataset, "train", teacher_rows(dataset), schedule.batch_size, device)
    given = {"stage": "full", "seed": 0, "bench": bench, "evaluate": lambda vae: {}}  # noqa: ARG005
    curve = loop.fit(vae, LOSSES["full"](CONV), batches, schedule, **given)
    return Content(weights(vae), {"curve": curve})


def pieced(dataset: Dataset, schedule: Training, checkpoints: CuttingCheckpoints, device: str = "cpu") -> Content:
    """Cut after every checkpoint."""
    while True:
        try:
            return trained(dataset, schedule, checkpoints, device)
        except Cut:
            continue


@pytest.mark.gpu
class TestGpu:
    """As workers compute, for so the session began: cuDNN would otherwise add up in another order every time."""

    @each
    @pytest.mark.parametrize("model", [MLP, CONV], ids=["perceptron", "convolutions"])
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_replays_compute_the_bytes_of_steps(self, digits, model, name, precision):
        schedule = replace(SCHEDULE, precision=precision)
        eager, buffered = (made(digits, model, LOSSES[name](model), "cuda:0", schedule) for _ in range(2))
        graph = Recorded(buffered, 50, len(NAMES))
        found = passed(buffered, graph)
        assert graph._replay is not None, "it was not recorded"
        assert found[1] == passed(eager, eager)[1]

    def test_cut_after_every_checkpoint_it_ends_with_the_same_bytes(self, digits, tmp_path):
        disk, schedule = Store(tmp_path / "store").disk, SCHEDULE
        whole = trained(digits, schedule, Checkpoints(disk, "1" * 64), "cuda:0")
        assert pieced(digits, schedule, CuttingCheckpoints(disk, "2" * 64), "cuda:0").files() == whole.files()

    def test_a_loss_that_asks_the_host_goes_on_eagerly(self, digits, caplog):
        align = protected_alignment(Affine(), info=0.5)
        loss = chain_loss(MLP, Unaligned(), 5.0, align=align)
        eager, stubborn = (made(digits, MLP, loss, "cuda:0") for _ in range(2))
        found = passed(stubborn, Recorded(stubborn, 50, len(NAMES)))
        assert found[1] == passed(eager, eager)[1]
        assert caplog.text.count("cannot be recorded as a CUDA graph") == 1
        assert torch.rand(3, device="cuda:0").isfinite().all(), "the device goes on"
