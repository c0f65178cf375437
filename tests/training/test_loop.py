"""The one training loop: resumable to the byte, silent about modes, and clear about the number that broke."""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from certvae.data.dataset import Dataset
from certvae.errors import DataFault, NumberFault
from certvae.models.nets import Vae, build, weights
from certvae.spec.parts import Training
from certvae.store.artifact import Content
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import loop, objective
from certvae.training.batches import Batch, Batches, forget_uploads
from certvae.training.objective import Terms
from tests.laws import Cut, CuttingCheckpoints
from tests.small_cells import CLASSES, MODEL, small_digits, warm_up_until_killed

EPOCHS = 5
SCHEDULE = Training(epochs=EPOCHS, batch_size=50)
STEPS = 4  # 216 train rows in batches of 50, the rest left out


def bench(store: Store, told: list | None = None, checkpoints: Checkpoints | None = None) -> Workbench:
    report = (told if told is not None else []).append
    return Workbench("cpu", report, checkpoints or Checkpoints(store.disk, "0" * 64), 0.0)


def plain_loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
    """Reconstruction and KL, with noise, so that every generator matters."""
    mu, logvar = vae.encoder(batch.x)
    z = objective.sample(mu, logvar, noise)
    reconstruction = objective.reconstruction(MODEL.likelihood, vae.decoder(z), batch.x)
    kl = objective.kl_rate(mu, logvar)
    return Terms(reconstruction + 0.1 * kl, reconstruction, kl, 0 * kl, 0 * kl)


def guard_mean(vae: Vae) -> dict[str, float | None]:
    return {"guard_weight": float(vae.encoder.mu.weight.detach().sum())}


def trained(
    dataset: Dataset, on: Workbench, schedule: Training = SCHEDULE, loss: Any = plain_loss, seed: int = 0
) -> Content:
    vae = build(MODEL, dataset.shape, CLASSES, seed=7)
    batches = Batches(dataset, "train", None, schedule.batch_size, on.device)
    curve = loop.fit(vae, loss, batches, schedule, stage="warm_up", seed=seed, bench=on, evaluate=guard_mean)
    return Content(weights(vae), {"curve": curve})


