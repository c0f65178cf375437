"""Live teachers: the same mixture on other features, without gradient, with its drift logged, and never pooled."""

import dataclasses

import numpy as np
import pytest
import torch

from analysis.load import load
from analysis.views import partition
from certvae.evaluation.diagnostics import passage
from certvae.models.nets import build, load_weights
from certvae.protocols import chain, rescue
from certvae.protocols.chain import Chain
from certvae.protocols.trained import drift
from certvae.spec.rescue import Unaligned
from certvae.store.artifact import Artifact
from certvae.store.store import Store
from certvae.teachers.kinds import FeatureTeacher
from certvae.training.batches import Batch, Batches, Constant, cached
from certvae.training.losses import chain_loss
from tests.laws import StageLaws
from tests.small_cells import CLASSES, MODEL, OBJECTIVE, TRAINING, small_cell, small_digits, with_noise_in

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("live") / "store")


@pytest.fixture(scope="module")
def trained(store: Store) -> Chain:
    return chain.train(small_cell(live_features=True), small_digits(store.path.parent / "cache"), store)


def rows_of(trained: Chain, store: Store) -> dict[str, dict]:
    dataset = small_digits(store.path.parent / "cache")
    return {row["mode"]: row for row in chain.judge(trained, dataset, store, "certify")}


def artifact(ended: object) -> Artifact:
    assert isinstance(ended, Artifact)
    return ended


class TestTargets:
    def test_the_cache_is_the_teacher_on_frozen_features(self, trained: Chain, store: Store):
        """Q holds T(x) of every guard row, up to float32."""
        teacher, vae = artifact(trained.teacher), build(MODEL, SHAPE, CLASSES, 0)
        load_weights(vae, artifact(trained.warm).arrays)
        guard = Batches(small_digits(store.path.parent / "cache"), "guard", None, 8, "cpu")
        read = FeatureTeacher.of(teacher, "cpu").rows(passage(vae, guard).mu)
        np.testing.assert_allclose(read, teacher.arrays["targets_guard"], atol=1e-5)

    def test_live_rows_carry_no_gradient(self, trained: Chain):
        read = FeatureTeacher.of(artifact(trained.teacher), "cpu")
        mu = torch.randn(7, MODEL.encoder.latent, requires_grad=True)
        rows = read(Batch(torch.zeros(7, *SHAPE), None), mu)
        assert not rows.requires_grad
        np.testing.assert_allclose(rows.sum(dim=1).numpy(), 1, atol=1e-6)

    def test_another_encoder_leaves_frozen_rows_and_moves_live_ones(self, trained: Chain):
        read = FeatureTeacher.of(artifact(trained.teacher), "cpu")
        batch = Batch(torch.rand(9, *SHAPE), torch.full((9, CLASSES), 1 / CLASSES))
        first, second = (build(MODEL, SHAPE, CLASSES, seed).encoder(batch.x)[0].detach() for seed in (0, 1))
        assert torch.equal(cached(batch, first), cached(batch, second))  # pyright: ignore[reportArgumentType]
        assert not torch.equal(read(batch, first), read(batch, second))

    def test_one_row_for_all(self):
        row = np.array([0.5, 0.25, 0.25])
        found = Constant(row)(Batch(torch.zeros(4, *SHAPE), None), torch.zeros(4, 2))
        np.testing.assert_array_equal(found.numpy(), np.tile(row, (4, 1)).astype(np.float32))

    def test_the_loss_aligns_to_live_rows(self, trained: Chain):
        read = FeatureTeacher.of(artifact(trained.teacher), "cpu")
        vae, batch = build(MODEL, SHAPE, CLASSES, 0), Batch(torch.rand(9, *SHAPE), torch.full((9, CLASSES), 0.25))
        live, frozen = (
            chain_loss(MODEL, Unaligned(), 1.0, targets=targets)(vae, batch, torch.Generator().manual_seed(0), 0.0)
            for targets in (read, cached)
        )
        assert live.alignment.item() != frozen.alignment.item()
        assert live.reconstruction.item() == frozen.reconstruction.item()


