"""Diagnostics against closed forms; none of them certifies anything."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.certificate import Pairs, certify
from certvae.data.dataset import Dataset
from certvae.errors import NumberFault
from certvae.evaluation import diagnostics
from certvae.evaluation.diagnostics import (
    HEAD_ROWS,
    Passage,
    active_units,
    guard_numbers,
    head_logits,
    kl_rate,
    passage,
    psnr_01,
    psnr_std,
    sampled,
    usage,
)
from certvae.models.nets import Vae, build
from certvae.spec.parts import LearnedHead, Mlp, Model
from certvae.training.batches import Batches, Constant
from tests.small_cells import MODEL

CIFAR100_STD = np.array([0.2673, 0.2564, 0.2762])
CIFAR10_STD = np.array([0.2470, 0.2435, 0.2616])
TEACHER = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]])
SEEING = Model(encoder=Mlp(hidden=(16,), latent=5), head=LearnedHead(hidden=(8,)), decoder_sees_teacher=True)


def teacher_of(n: int, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=n).astype(np.float32)


class TestPsnr:
    def test_of_a_known_error(self):
        assert psnr_01(np.array([0.5636])) == pytest.approx(2.49, abs=0.005)
        assert psnr_01(np.array([0.01, 0.01, 0.01])) == pytest.approx(20)

    def test_is_of_the_mean_error_over_channels_not_the_mean_of_psnrs(self):
        assert psnr_01(np.array([0.1, 0.001])) == pytest.approx(-10 * math.log10(0.0505))

    @pytest.mark.parametrize(("std", "offset"), [(CIFAR100_STD, 11.478), (CIFAR10_STD, 12.013)])
    def test_the_two_spaces_differ_by_the_scale_of_the_data_set(self, std, offset):
        """Equal errors per standardised channel: psnr_01 = psnr_std - 10 log10 mean_c s_c^2."""
        channel_mse = 0.3 * std**2
        assert psnr_01(channel_mse) - psnr_std(channel_mse, std) == pytest.approx(offset, abs=1e-3)
        assert psnr_std(channel_mse, std) == pytest.approx(-10 * math.log10(0.3))

    def test_a_bounded_decoder_has_its_floor_on_standardised_gaussian_pixels(self):
        """E[min(x, 0)^2] + E[(x - 1)_+^2] for standard normal x: the 2.4 dB that the paper's tables repeat."""
        x = np.linspace(-12, 12, 2_000_001)
        error = np.where(x < 0, x**2, np.where(x > 1, (x - 1) ** 2, 0)) * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        mse = error.sum() * (x[1] - x[0])
        assert mse == pytest.approx(0.575340, abs=1e-6)
        assert psnr_std(np.array([mse]), np.ones(1)) == pytest.approx(2.4008, abs=1e-4)

    def test_and_on_standardised_uniform_pixels(self):
        half = math.sqrt(3)
        mse = (half**3 / 3 + (half - 1) ** 3 / 3) / (2 * half)
        assert psnr_std(np.array([mse]), np.ones(1)) == pytest.approx(2.6942, abs=1e-4)


class TestCode:
    def test_a_unit_is_active_when_its_mean_varies_by_more_than_a_hundredth(self):
        mu = np.stack([np.tile([0.0, 0.1999], 5), np.tile([0.0, 0.2001], 5), np.zeros(10)], axis=1)
        assert active_units(mu) == 1

    def test_and_strictly_more(self, monkeypatch):
        monkeypatch.setattr(diagnostics, "ACTIVE_VARIANCE", 0.25)
        assert active_units(np.array([[-0.5, -0.75], [0.5, 0.75]])) == 1

    def test_a_constant_unit_far_from_zero_is_not_active(self):
        assert active_units(np.full((1000, 3), 1e4, np.float32)) == 0

    def test_kl_rate_of_known_posteriors(self):
        assert kl_rate(np.array([[1.0, 0.0]]), np.log(np.array([[1.0, 0.25]]))) == pytest.approx(0.8181471806, abs=1e-9)
        assert kl_rate(np.zeros((5, 3)), np.zeros((5, 3))) == 0

    def test_a_draw_has_the_moments_of_the_posterior_and_the_seed_of_its_generator(self):
        seen = Passage(np.full((100_000, 2), 3.0), np.tile([-2.0, 1.0], (100_000, 1)), np.zeros(1))
        z = sampled(seen.mu, seen.logvar, np.random.default_rng(0))
        np.testing.assert_allclose(z.mean(axis=0), 3, atol=0.02)
        np.testing.assert_allclose(z.var(axis=0), np.exp([-2, 1]), rtol=0.02)
        np.testing.assert_array_equal(z, sampled(seen.mu, seen.logvar, np.random.default_rng(0)))
        assert not np.array_equal(z, sampled(seen.mu, seen.logvar, np.random.default_rng(1)))


class TestUsage:
    def test_four_rows_worked_by_hand(self):
        found = usage(TEACHER, "student")
        assert found["student_effective_classes"] == pytest.approx(2.939494, abs=1e-6)
        assert found["student_min_mass"] == pytest.approx(0.2625)
        assert found["student_soft_usage_kl"] == pytest.approx(math.log(3) - 1.0782375765, abs=1e-9)
        assert found["student_hard_usage_kl"] == pytest.approx(math.log(3) - 1.0397207708, abs=1e-9)
        assert found["student_used_classes"] == 3

    @given(st.integers(2, 30), st.integers(1, 30))
    @settings(deadline=None, max_examples=50)
    def test_one_hot_rows_use_the_classes_they_show(self, classes, used):
        used = min(used, classes)
        found = usage(np.eye(classes)[np.arange(7 * used) % used], "student")
        assert found["student_used_classes"] == used
        assert found["student_effective_classes"] == pytest.approx(used)
        assert found["student_hard_usage_kl"] == pytest.approx(math.log(classes / used), abs=1e-9)

    def test_a_class_counts_as_used_from_a_tenth_of_its_fair_share(self):
        rows = np.eye(2)[[1] + [0] * 19]  # 1 / 20 is a tenth of 1 / 2
        assert usage(rows, "student")["student_used_classes"] == 2
        assert usage(np.concatenate([rows, np.eye(2)[[0]]]), "student")["student_used_classes"] == 1