class TestBatches:
    def test_in_order_every_row_comes_once_with_its_own_teacher_row(self, digits):
        rows = digits.rows("train")
        targets = np.arange(len(rows) * 2, dtype=np.float32).reshape(-1, 2)
        batches = list(Batches(digits, "train", targets, 50, "cpu").in_order())
        assert [len(batch.x) for batch in batches] == [50, 50, 50, 50, 16]
        expected = torch.from_numpy(digits.images[rows].astype(np.float32) / 16)
        torch.testing.assert_close(torch.cat([batch.x for batch in batches]), expected, rtol=0, atol=0)
        found = torch.cat([batch.teacher for batch in batches if batch.teacher is not None])
        np.testing.assert_array_equal(found.numpy(), targets)

    def test_a_shuffled_pass_keeps_images_and_teacher_rows_together(self, digits):
        number = np.arange(len(digits.rows("train")), dtype=np.float32)[:, None]
        images = torch.from_numpy(digits.images[digits.rows("train")].astype(np.float32) / 16)
        for batch in Batches(digits, "train", number, 50, "cpu").shuffled(seed=3):
            assert batch.teacher is not None
            assert torch.equal(batch.x, images[batch.teacher[:, 0].long()])

    def test_a_pass_leaves_the_incomplete_batch_out_and_other_rows_each_time(self, digits):
        number = np.arange(216, dtype=np.float32)[:, None]
        batches, seen = Batches(digits, "train", number, 50, "cpu"), Counter()
        for seed in range(30):
            drawn = [int(row) for batch in batches.shuffled(seed) for row in _teacher(batch)[:, 0]]
            assert len(drawn) == len(set(drawn)) == STEPS * 50
            seen.update(drawn)
        assert len(seen) == 216

    def test_the_seed_alone_decides_the_order(self, digits):
        def order(seed: int) -> list[float]:
            number = np.arange(216, dtype=np.float32)[:, None]
            return [
                float(row)
                for batch in Batches(digits, "train", number, 50, "cpu").shuffled(seed)
                for row in _teacher(batch)
            ]

        torch.manual_seed(0)
        first = order(5)
        torch.manual_seed(1)
        assert order(5) == first
        assert order(6) != first

    def test_images_on_a_device_are_those_of_the_memory_map(self, digits):
        """`cpu:0` takes the way of a GPU: all images of the split are copied first."""
        targets = np.random.default_rng(0).random((24, 3)).astype(np.float32)
        mapped, copied = (Batches(digits, "guard", targets, 10, device) for device in ("cpu", "cpu:0"))
        for one, other in zip(mapped.shuffled(1), copied.shuffled(1), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(_teacher(one), _teacher(other))

    def test_pixels_lie_in_the_unit_interval(self, digits):
        x = next(Batches(digits, "train", None, 1000, "cpu").in_order()).x
        assert x.dtype == torch.float32
        assert (float(x.min()), float(x.max())) == (0.0, 1.0)

    @pytest.mark.parametrize("rows", [23, 25])
    def test_there_is_one_teacher_row_per_image(self, digits, rows):
        with pytest.raises(DataFault, match=f"E-DATA: {rows} teacher rows for 24 guard images"):
            Batches(digits, "guard", np.ones((rows, 3), np.float32), 10, "cpu")

    def test_a_batch_is_never_larger_than_the_split(self, digits):
        batches = Batches(digits, "guard", None, 1000, "cpu")
        assert (batches.size, batches.steps) == (24, 1)


class TestResume:
    def test_cut_after_every_checkpoint_it_ends_with_the_same_bytes(self, digits, store):
        whole = trained(digits, bench(store, checkpoints=Checkpoints(store.disk, "1" * 64)))
        cutting = bench(store, checkpoints=CuttingCheckpoints(store.disk, "2" * 64))
        cuts = []
        while True:
            try:
                pieced = trained(digits, cutting)
                break
            except Cut as cut:
                cuts.append(cut.args[0])
        assert cuts == [1, 2, 3, 4]
        assert pieced.files() == whole.files()

    @pytest.mark.parametrize("epoch", range(EPOCHS))
    def test_cut_inside_any_epoch_it_ends_with_the_same_bytes(self, digits, store, epoch):
        whole = trained(digits, bench(store, checkpoints=Checkpoints(store.disk, "1" * 64)))
        with pytest.raises(Cut):
            trained(digits, bench(store), loss=_raising_at(epoch * STEPS + 2))
        steps = []
        again = trained(digits, bench(store), loss=_counting(steps))
        assert again.files() == whole.files()
        assert len(steps) == (EPOCHS - epoch) * STEPS

    def test_whoever_saves_more_often_gets_the_same_bytes(self, digits, store):
        often = trained(digits, bench(store))
        seldom = trained(digits, Workbench("cpu", [].append, Checkpoints(store.disk, "1" * 64), 1e9))
        assert often.files() == seldom.files()

    def test_a_damaged_checkpoint_costs_time_and_no_bit(self, digits, store):
        whole = trained(digits, Workbench("cpu", [].append, Checkpoints(store.disk, "1" * 64), 1e9))
        with pytest.raises(Cut):
            trained(digits, bench(store), loss=_raising_at(3 * STEPS))
        (kept,) = store.path.glob("ckpt/*/arrays.safetensors")
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
        assert trained(digits, bench(store)).files() == whole.files()


class TestKill:
    """SIGKILL in a process of its own, made by a server that has torch imported and no thread started."""

    @pytest.fixture(scope="class")
    def killed(self, tmp_path_factory) -> Callable[[Path, int | None], int | None]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch._dynamo", "tests.small_cells"])  # what children would import

        def run(folder: Path, epoch: int | None) -> int | None:
            process = context.Process(target=warm_up_until_killed, args=(folder, epoch))
            process.start()
            process.join()
            return process.exitcode

        return run

    def test_killed_at_three_epochs_it_ends_with_the_object_of_an_undisturbed_run(self, killed, tmp_path):
        assert killed(tmp_path / "whole", None) == 0
        assert [killed(tmp_path / "pieced", epoch) for epoch in (1, 2, 4)] == [-signal.SIGKILL] * 3
        assert killed(tmp_path / "pieced", None) == 0
        whole, pieced = (
            {p.name: p.read_bytes() for p in (tmp_path / name).glob("store/obj/*/*")} for name in ("whole", "pieced")
        )
        assert whole == pieced
        assert {"arrays.safetensors", "facts.json"} <= whole.keys()
        assert not list((tmp_path / "pieced" / "store" / "ckpt").iterdir())


class TestSeeds:
    def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(self, digits, tmp_path):
        runs = []
        for number, seed in enumerate((0, 0, 1)):
            torch.manual_seed(number)
            np.random.seed(number)  # noqa: NPY002
            runs.append(trained(digits, bench(Store(tmp_path / str(number))), seed=seed).files())
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    @pytest.mark.parametrize("pair", [(0, 1), (51, 77), (42, 87)])
    def test_seeds_and_epochs_have_orders_and_noises_of_their_own(self, digits, tmp_path, pair):
        """Hashed for their purpose, 51 and 77, and 42 and 87, agree in the low twelve bits."""
        starts: list[tuple[int, float]] = []
        for seed in pair:
            record: list[tuple[int, float]] = []
            trained(digits, bench(Store(tmp_path / str(seed))), loss=_recording(record), seed=seed)
            starts += record[::STEPS]
        assert len(starts) == 2 * EPOCHS
        assert len({x for x, _ in starts}) == len({noise for _, noise in starts}) == 2 * EPOCHS

    def test_training_leaves_the_global_generator_alone(self, digits, store):
        before = torch.get_rng_state()
        trained(digits, bench(store))
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_loss_that_draws_no_noise_sees_the_same_order(self, digits, tmp_path):
        """Order and noise are streams of their own: this is what pairs the modes of a chain."""

        def silent(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
            seen.append(hash(batch.x.numpy().tobytes()))
            mu, logvar = vae.encoder(batch.x)
            kl = objective.kl_rate(mu, logvar)
            return Terms(kl, kl, kl, kl, kl)

        seen: list[int] = []
        trained(digits, bench(Store(tmp_path / "silent")), loss=silent)
        record: list[tuple[int, float]] = []
        trained(digits, bench(Store(tmp_path / "noisy")), loss=_recording(record))
        assert seen == [x for x, _ in record]


class TestNumbers:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 2), (2, 0), (2, 3)])
    def test_the_first_bad_loss_is_named_with_its_place_and_the_last_good_one(self, digits, store, value, epoch, step):
        totals: list[float] = []
        with pytest.raises(NumberFault) as caught:
            trained(digits, bench(store), loss=_breaking(epoch * STEPS + step, value, totals))
        message = str(caught.value)
        assert message.startswith(f"E-NUM: loss became {value} at epoch {epoch + 1} step {step + 1}, ")
        assert "stage warm_up" in message
        assert "learning rate 0.001" in message
        if step:
            assert f"last finite loss {totals[epoch * STEPS + step - 1]:.6g}" in message
        elif epoch:
            mean = np.mean(totals[(epoch - 1) * STEPS : epoch * STEPS])
            assert f"mean of epoch {epoch} {mean:.6g}" in message
        else:
            assert "no loss before it" in message

    def test_weights_that_broke_at_the_last_step_are_not_evaluated(self, digits, store):
        """A finite loss with an infinite gradient: the next loss would show it, and there is none."""

        def loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
            mu, _ = vae.encoder(batch.x)
            root = (mu - mu.detach()).square().sum().sqrt()  # 0, with gradient 0 / 0
            return Terms(root, root, root, root, root)

        one_step = Training(epochs=1, batch_size=1000)
        with pytest.raises(
            NumberFault, match=r"E-NUM: a weight became NaN or infinite in epoch 1, .* last finite loss 0"
        ):
            trained(digits, bench(store), one_step, loss)

    def test_a_run_that_diverged_diverges_again_from_its_checkpoint(self, digits, store):
        for _ in range(2):
            with pytest.raises(NumberFault, match="at epoch 4 step 1"):
                trained(digits, bench(store), loss=_from_time(3.0, float("nan")))

    def test_a_term_that_does_not_train_may_be_infinite(self, digits, store):
        """Recorded as unavailable: no infinity reaches the curve."""

        def loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
            terms = plain_loss(vae, batch, noise, epochs_done)
            return Terms(terms.total, terms.reconstruction, terms.kl, terms.kl + float("inf"), terms.balance)

        curve = trained(digits, bench(store), loss=loss).facts["curve"]
        assert [point["alignment"] for point in curve] == [None] * EPOCHS


