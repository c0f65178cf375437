"""The witness subspace: exact splits, the force that the paper promises, and what a decoder makes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certvae.evaluation import subspace
from certvae.evaluation.diagnostics import kl_rate
from certvae.models.nets import SimplexWitness, build
from certvae.simplex import escape_force, force_floor, last_layer_gradient, smoothed_one_hot, vertices
from certvae.spec.parts import Gaussian, Mlp, Model, SimplexHead
from certvae.spec.rescue import Unaligned
from certvae.training import losses, objective
from certvae.training.batches import Batches
from certvae.training.losses import chain_loss

K, D, BETA = 10, 12, 5.0
MODEL = Model(encoder=Mlp(hidden=(24,), latent=D), head=SimplexHead(beta=BETA), decoder_sees_teacher=False)
HEAD = SimplexWitness(D, K, BETA)


@pytest.fixture
def teacher(dataset):
    return smoothed_one_hot(dataset.labels[dataset.rows("guard")], K, 0.05).astype(np.float32)


def network(dataset, model=MODEL, seed=0):
    return build(model, dataset.shape, K, seed)


def guard(dataset, teacher, size=512) -> Batches:
    return Batches(dataset, "guard", teacher, size, "cpu")


class TestShares:
    @given(seed=st.integers(0, 2**20), scale=st.sampled_from([0.0, 1e-4, 1.0, 30.0]))
    def test_the_two_parts_add_up(self, seed, scale):
        rng = np.random.default_rng(seed)
        mu = (scale * rng.standard_normal((40, D))).astype(np.float32)
        logvar = rng.standard_normal((40, D)).astype(np.float32)
        found = subspace.shares(HEAD, mu, logvar)
        whole = {
            "kl_rate": kl_rate(mu, logvar),
            "mean_square_mu": np.square(mu, dtype=np.float64).sum(axis=1).mean(),
            "variance_mu": mu.astype(np.float64).var(axis=0).sum(),
        }
        for name, value in whole.items():
            assert found[f"{name}_witness"] + found[f"{name}_rest"] == pytest.approx(value, rel=1e-12, abs=1e-12)

    def test_w_is_what_the_witness_sees(self):
        """Energy put into the kernel of the head is all counted as rest, and the other way round."""
        rng = np.random.default_rng(0)
        _, _, basis = np.linalg.svd(vertices(K, D))
        seen, unseen = (
            rng.standard_normal((30, K - 1)) @ basis[: K - 1],
            rng.standard_normal((30, D - K + 1)) @ basis[K - 1 :],
        )
        zero = np.zeros((30, D))
        assert subspace.shares(HEAD, seen, zero)["mean_square_mu_rest"] == pytest.approx(0, abs=1e-20)
        assert subspace.shares(HEAD, unseen, zero)["mean_square_mu_witness"] == pytest.approx(0, abs=1e-20)


class TestForce:
    def test_of_a_collapsed_mean_it_is_at_least_the_floor(self, teacher):
        for seed in range(5):
            collapsed = np.tile(np.random.default_rng(seed).standard_normal(D), (len(teacher), 1))
            promised = subspace.promises(HEAD, teacher, margin=0.0)["force_floor"]
            assert promised == pytest.approx(np.sqrt(force_floor(teacher.astype(np.float64), BETA)))
            assert subspace.force_norm(HEAD, collapsed, teacher) >= promised - 1e-9

    def test_it_vanishes_at_the_analytic_code(self, teacher):
        code = HEAD.code(torch.from_numpy(teacher)).numpy()
        assert subspace.force_norm(HEAD, code, teacher) < 1e-4

    def test_a_margin_promises_spread_and_a_negative_one_nothing(self, teacher):
        code = HEAD.code(torch.from_numpy(teacher)).numpy()
        info = 2.0
        assert 0 < subspace.promises(HEAD, teacher, info)["spread_lower_bound"] <= code.var(axis=0).sum()
        assert subspace.promises(HEAD, teacher, -1.0)["spread_lower_bound"] == 0


class TestGradientNorm:
    def test_at_a_zeroed_mean_layer_it_is_the_gradient_that_the_paper_states(self, dataset, teacher):
        """grad_W = -E[F h'] and grad_b = -E[F]; nothing reaches the layers before."""
        vae = network(dataset)
        with torch.no_grad():
            vae.encoder.mu.weight.zero_()
            vae.encoder.mu.bias.copy_(torch.linspace(-0.2, 0.2, D))
        batch = next(guard(dataset, teacher).in_order())
        features = vae.encoder.body(batch.x).detach().numpy().astype(np.float64)
        mu = np.tile(vae.encoder.mu.bias.detach().numpy(), (len(features), 1))
        force = escape_force(teacher.astype(np.float64), mu, vertices(K, D), BETA)
        weight, bias = last_layer_gradient(force, features), force.mean(axis=0)
        expected = np.sqrt(np.square(weight).sum() + np.square(bias).sum())
        assert subspace.gradient_norm(vae, guard(dataset, teacher)) == pytest.approx(expected, rel=1e-4)

    def test_it_does_not_depend_on_the_size_of_batches(self, dataset, teacher):
        vae = network(dataset)
        whole, parts = (subspace.gradient_norm(vae, guard(dataset, teacher, size)) for size in (512, 7))
        assert parts == pytest.approx(whole, rel=1e-4)

    def test_without_teacher_rows_there_is_none(self, dataset):
        with pytest.raises(ValueError, match="teacher rows"):
            subspace.gradient_norm(network(dataset), Batches(dataset, "guard", None, 8, "cpu"))


class TestUseByTheDecoder:
    def test_of_a_decoder_that_ignores_w_the_shuffled_rows_change_nothing(self, dataset):
        vae = network(dataset)
        rows = guard(dataset, None)
        z = np.random.default_rng(0).standard_normal((len(dataset.rows("guard")), D))
        mixed = subspace.shuffled(z, K - 1, np.random.default_rng(1).permutation(len(z)))
        first = next(module for module in vae.decoder.modules() if isinstance(module, torch.nn.Linear))
        kept, changed = (subspace.reconstruction(vae, Gaussian(), rows, latent) for latent in (z, mixed))
        assert kept != changed
        with torch.no_grad():
            first.weight[:, : K - 1] = 0
        kept, changed = (subspace.reconstruction(vae, Gaussian(), rows, latent) for latent in (z, mixed))
        assert kept == changed

    def test_only_the_part_in_w_comes_from_other_rows(self):
        z, order = np.random.default_rng(2).standard_normal((9, D)), np.roll(np.arange(9), 1)
        mixed = subspace.shuffled(z, K - 1, order)
        np.testing.assert_array_equal(mixed[:, K - 1 :], z[:, K - 1 :])
        np.testing.assert_array_equal(mixed[:, : K - 1], np.roll(z, 1, axis=0)[:, : K - 1])

    def test_reconstruction_is_the_mean_over_images_whatever_the_batches(self, dataset):
        vae, z = network(dataset), np.zeros((len(dataset.rows("guard")), D))
        sizes = [Batches(dataset, "guard", None, size, "cpu") for size in (512, 5)]
        whole, parts = (subspace.reconstruction(vae, Gaussian(), batches, z) for batches in sizes)
        assert parts == pytest.approx(whole, rel=1e-6)


class TestProtection:
    @staticmethod
    def _gradient(dataset, teacher, head: SimplexHead, lambda_ts: float):
        """Gradient of L_rec + lambda_ts L_TS in the rows of the mean layer."""
        model = Model(encoder=MODEL.encoder, head=head, decoder_sees_teacher=False)
        vae = network(dataset, model)
        loss = chain_loss(model, Unaligned(alpha_kl=0, lambda_bal=0), lambda_ts)
        batch = next(guard(dataset, teacher).in_order())
        loss(vae, batch, torch.Generator().manual_seed(0), 0.0).total.backward()
        gradient = vae.encoder.mu.weight.grad
        assert gradient is not None
        return gradient.numpy()

    def test_reconstruction_does_not_move_the_witness_part_and_alignment_does(self, dataset, teacher):
        open_, closed = (self._gradient(dataset, teacher, SimplexHead(protected=p), 0.0) for p in (False, True))
        assert np.abs(open_[: K - 1]).max() > 0
        assert np.abs(closed[: K - 1]).max() == 0
        np.testing.assert_array_equal(closed[K - 1 :], open_[K - 1 :])
        assert np.abs(self._gradient(dataset, teacher, SimplexHead(protected=True), 1.0)[: K - 1]).max() > 0

    @pytest.mark.parametrize("reads", ["mu", "sampled"])
    def test_protection_changes_no_value_and_no_gradient_of_the_alignment(self, dataset, teacher, reads):
        """The part of the gradient that comes from L_TS is the same with and without protection."""
        parts = []
        for protected in (False, True):
            head = SimplexHead(reads=reads, protected=protected)
            whole = self._gradient(dataset, teacher, head, 1.0)
            parts.append(whole - self._gradient(dataset, teacher, head, 0.0))
        np.testing.assert_allclose(parts[1], parts[0], atol=1e-5)

    def test_a_witness_on_draws_is_trained_on_draws(self, dataset, teacher):
        on_mu, on_draws = (self._gradient(dataset, teacher, SimplexHead(reads=r), 1.0) for r in ("mu", "sampled"))
        assert np.abs(on_mu - on_draws).max() > 1e-3


class TestCodeDistance:
    def test_it_is_zero_at_the_scaled_code_and_counts_the_rest(self, teacher):
        T = torch.from_numpy(teacher)
        mu = 0.3 * HEAD.code(T)
        assert float(losses.code_distance(HEAD, mu, T, 0.3, 0.01)) == 0
        moved = mu.clone()
        moved[:, -1] += 2.0
        assert float(losses.code_distance(HEAD, moved, T, 0.3, 0.01)) == pytest.approx(0.04, rel=1e-5)

    def test_at_full_scale_the_witness_is_the_teacher(self, teacher):
        T = torch.from_numpy(teacher)
        assert float(objective.alignment(T, HEAD(HEAD.code(T)))) == pytest.approx(0, abs=1e-6)