class TestDrift:
    def test_a_teacher_that_did_not_move(self):
        rows = np.random.default_rng(0).dirichlet(np.ones(4), 20).astype(np.float32)
        assert drift(rows, rows, "guard") == pytest.approx(0, abs=1e-9)

    def test_is_the_mean_divergence_from_the_cache(self):
        rng = np.random.default_rng(0)
        q, live = rng.dirichlet(np.ones(4), (2, 20))
        assert drift(q, live, "guard") == pytest.approx(float((q * np.log(q / live)).sum(axis=1).mean()), abs=1e-9)

    def test_a_live_teacher_that_excludes_what_was_possible(self):
        q, live = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
        assert drift(q, live, "guard") == np.inf

    def test_every_point_of_a_live_curve_logs_it(self, trained: Chain):
        for mode in ("live_full", "live_no_align", "live_rescue"):
            points = artifact(trained.modes[mode]).facts["curve"]
            assert all(point["guard_drift"] >= -1e-9 for point in points)
        assert "guard_drift" not in artifact(trained.modes["full"]).facts["curve"][0]


class TestRows:
    def test_frozen_modes_share_one_information_and_live_ones_do_not(self, trained: Chain, store: Store):
        rows = rows_of(trained, store)
        frozen = [rows[mode]["info"] for mode in ("full", "no_align", "rescue")]
        live = [rows[mode]["info"] for mode in ("live_full", "live_no_align", "live_rescue")]
        assert max(frozen) - min(frozen) <= 1e-12
        assert len({round(info, 6) for info in live}) == 3

    def test_live_rows_say_what_they_are(self, trained: Chain, store: Store):
        rows = rows_of(trained, store)
        assert {row["teacher_features"] for mode, row in rows.items() if mode.startswith("live_")} == {"live"}
        assert {row["teacher_features"] for mode, row in rows.items() if not mode.startswith("live_")} == {"frozen"}
        assert all(
            (row.get("teacher_drift") is not None) == (row["teacher_features"] == "live") for row in rows.values()
        )

    def test_quality_is_that_of_the_teacher_before_training(self, trained: Chain, store: Store):
        rows = rows_of(trained, store)
        assert len({(row["teacher_info"], row["teacher_min_mass"]) for row in rows.values()}) == 1

    def test_the_margin_is_against_the_live_rows(self, trained: Chain, store: Store):
        row = rows_of(trained, store)["live_full"]
        assert row["margin"] == pytest.approx(row["info"] - row["loss"], abs=1e-12)
        assert row["info"] != row["teacher_info"]

    def test_a_live_mode_is_never_under_the_name_of_a_frozen_one(self, trained: Chain, store: Store):
        """So no grouping by mode can pool them."""
        rows_of(trained, store)
        frame = load(store.path, "small", "certify")
        parts = partition(frame)
        for rows in (parts.strict.rows, parts.stress.listed):
            assert set(rows.groupby("mode")["teacher_features"].nunique()) <= {1}

    def test_without_the_option_there_is_no_live_mode(self):
        assert chain.modes(small_cell()) == ("full", "no_align", "rescue")
        assert set(chain.steps(small_cell(live_features=True))) - set(chain.steps(small_cell())) == set(rescue.LIVE)


class _LiveLaws(StageLaws):
    def start(self, store: Store, seed: int = 0) -> Chain:
        return chain.train(small_cell(seed=seed), small_digits(store.path.parent / "cache"), store)

    def inputs(self, store: Store) -> dict:
        taught = self.start(store)
        return {
            "dataset": small_digits(store.path.parent / "cache"),
            "model": MODEL,
            "objective": OBJECTIVE,
            "training": TRAINING,
            "seed": 0,
            "start": taught.warm,
            "teacher": taught.teacher,
        }

    def others(self, store: Store) -> dict:
        other = self.start(store, seed=1)
        return {
            "dataset": with_noise_in(self.inputs(store)["dataset"], ("train",), store.path.parent / "noisy"),
            "model": dataclasses.replace(MODEL, likelihood=dataclasses.replace(MODEL.likelihood, variance=0.4)),
            "objective": dataclasses.replace(OBJECTIVE, alpha_kl=0.2),
            "training": dataclasses.replace(TRAINING, epochs=2),
            "seed": 1,
            "start": other.warm,
            "teacher": other.teacher,
        }


class TestLiveAligned(_LiveLaws):
    stage = rescue.live_aligned


class TestLiveNoAlign(_LiveLaws):
    stage = rescue.live_no_align

    def inputs(self, store: Store) -> dict:
        return super().inputs(store) | {"objective": OBJECTIVE.unaligned()}

    def others(self, store: Store) -> dict:
        return super().others(store) | {"objective": Unaligned(alpha_kl=0.2)}