class TestCurve:
    def test_a_point_holds_the_means_of_its_epoch_and_the_guard_numbers(self, digits, store):
        totals: list[float] = []
        curve = trained(digits, bench(store), loss=_breaking(10**9, 0.0, totals)).facts["curve"]
        assert [point["epoch"] for point in curve] == [1, 2, 3, 4, 5]
        for point in curve:
            epoch = totals[(point["epoch"] - 1) * STEPS : point["epoch"] * STEPS]
            assert point["total"] == pytest.approx(np.mean(epoch), rel=1e-6)
            assert point["total"] == pytest.approx(point["reconstruction"] + 0.1 * point["kl"], rel=1e-5)
            assert "guard_weight" in point
        assert curve[-1]["total"] < curve[0]["total"]

    @pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5])])
    def test_points_are_as_dense_as_asked_and_the_last_epoch_is_one(self, digits, store, every, epochs):
        schedule = Training(epochs=EPOCHS, batch_size=50, report_every=every)
        assert [point["epoch"] for point in trained(digits, bench(store), schedule).facts["curve"]] == epochs

    def test_how_often_is_reported_does_not_change_the_weights(self, digits, tmp_path):
        first, other = (
            trained(
                digits, bench(Store(tmp_path / str(every))), Training(epochs=EPOCHS, batch_size=50, report_every=every)
            )
            for every in (1, 5)
        )
        assert all(np.array_equal(first.arrays[name], other.arrays[name]) for name in first.arrays)

    def test_every_point_is_told_with_where_training_is(self, digits, store):
        told: list[dict] = []
        curve = trained(digits, bench(store, told)).facts["curve"]
        points = [event for event in told if event["step"] == 0]
        assert [event["epoch"] for event in points] == [1, 2, 3, 4, 5]
        assert all(event["stage"] == "warm_up" for event in points)
        assert all((event["epochs"], event["steps"]) == (EPOCHS, STEPS) for event in points)
        assert [event["loss"] for event in points] == [point["total"] for point in curve]

    def test_steps_between_points_are_told_at_most_once_per_interval(self, digits, store, monkeypatch):
        monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
        told: list[dict] = []
        trained(digits, bench(store, told))
        assert [event["step"] for event in told if event["epoch"] == 0] == [1, 2, 3, 4]
        monkeypatch.setattr(loop, "REPORT_SECONDS", 1e9)
        quiet: list[dict] = []
        trained(digits, bench(store, quiet, Checkpoints(store.disk, "1" * 64)))
        assert all(event["step"] == 0 for event in quiet)


