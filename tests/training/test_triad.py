"""The triad: its edges against their own baselines, and gradients that pass through what the decoder made."""

import numpy as np
import pytest
import torch

from certvae.certificate import Pairs
from certvae.evaluation.edges import edges
from certvae.models.nets import build
from certvae.spec.rescue import Triad
from certvae.training.batches import Batch
from certvae.training.losses import chain_loss
from certvae.training.triad import triad_loss
from tests.small_cells import CLASSES, MODEL, OBJECTIVE

T = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]])
S = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]])


def pairs(student: np.ndarray) -> Pairs:
    return Pairs(teacher=T, log_student=np.log(student), split="certify")


def test_the_margin_of_the_head_is_that_of_the_certificate():
    assert edges(pairs(S), pairs(T))["edge_head"] == pytest.approx(0.1790704287, abs=1e-9)


def test_a_perfect_reconstruction_leaves_no_loss_on_the_edge_through_it():
    found = edges(pairs(S), pairs(T))
    assert found["edge_through"] == pytest.approx(0.2205271460, abs=1e-9)  # I_T
    assert found["edge_head"] == pytest.approx(found["edge_back"], abs=1e-12)
    assert found["bypass"] is False


def test_the_constant_baseline_of_each_edge_has_margin_zero():
    constant = pairs(np.broadcast_to(T.mean(axis=0), T.shape))
    found = edges(constant, constant)
    assert [found[name] for name in ("edge_head", "edge_through", "edge_back")] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found["bypass"] is False


def test_a_reconstruction_that_tells_what_the_head_does_not_is_a_bypass():
    constant = np.broadcast_to(T.mean(axis=0), T.shape)
    assert edges(pairs(constant), pairs(T))["bypass"] is True
    assert edges(pairs(S[[1, 2, 3, 0]]), pairs(T))["bypass"] is True


class TestLoss:
    @staticmethod
    def batch() -> Batch:
        generator = torch.Generator().manual_seed(0)
        teacher = torch.rand(8, CLASSES, generator=generator).softmax(dim=1)
        return Batch(torch.rand(8, 1, 8, 8, generator=generator), teacher)

    @staticmethod
    def read(x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(x.flatten(1)[:, :CLASSES] * 3, dim=1)

    def test_without_weight_it_is_the_objective_of_a_chain(self):
        vae, noise = build(MODEL, (1, 8, 8), CLASSES, 0), torch.Generator()
        none = triad_loss(MODEL, OBJECTIVE, Triad(through=0, back=0), self.read)
        plain = chain_loss(MODEL, OBJECTIVE.unaligned(), OBJECTIVE.lambda_ts)
        first, second = (loss(vae, self.batch(), noise.manual_seed(1), 0.5).values() for loss in (none, plain))
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)

    def test_the_edge_through_the_reconstruction_teaches_the_decoder(self):
        vae, noise = build(MODEL, (1, 8, 8), CLASSES, 0), torch.Generator()
        both, none = (triad_loss(MODEL, OBJECTIVE, Triad(through=g, back=0), self.read) for g in (2.0, 0.0))
        added = [loss(vae, self.batch(), noise.manual_seed(1), 0.5).total for loss in (both, none)]
        (added[0] - added[1]).backward()
        assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in vae.decoder.body[-1].parameters())