class TestPassage:
    def test_is_what_the_network_says_row_by_row(self, digits):
        vae, teacher = build(SEEING, digits.shape, 4, seed=0), teacher_of(24)
        seen = passage(vae, Batches(digits, "guard", teacher, 10, "cpu"))
        x = torch.from_numpy(digits.images[digits.rows("guard")].astype(np.float32) / 16)
        with torch.no_grad():
            mu, logvar = vae.encoder(x)
            x_hat = torch.sigmoid(vae.decoder(mu, torch.from_numpy(teacher)))
        np.testing.assert_allclose(seen.mu, mu.numpy(), atol=1e-6)
        np.testing.assert_allclose(seen.logvar, logvar.numpy(), atol=1e-6)
        assert psnr_01(seen.channel_mse) == pytest.approx(
            -10 * math.log10(float((x_hat - x).square().mean())), abs=1e-4
        )

    def test_a_row_in_the_slot_replaces_the_teacher_rows_of_the_decoder_alone(self, digits):
        vae, teacher = build(SEEING, digits.shape, 4, seed=0), teacher_of(24)
        batches = Batches(digits, "guard", teacher, 10, "cpu")
        seen, fixed = passage(vae, batches), passage(vae, batches, Constant(teacher.mean(axis=0)))
        np.testing.assert_array_equal(seen.mu, fixed.mu)
        assert seen.channel_mse != fixed.channel_mse

    def test_without_the_slot_the_reconstruction_does_not_depend_on_the_teacher(self, digits):
        vae = build(MODEL, digits.shape, 4, seed=0)
        errors = [
            passage(vae, Batches(digits, "guard", teacher_of(24, seed=seed), 10, "cpu")).channel_mse for seed in (0, 1)
        ]
        np.testing.assert_array_equal(errors[0], errors[1])

    def test_leaves_no_gradient_and_evaluation_mode(self, digits):
        vae = build(MODEL, digits.shape, 4, seed=0).train()
        passage(vae, Batches(digits, "guard", None, 10, "cpu"))
        assert not vae.training
        assert all(parameter.grad is None for parameter in vae.parameters())


class TestHead:
    def test_logits_are_those_of_the_head_in_float64(self):
        vae = build(SEEING, (1, 8, 8), 4, seed=0)
        latent = np.random.default_rng(0).normal(size=(HEAD_ROWS + 5, 5)).astype(np.float32)
        found = head_logits(vae.head, latent)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, vae.head(torch.from_numpy(latent)).detach().numpy(), atol=1e-5)
        assert next(vae.head.parameters()).dtype == torch.float32

    def test_equal_rows_of_a_ragged_split_are_not_certified(self):
        """100,000 equal latent rows: their logits agree to 1e-12, and the margin keeps below its slack."""
        head, teacher = build(SEEING, (1, 8, 8), 4, seed=0).head, teacher_of(100_000)
        latent = np.random.default_rng(0).normal(size=(1, 5)).repeat(100_000, axis=0)
        assert np.ptp(head_logits(head, latent), axis=0).max() <= 1e-12
        certificate = certify(Pairs.from_logits(teacher, head_logits(head, latent), split="guard"))
        assert certificate.margin <= 1e-9
        assert not certificate.certified_rows

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_head_or_latent_that_broke_is_a_diverged_run_and_no_crash(self, value):
        vae, latent = build(SEEING, (1, 8, 8), 4, seed=0), np.zeros((6, 5))
        latent[2:4, 1] = value
        with pytest.raises(NumberFault, match="logits of the raw head are not finite for 2 of 6 rows"):
            head_logits(vae.head, latent)


class TestGuardNumbers:
    def of(self, vae: Vae, digits: Dataset, teacher: np.ndarray | None) -> dict[str, float | None]:
        return guard_numbers(vae.head, passage(vae, Batches(digits, "guard", teacher, 10, "cpu")), teacher)

    def test_are_the_diagnostics_under_the_name_of_their_split(self, digits):
        vae, teacher = build(SEEING, digits.shape, 4, seed=0), teacher_of(24)
        found = self.of(vae, digits, teacher)
        seen = passage(vae, Batches(digits, "guard", teacher, 10, "cpu"))
        certificate = certify(Pairs.from_logits(teacher, head_logits(vae.head, seen.mu), split="guard"))
        assert found["guard_psnr_01"] == psnr_01(seen.channel_mse)
        assert found["guard_kl_rate"] == kl_rate(seen.mu, seen.logvar)
        assert found["guard_active_units"] == active_units(seen.mu)
        assert found["guard_margin"] == certificate.margin == pytest.approx(certificate.info - certificate.loss)
        assert found["guard_student_info"] == certificate.student_info

    def test_without_a_teacher_there_is_no_certificate(self, digits):
        found = self.of(build(MODEL, digits.shape, 4, seed=0), digits, None)
        assert set(found) == {"guard_psnr_01", "guard_kl_rate", "guard_active_units"}

    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_what_is_not_finite_is_absent(self, digits):
        vae = build(MODEL, digits.shape, 4, seed=0)
        with torch.no_grad():
            next(vae.decoder.parameters()).fill_(math.nan)
        assert self.of(vae, digits, None)["guard_psnr_01"] is None