class TestStep:
    def test_the_loss_hears_how_many_epochs_are_done(self, digits, store):
        times: list[float] = []

        def loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
            times.append(epochs_done)
            return plain_loss(vae, batch, noise, epochs_done)

        trained(digits, bench(store), loss=loss)
        assert times == [step / STEPS for step in range(EPOCHS * STEPS)]

    def test_the_gradient_is_clipped_to_its_norm(self, digits, store):
        """With the gradient cut to nothing, Adam's own constant swallows the step."""
        free = trained(digits, bench(store))
        tiny = Training(epochs=EPOCHS, batch_size=50, gradient_clip=1e-12)
        held = trained(digits, bench(store, checkpoints=Checkpoints(store.disk, "1" * 64)), tiny)
        start = weights(build(MODEL, digits.shape, CLASSES, seed=7))
        assert max(np.abs(held.arrays[name] - start[name]).max() for name in start) < 1e-4
        assert max(np.abs(free.arrays[name] - start[name]).max() for name in start) > 1e-3

    def test_frozen_parameters_stay(self, digits, store):
        vae = build(MODEL, digits.shape, CLASSES, seed=7)
        vae.encoder.requires_grad_(False)
        before = weights(vae)
        loop.fit(
            vae,
            plain_loss,
            Batches(digits, "train", None, 50, "cpu"),
            SCHEDULE,
            stage="warm_up",
            seed=0,
            bench=bench(store),
            evaluate=guard_mean,
        )
        after = weights(vae)
        kept = {name for name in before if np.array_equal(before[name], after[name])}
        assert kept == {name for name in before if name.startswith(("encoder.", "head."))}


