"""Fair heads: what they may read, what they can never lose, and what they find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.certificate import Pairs, certify
from certvae.evaluation import heads
from certvae.evaluation.heads import AffineHead, affine_head, rotation_head
from certvae.simplex import analytic_code, smoothed_one_hot, vertices, witness_logits

K, D, BETA = 4, 6, 5.0


def margin(head: AffineHead, z: np.ndarray, T: np.ndarray) -> float:
    return certify(Pairs.from_logits(T, head.logits(z), split="train")).margin


def labelled(n: int, seed: int, share: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)) -> np.ndarray:
    labels = np.random.default_rng(seed).choice(K, n, p=share)
    return smoothed_one_hot(labels, K, 0.05)


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]


class TestAffine:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**20), scale=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e3]))
    def test_the_train_margin_is_never_negative_whatever_the_latent(self, seed, scale):
        """Constants are affine, and the fit starts at the best of them."""
        rng = np.random.default_rng(seed)
        T, z = labelled(80, seed), scale * rng.standard_normal((80, D)) + rng.standard_normal(D)
        head = affine_head(z, T, z[:40], T[:40])
        assert margin(head, z, T) >= -1e-9

    def test_a_constant_latent_leaves_the_constant_head(self):
        T, z = labelled(200, 0), np.full((200, D), 0.7)
        head = affine_head(z, T, z, T)
        assert certify(Pairs.from_logits(T, head.logits(z), split="train")).certified_rows is False
        np.testing.assert_allclose(np.exp(head.logits(z)[0]), T.mean(axis=0), atol=1e-12)

    def test_rounding_noise_in_a_latent_is_not_blown_up(self):
        """With any gain allowed, noise of 1e-9 that happens to follow the teacher could be certified."""
        T = labelled(200, 0)
        z = 1e-9 * T @ np.random.default_rng(1).standard_normal((K, D))
        assert margin(affine_head(z, T, z, T), z, T) < 1e-3

    def test_noise_is_stopped_on_the_guard_rows(self):
        """Sixty noise units for a hundred rows: train rows could be fitted closely, other rows only got worse by it."""
        rng = np.random.default_rng(2)
        z, fresh = rng.standard_normal((100, 60)), rng.standard_normal((2000, 60))
        T, other = labelled(100, 3), labelled(2000, 4)
        stopped = affine_head(z, T, fresh[:1000], other[:1000])
        fitted = affine_head(z, T, z, T)
        assert margin(fitted, z, T) > 0.5
        assert margin(stopped, fresh[1000:], other[1000:]) > -0.1
        assert margin(fitted, fresh[1000:], other[1000:]) < -1

    def test_it_finds_the_head_that_made_the_teacher(self):
        rng = np.random.default_rng(5)
        z = rng.standard_normal((3000, D)) * np.logspace(-1, 1, D)
        logits = z @ (rng.standard_normal((D, K)) / np.logspace(-1, 1, D)[:, None])
        T = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        head = affine_head(z[:2000], T[:2000], z[2000:], T[2000:])
        certificate = certify(Pairs.from_logits(T, head.logits(z), split="train"))
        assert certificate.loss < 0.01 * certificate.info

    def test_a_class_without_mass_does_no_harm(self):
        T, z = labelled(100, 6), np.random.default_rng(6).standard_normal((100, D))
        T = np.eye(K)[T.argmax(axis=1)]
        T[:, :-1] += T[:, -1:] / (K - 1)
        T[:, -1] = 0
        head = affine_head(z, T, z, T)
        assert np.isfinite(margin(head, z, T))

    @pytest.mark.parametrize("few", [True, False], ids=["few rows", "many rows"])
    def test_few_rows_are_the_hosts_whatever_the_device(self, monkeypatch, few):
        """A card answers too late to be asked for a small loss. This device has no numbers to answer with."""
        T, z = labelled(80, 0), np.random.default_rng(0).standard_normal((80, D))
        monkeypatch.setattr(heads, "FEW", T.size if few else T.size - 1)
        if few:
            on_host, asked = (affine_head(z, T, z, T, device) for device in ("cpu", "meta"))
            np.testing.assert_array_equal(on_host.weight, asked.weight)
        else:
            with pytest.raises(NotImplementedError, match="meta"):
                affine_head(z, T, z, T, "meta")

    def test_twice_the_same(self):
        T, z = labelled(100, 7), np.random.default_rng(7).standard_normal((100, D))
        first, second = affine_head(z, T, z, T), affine_head(z, T, z, T)
        np.testing.assert_array_equal(first.weight, second.weight)
        np.testing.assert_array_equal(first.bias, second.bias)


class TestRotation:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_it_undoes_a_rotation_and_a_shift_of_the_analytic_code(self, seed):
        T = labelled(500, seed)
        code = analytic_code(T, vertices(K, D), BETA)
        turned = code @ rotation(seed) + 5 * np.random.default_rng(seed).standard_normal(D)
        certificate = certify(Pairs.from_logits(T, rotation_head(turned, T, BETA).logits(turned), split="train"))
        assert certificate.loss < 1e-12

    def test_it_keeps_the_gain_of_the_witness(self):
        """No stretching: the singular values of its weight are those of beta V."""
        T, mu = labelled(300, 8), np.random.default_rng(8).standard_normal((300, D))
        weight = rotation_head(mu, T, BETA).weight
        found = np.linalg.svd(weight, compute_uv=False)
        np.testing.assert_allclose(found, np.linalg.svd(BETA * vertices(K, D), compute_uv=False), atol=1e-10)

    def test_it_sees_as_much_after_any_rotation(self):
        T = labelled(400, 9)
        code = analytic_code(T, vertices(K, D), BETA)
        mu = code + 0.3 * np.random.default_rng(9).standard_normal(code.shape)
        turned = mu @ rotation(9)
        before, after = (margin(rotation_head(rows, T, BETA), rows, T) for rows in (mu, turned))
        fixed = certify(Pairs.from_logits(T, witness_logits(turned, vertices(K, D), BETA), split="train"))
        assert after == pytest.approx(before, abs=1e-9)
        assert after > 0.8 > 0 > fixed.margin

    def test_a_latent_too_narrow_for_the_simplex_is_refused(self):
        with pytest.raises(ValueError, match="needs dimension >= 3"):
            rotation_head(np.zeros((10, 2)), labelled(10, 0), BETA)
