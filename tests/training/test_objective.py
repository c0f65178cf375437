"""Loss terms in nats per image (arXiv 2605.05813), against closed forms, finite differences and the certificate."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from certvae.canonical import digest, plain
from certvae.certificate import Pairs, certify
from certvae.models.nets import build
from certvae.spec.parts import Bernoulli, Gaussian
from certvae.spec.rescue import Objective, Unaligned
from certvae.training import objective
from certvae.training.batches import Batch
from certvae.training.losses import chain_loss
from tests.small_cells import CLASSES, MODEL

TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]], dtype=torch.float64)
STUDENT = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_balance_of_a_mean_student_worked_by_hand():
    assert float(objective.balance(STUDENT.log())) == pytest.approx(0.0318941010, abs=1e-9)


def test_balance_vanishes_for_a_uniform_mean_even_of_sharp_rows():
    assert float(objective.balance(100 * torch.eye(3, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)


def test_kl_rate_worked_by_hand():
    mu = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    logvar = torch.tensor([[1.0, 0.25]], dtype=torch.float64).log()
    assert float(objective.kl_rate(mu, logvar)) == pytest.approx(0.8181471806, abs=1e-9)


def test_kl_rate_is_the_divergence_of_torch_distributions():
    mu, logvar = drawn(7, 5), drawn(7, 5, seed=1)
    posterior = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    exact = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(objective.kl_rate(mu, logvar), exact, rtol=1e-12, atol=0)


def test_alignment_is_the_loss_of_the_certificate():
    assert float(objective.alignment(TEACHER, STUDENT.log())) == pytest.approx(0.0414567173, abs=1e-9)
    logits = drawn(4, 3)
    exact = certify(Pairs.from_logits(TEACHER.numpy(), logits.numpy(), split="train")).loss
    assert float(objective.alignment(TEACHER, logits)) == pytest.approx(exact, abs=1e-12)


def test_alignment_pulls_each_logit_by_student_minus_teacher():
    logits = drawn(4, 3).requires_grad_()
    objective.alignment(TEACHER, logits).backward()
    expected = (functional.softmax(logits.detach(), dim=1) - TEACHER) / len(TEACHER)
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


def test_one_step_along_the_free_logit_flow():
    """a' = T - S, so dL/dt = -E||S - T||^2."""
    student = torch.full_like(TEACHER, 1 / 3)
    start, moved = torch.zeros_like(TEACHER), 1e-3 * (TEACHER - student)
    assert float(objective.alignment(TEACHER, start)) == pytest.approx(0.2409018581, abs=1e-9)
    assert float(objective.alignment(TEACHER, moved)) == pytest.approx(0.2407314698, abs=1e-9)
    assert float((student - TEACHER).square().sum(dim=1).mean()) == pytest.approx(0.17041667, abs=1e-8)


def test_alignment_with_zeros_in_the_teacher_is_finite():
    logits = drawn(3, 3).requires_grad_()
    value = objective.alignment(torch.eye(3, dtype=torch.float64), logits)
    value.backward()
    torch.testing.assert_close(value, functional.cross_entropy(logits, torch.arange(3)))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("variance", [0.1, 0.5])
def test_gaussian_reconstruction_is_the_scaled_square_error_per_image(variance):
    x, logits = drawn(5, 2, 3, 3).sigmoid(), drawn(5, 2, 3, 3, seed=1)
    exact = ((logits.sigmoid() - x) ** 2).sum(dim=(1, 2, 3)).mean() / (2 * variance)
    torch.testing.assert_close(objective.reconstruction(Gaussian(variance=variance), logits, x), exact)


def test_bernoulli_reconstruction_is_the_cross_entropy_per_image():
    x, logits = drawn(5, 2, 3, 3).sigmoid(), drawn(5, 2, 3, 3, seed=1)
    rate = logits.sigmoid()
    exact = -(x * rate.log() + (1 - x) * (1 - rate).log()).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(objective.reconstruction(Bernoulli(), logits, x), exact)


def test_every_term_is_a_mean_over_images():
    """A batch beside itself has the terms of the batch: weights mean the same for every batch size."""
    x, logits, rows = drawn(4, 1, 2, 2).sigmoid(), drawn(4, 1, 2, 2, seed=1), drawn(4, 3, seed=2)

    def terms(copies: int) -> list[torch.Tensor]:
        def beside_itself(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor] * copies)

        return [
            objective.reconstruction(Gaussian(), beside_itself(logits), beside_itself(x)),
            objective.reconstruction(Bernoulli(), beside_itself(logits), beside_itself(x)),
            objective.kl_rate(beside_itself(rows), beside_itself(rows)),
            objective.alignment(beside_itself(TEACHER), beside_itself(rows)),
            objective.balance(beside_itself(rows)),
        ]

    for once, thrice in zip(terms(1), terms(3), strict=True):
        torch.testing.assert_close(once, thrice, rtol=1e-12, atol=1e-12)