def _teacher(batch: Batch) -> torch.Tensor:
    assert batch.teacher is not None
    return batch.teacher


def _raising_at(step: int) -> Any:
    steps: list[None] = []

    def loss(*given: Any) -> Terms:
        if len(steps) == step:
            raise Cut(step)
        steps.append(None)
        return plain_loss(*given)

    return loss


def _counting(steps: list) -> Any:
    def loss(*given: Any) -> Terms:
        steps.append(None)
        return plain_loss(*given)

    return loss


def _breaking(step: int, value: float, totals: list[float]) -> Any:
    """A loss that takes a value at one step, and keeps the totals of the others."""

    def loss(*given: Any) -> Terms:
        terms = plain_loss(*given)
        totals.append(float(terms.total.detach()))
        if len(totals) == step + 1:
            return Terms(terms.total * 0 + value, terms.reconstruction, terms.kl, terms.alignment, terms.balance)
        return terms

    return loss


def _from_time(start: float, value: float) -> Any:
    def loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
        terms = plain_loss(vae, batch, noise, epochs_done)
        total = terms.total * (value if epochs_done >= start else 1.0)
        return Terms(total, terms.reconstruction, terms.kl, terms.alignment, terms.balance)

    return loss


def _recording(record: list[tuple[int, float]]) -> Any:
    """What was seen and what was drawn, step by step; the draw comes from a copy of the generator."""

    def loss(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
        copy = torch.Generator()
        copy.set_state(noise.get_state())
        record.append((hash(batch.x.numpy().tobytes()), float(torch.rand(1, generator=copy))))
        return plain_loss(vae, batch, noise, epochs_done)

    return loss


def test_images_are_uploaded_once_per_data_set_and_split(digits, tmp_path):
    """On a device that allocates nothing: what matters is whose memory it is."""

    def images(dataset, split):
        return Batches(dataset, split, None, 50, "meta")._images

    first = images(digits, "train")
    assert images(digits, "train") is first
    assert images(digits, "guard") is not first
    other = small_digits(tmp_path, limit=100)
    assert len(images(other, "train")) == len(other.rows("train"))
    assert images(digits, "train") is not first, "it has made room"

    known = images(digits, "train")
    forget_uploads()
    assert images(digits, "train") is not known, "another process may want that room"
