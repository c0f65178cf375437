"""Baselines: each objective against its definition, and what none of them may do: train or read the teacher."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from certvae.evaluation import diagnostics
from certvae.models.nets import build, weights
from certvae.protocols import baselines as protocol
from certvae.protocols import chain
from certvae.spec.baselines import (
    SEVEN,
    Baseline,
    Baselines,
    BetaVae,
    FreeBits,
    Gmvae,
    InfoVae,
    KlAnnealing,
    Vanilla,
    VqVae,
)
from certvae.spec.parts import Training
from certvae.spec.rescue import Unaligned
from certvae.store.store import Store
from certvae.training import baselines, objective
from certvae.training.baselines import GaussianMixtureVae, MixturePrior, QuantisedEncoder, free_bits
from certvae.training.batches import Batch
from certvae.training.losses import chain_loss
from tests.laws import StageLaws
from tests.small_cells import CLASSES, MODEL, TEACHER, TRAINING, WARM_UP, small_cell, small_digits, with_noise_in

SHAPE = (1, 8, 8)
LATENT = MODEL.encoder.latent
NAMES = [baseline.name for baseline in SEVEN]


def batch(n: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(5)
    teacher = torch.softmax(torch.randn(n, CLASSES, generator=generator), dim=1)
    return Batch(torch.rand(n, *SHAPE, generator=generator), teacher)


def total(baseline: Baseline, epochs_done: float = 0.0, training: Training = TRAINING) -> float:
    vae = baselines.network(baseline, MODEL, SHAPE, CLASSES, 0)
    noise = torch.Generator().manual_seed(1)
    return baselines.loss(baseline, MODEL, training)(vae, batch(), noise, epochs_done).total.item()


def plain_total(alpha_kl: float) -> float:
    vae, noise = build(MODEL, SHAPE, CLASSES, 0), torch.Generator().manual_seed(1)
    return chain_loss(MODEL, Unaligned(alpha_kl=alpha_kl, lambda_bal=0.0), 0.0)(vae, batch(), noise, 0.0).total.item()


def codes(n: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, LATENT, generator=generator), torch.randn(n, LATENT, generator=generator)


class TestWeights:
    @pytest.mark.parametrize(("baseline", "alpha"), [(Vanilla(), 1.0), (BetaVae(strength="high", alpha_kl=4.0), 4.0)])
    def test_vanilla_and_beta_are_the_plain_bound(self, baseline: Baseline, alpha: float):
        assert total(baseline) == plain_total(alpha)

    def test_annealing_starts_without_a_kl_and_ends_at_its_large_weight(self):
        training = Training(epochs=10, batch_size=8)
        found = [total(KlAnnealing(alpha_kl=4.0), epoch, training) for epoch in (0.0, 2.5, 5.0, 9.9)]
        assert found[0] == plain_total(0.0)
        assert found[2] == found[3] == plain_total(4.0)
        assert found[1] == pytest.approx((found[0] + found[2]) / 2, rel=1e-5)

    def test_seven_different_baselines_and_no_alignment_weight_anywhere(self):
        assert NAMES == ["vanilla", "beta_vae_low", "beta_vae_high", "kl_annealing", "free_bits", "gmvae", "vq_vae"]
        assert not any(hasattr(baseline, "lambda_ts") for baseline in SEVEN)


class TestFreeBits:
    def test_no_free_nats_are_the_kl_rate(self):
        mu, logvar = codes()
        assert float(free_bits(mu, logvar, 0.0)) == pytest.approx(float(objective.kl_rate(mu, logvar)), rel=1e-6)

    def test_a_unit_below_the_threshold_is_free_and_one_above_pays_in_full(self):
        mu = torch.tensor([[0.1, 2.0]]).repeat(8, 1).requires_grad_(True)
        free_bits(mu, torch.zeros(8, 2), 0.05).backward()
        assert mu.grad is not None
        np.testing.assert_allclose(mu.grad.numpy(), np.tile([0.0, 2.0 / 8], (8, 1)), atol=1e-7)

    def test_says_on_how_many_units_it_binds(self):
        mu = np.tile(np.array([0.1, 2.0, 0.2], np.float32), (5, 1))
        seen = diagnostics.Passage(mu, np.zeros_like(mu), np.zeros(1))
        vae = build(MODEL, SHAPE, CLASSES, 0)
        assert baselines.facts(FreeBits(nats=0.03), vae, seen.mu, seen.logvar) == {"binding_units": 2}
        assert baselines.facts(Vanilla(), vae, seen.mu, seen.logvar) == {}


class TestMixture:
    def test_the_prior_term_is_the_gaussian_kl_to_every_component(self):
        prior, (mu, logvar) = MixturePrior(CLASSES, LATENT, torch.Generator().manual_seed(0)), codes()
        with torch.no_grad():
            prior.log_variance.copy_(codes(CLASSES, 1)[0])
        posterior = Normal(mu[:, None], (0.5 * logvar[:, None]).exp())
        components = Normal(prior.mean, (0.5 * prior.log_variance).exp())
        expected = kl_divergence(Independent(posterior, 1), Independent(components, 1))
        torch.testing.assert_close(prior(mu, logvar), expected, rtol=1e-4, atol=1e-3)

    def test_equal_standard_components_and_an_undecided_head_are_a_plain_vae(self):
        vae = baselines.network(Gmvae(), MODEL, SHAPE, CLASSES, 0)
        assert isinstance(vae, GaussianMixtureVae)
        with torch.no_grad():
            vae.prior.mean.zero_()
            for parameter in vae.head.parameters():
                parameter.zero_()
        terms = baselines.loss(Gmvae(), MODEL, TRAINING)(vae, batch(), torch.Generator().manual_seed(1), 0.0)
        assert terms.total.item() == pytest.approx(plain_total(1.0), rel=1e-5)
        assert terms.kl.item() == pytest.approx(objective.kl_rate(*vae.encoder(batch().x)).item(), rel=1e-5)


class TestQuantisation:
    def encoder(self) -> QuantisedEncoder:
        found = baselines.network(VqVae(codes=16), MODEL, SHAPE, CLASSES, 0).encoder
        assert isinstance(found, QuantisedEncoder)
        baselines.place_codes(found, [batch().x], seed=0)
        return found

    def test_the_code_is_the_nearest_one(self):
        encoder, rows = self.encoder(), codes(50)[0]
        squares = (rows[:, None] - encoder.codes).square().sum(dim=2)
        assert torch.equal(encoder.nearest(rows), squares.argmin(dim=1))

    def test_the_latent_is_a_code_and_draws_of_it_are_itself(self):
        encoder = self.encoder()
        z, logvar = encoder(batch().x)
        assert {tuple(row) for row in z.tolist()} <= {tuple(row) for row in encoder.codes.tolist()}
        seen = diagnostics.Passage(z.detach().numpy(), logvar.detach().numpy(), np.zeros(1))
        np.testing.assert_array_equal(
            diagnostics.sampled(seen.mu, seen.logvar, np.random.default_rng(0)), z.detach().numpy()
        )

    def test_codes_start_at_spread_embeddings_and_a_fresh_encoder_uses_several(self):
        encoder, x = self.encoder(), batch().x
        with torch.no_grad():
            embeddings = encoder.quantise(x)[0]
        baselines.place_codes(encoder, x.split(7), seed=3)
        back = embeddings.mean(dim=0) + (encoder.codes.detach() - embeddings.mean(dim=0)) / baselines.CODE_SPREAD
        distance, row = torch.cdist(back.double(), embeddings.double()).min(dim=1)
        assert float(distance.max()) < 1e-5
        assert len(row.unique()) > 1
        assert len(encoder.nearest(embeddings).unique()) > 1
        placed = encoder.codes.detach().clone()
        baselines.place_codes(encoder, [x], seed=3)
        torch.testing.assert_close(encoder.codes.detach(), placed)

    def test_reconstruction_moves_the_encoder_straight_through_the_code(self):
        vae = baselines.network(VqVae(codes=16), MODEL, SHAPE, CLASSES, 0)
        terms = baselines.loss(VqVae(codes=16), MODEL, TRAINING)(vae, batch(), torch.Generator(), 0.0)
        terms.reconstruction.backward()
        assert isinstance(vae.encoder, QuantisedEncoder)
        assert vae.encoder.mu.weight.grad is not None
        assert float(vae.encoder.mu.weight.grad.abs().max()) > 0
        assert vae.encoder.codes.grad is None

    def test_the_wrong_network_is_refused(self):
        with pytest.raises(TypeError, match="needs a QuantisedEncoder"):
            baselines.loss(VqVae(), MODEL, TRAINING)(build(MODEL, SHAPE, CLASSES, 0), batch(), torch.Generator(), 0.0)


class TestNetworks:
    @pytest.mark.parametrize("baseline", SEVEN, ids=NAMES)
    def test_shares_the_initialisation_of_a_chain_and_reads_the_latent_alone(self, baseline: Baseline):
        sighted = dataclasses.replace(MODEL, decoder_sees_teacher=True)
        found = weights(baselines.network(baseline, sighted, SHAPE, CLASSES, 3))
        for name, array in weights(build(MODEL, SHAPE, CLASSES, 3)).items():
            np.testing.assert_array_equal(found[name], array)

    @pytest.mark.parametrize("baseline", SEVEN, ids=NAMES)
    def test_does_not_touch_the_global_generator(self, baseline: Baseline):
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        baselines.network(baseline, MODEL, SHAPE, CLASSES, 3)
        assert torch.equal(torch.rand(1), expected)

    @pytest.mark.parametrize("baseline", SEVEN, ids=NAMES)
    def test_nothing_trains_the_raw_head_but_the_mixture(self, baseline: Baseline):
        vae = baselines.network(baseline, MODEL, SHAPE, CLASSES, 0)
        terms = baselines.loss(baseline, MODEL, TRAINING)(vae, batch(), torch.Generator().manual_seed(1), 0.5)
        terms.total.backward()
        trained = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in vae.head.parameters()]
        assert all(trained) if baseline.name == "gmvae" else not any(trained)

    @pytest.mark.parametrize("baseline", SEVEN, ids=NAMES)
    def test_the_objective_does_not_depend_on_the_teacher(self, baseline: Baseline):
        vae, given = baselines.network(baseline, MODEL, SHAPE, CLASSES, 0), batch()
        loss = baselines.loss(baseline, MODEL, TRAINING)
        assert given.teacher is not None
        other = Batch(given.x, given.teacher.roll(1, 0))
        first, second = (loss(vae, one, torch.Generator().manual_seed(1), 0.5) for one in (given, other))
        assert first.total.item() == second.total.item()
        assert first.alignment.item() != second.alignment.item()


VARIANTS = (*SEVEN, InfoVae())


class TestAligned:
    @pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
    def test_any_of_them_carries_alignment_into_head_and_code(self, variant: Baseline):
        vae, given = baselines.network(variant, MODEL, SHAPE, CLASSES, 0), batch()
        if isinstance(vae.encoder, baselines.QuantisedEncoder):
            baselines.place_codes(vae.encoder, [given.x], 0)
        terms = [
            baselines.loss(variant, MODEL, TRAINING, weight)(vae, given, torch.Generator().manual_seed(1), 0.5)
            for weight in (0.0, 5.0)
        ]
        added = terms[1].total - terms[0].total
        assert float(added.detach()) == pytest.approx(5 * float(terms[0].alignment.detach()), rel=1e-4)
        added.backward()
        for part in (vae.encoder.mu, vae.head):
            assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in part.parameters())

    def test_the_discrepancy_is_the_mean_of_what_samples_say(self):
        """Against a double sum over draws, the same kernel; the posterior that is the prior has none."""
        generator = torch.Generator().manual_seed(0)
        mu, logvar = torch.randn(6, 2, generator=generator), torch.randn(6, 2, generator=generator) - 1
        kernel = [torch.zeros(()) for _ in range(3)]
        for _ in range(4000):
            z, y = (mu + (0.5 * logvar).exp() * torch.randn(6, 2, generator=generator) for _ in range(2))
            x, w = (torch.randn(6, 2, generator=generator) for _ in range(2))
            pairs = (-torch.cdist(z, y).square() / 4).exp()
            kernel[0] = kernel[0] + (pairs.sum() - pairs.diagonal().sum()) / 30
            kernel[1] = kernel[1] + (-torch.cdist(z, x).square() / 4).exp().mean()
            kernel[2] = kernel[2] + (-torch.cdist(x, w).square() / 4).exp().mean()
        expected = (kernel[0] - 2 * kernel[1] + kernel[2]) / 4000
        assert float(baselines.discrepancy(mu, logvar)) == pytest.approx(float(expected), abs=3e-3)
        assert float(baselines.discrepancy(torch.zeros(5, 3), torch.zeros(5, 3))) == pytest.approx(0, abs=1e-6)


class TestBaselineStage(StageLaws):
    stage = protocol.baseline

    def inputs(self, store: Store) -> dict:
        cell, dataset = small_cell(), small_digits(store.path.parent / "cache")
        taught = chain.train(cell, dataset, store)
        names = ("dataset", "model", "baseline", "training", "seed", "teacher")
        return dict(zip(names, (dataset, MODEL, Gmvae(), TRAINING, 0, taught.teacher), strict=True))

    def others(self, store: Store) -> dict:
        dataset = small_digits(store.path.parent / "cache")
        return {
            "dataset": with_noise_in(dataset, ("train",), store.path.parent / "noisy"),
            "model": dataclasses.replace(MODEL, likelihood=dataclasses.replace(MODEL.likelihood, variance=0.4)),
            "baseline": VqVae(codes=8),
            "training": dataclasses.replace(TRAINING, epochs=2),
            "seed": 1,
            "teacher": chain.train(small_cell(seed=1), dataset, store).teacher,
        }


class TestAlignedStage(TestBaselineStage):
    stage = protocol.aligned_baseline

    def inputs(self, store: Store) -> dict:
        return {**super().inputs(store), "lambda_ts": 5.0}

    def others(self, store: Store) -> dict:
        return {**super().others(store), "lambda_ts": 1.0}


class TestChain:
    def test_an_aligned_variant_stands_beside_the_plain_one(self, tmp_path):
        plain = Baselines(warm_up=WARM_UP, teacher=TEACHER, baselines=(Vanilla(), InfoVae()))
        cell = dataclasses.replace(small_cell(), protocol=dataclasses.replace(plain, lambda_ts=5.0))
        dataset, store = small_digits(tmp_path / "cache"), Store(tmp_path / "store")
        rows = chain.judge(chain.train(cell, dataset, store), dataset, store, "guard")
        assert [row["mode"] for row in rows] == ["vanilla", "info_vae", "aligned_vanilla", "aligned_info_vae"]
        assert [row["lambda_ts"] for row in rows] == [0.0, 0.0, 5.0, 5.0]
        assert len({row["key_trained"] for row in rows}) == 4
        bare = dataclasses.replace(small_cell(), protocol=plain)
        assert chain.shared(bare)["vanilla"] == chain.shared(cell)["vanilla"]

    def test_seven_rows_with_fair_heads_beside_the_raw_one(self, tmp_path):
        cell = dataclasses.replace(small_cell(), protocol=Baselines(warm_up=WARM_UP, teacher=TEACHER))
        dataset, store = small_digits(tmp_path / "cache"), Store(tmp_path / "store")
        trained = chain.train(cell, dataset, store)
        rows = chain.judge(trained, dataset, store, "certify")
        assert [row["mode"] for row in rows] == NAMES == list(chain.modes(cell))
        assert [row["outcome"] for row in rows] == ["ok"] * 7
        assert len({row["info"] for row in rows}) == len({row["key_teacher"] for row in rows}) == 1
        assert {row["lambda_ts"] for row in rows} == {0.0}
        for row in rows:
            assert row["relabelled_margin"] is not None
            assert row["affine_margin"] > row["margin"] or row["mode"] == "vq_vae"
            assert 0 <= row["probe_accuracy"] <= 1
        by_mode = {row["mode"]: row for row in rows}
        assert by_mode["vq_vae"]["kl_rate"] is None
        assert by_mode["vq_vae"]["used_codes"] >= 1
        assert 0 <= by_mode["free_bits"]["binding_units"] <= LATENT

    def test_an_untrained_head_scores_minus_the_imbalance_of_its_teacher(self, tmp_path):
        """The reading of the printed raw column: it measures the teacher, and says nothing of the latent."""
        cell = dataclasses.replace(
            small_cell(), protocol=Baselines(warm_up=WARM_UP, teacher=TEACHER, baselines=(Vanilla(),))
        )
        dataset, store = small_digits(tmp_path / "cache"), Store(tmp_path / "store")
        row = chain.judge(chain.train(cell, dataset, store), dataset, store, "certify")[0]
        assert row["margin"] == pytest.approx(-row["imbalance"], abs=0.15)
        assert row["margin"] < 0

    def test_the_teacher_is_the_one_of_a_rescue_chain(self, tmp_path):
        rescue = small_cell()
        cell = dataclasses.replace(rescue, protocol=Baselines(warm_up=WARM_UP, teacher=TEACHER, baselines=(Gmvae(),)))
        dataset, store = small_digits(tmp_path / "cache"), Store(tmp_path / "store")
        assert chain.train(cell, dataset, store).teacher == chain.train(rescue, dataset, store).teacher
        assert chain.shared(cell)["teacher"] == chain.shared(rescue)["teacher"]