def test_a_sample_has_the_moments_of_the_posterior():
    mu, logvar = torch.full((200_000, 2), 3.0), torch.tensor([[-2.0, 1.0]]).expand(200_000, 2)
    z = objective.sample(mu, logvar, generator())
    torch.testing.assert_close(z.mean(dim=0), torch.tensor([3.0, 3.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(z.var(dim=0), torch.tensor([-2.0, 1.0]).exp(), rtol=0.02, atol=0)


def test_a_sample_depends_on_its_own_generator_alone():
    mu = torch.zeros(4, 3)
    first = objective.sample(mu, mu, generator(1))
    torch.manual_seed(5)
    assert torch.equal(first, objective.sample(mu, mu, generator(1)))
    assert not torch.equal(first, objective.sample(mu, mu, generator(2)))


def test_a_sample_passes_gradient_to_mean_and_scale():
    mu, logvar = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    z = objective.sample(mu, logvar, generator())
    z.sum().backward()
    assert mu.grad is not None
    assert logvar.grad is not None
    assert float(mu.grad) == 1.0
    assert float(logvar.grad) == pytest.approx(0.5 * float(z.detach()))


def test_the_ramp_is_linear_and_ends_at_one():
    assert [objective.kl_weight(3.0, done, 10) for done in (0, 2.5, 10, 11)] == [0, 0.75, 3, 3]
    assert objective.kl_weight(3.0, 0, 0) == 3


def test_terms_are_listed_in_the_order_of_their_names():
    values = objective.Terms(*(torch.tensor(float(place), requires_grad=True) for place in range(5))).values()
    assert [field.name for field in dataclasses.fields(objective.Terms)] == list(objective.NAMES)
    assert values.tolist() == [0, 1, 2, 3, 4]
    assert not values.requires_grad


def test_the_uniform_student_measures_the_teacher_from_uniform():
    """L_TS of constant logits is log K - E H(T)."""
    entropies = -(TEACHER * TEACHER.log()).sum(dim=1)
    expected = math.log(3) - float(entropies.mean())
    assert float(objective.alignment(TEACHER, torch.zeros_like(TEACHER))) == pytest.approx(expected, abs=1e-12)
    assert np.isclose(expected, 0.2409018581)


class TestRegularisers:
    def test_a_dead_code_is_inactive_and_one_with_the_spread_of_the_prior_is_not(self):
        assert float(objective.inactivity(torch.zeros(8, 3, dtype=torch.float64))) == pytest.approx(0.99)
        wide = torch.tensor([[-1.0, 2.0], [1.0, -2.0]], dtype=torch.float64)
        assert float(objective.inactivity(wide)) == 0
        half = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
        assert float(objective.inactivity(half)) == pytest.approx(0.99 / 2)

    def test_even_a_dead_unit_is_pulled(self):
        mu = (1e-3 * drawn(16, 4)).requires_grad_()
        objective.inactivity(mu).backward()
        assert float((mu.grad * mu.detach()).sum()) < 0  # pyright: ignore[reportOptionalOperand]

    def test_partners_that_are_alike_worked_by_hand(self):
        rows = torch.eye(3, dtype=torch.float64)
        assert float(objective.contrast(rows, 5 * rows)) == pytest.approx(math.log1p(2 * math.exp(-10)))

    def test_draws_of_a_dead_code_tell_nothing(self):
        """log n - contrast bounds the information from below: of independent draws it is negative."""
        assert float(objective.contrast(drawn(256, 8), drawn(256, 8, seed=1))) > math.log(256)

    def test_each_is_in_the_loss_with_its_weight_and_alone_when_it_is_asked_for(self):
        vae = build(MODEL, (1, 8, 8), CLASSES, seed=0)
        batch = Batch(torch.rand(16, 1, 8, 8, generator=generator()), None)

        def total(**weights: float) -> float:
            goal = Unaligned(alpha_kl=0.5, **weights)  # pyright: ignore[reportArgumentType]
            return float(chain_loss(MODEL, goal, 0.0)(vae, batch, generator(), 0.0).total.detach())

        bare, mu = total(), vae.encoder(batch.x)[0].detach()
        assert total(lambda_active=3.0) - bare == pytest.approx(3 * float(objective.inactivity(mu)), rel=1e-4)
        one, two = (total(lambda_contrast=weight) - bare for weight in (1.0, 2.0))
        assert two == pytest.approx(2 * one, rel=1e-4)
        assert one > 0

    def test_objectives_without_them_keep_their_names(self):
        assert set(plain(Objective())) == {"type", "alpha_kl", "lambda_ts", "lambda_bal", "kl_ramp_epochs"}
        asked = Objective(lambda_active=1.0, lambda_contrast=2.0)
        assert asked.unaligned() == Unaligned(lambda_active=1.0, lambda_contrast=2.0)
        assert digest(asked) != digest(Objective())
