"""Local response: networks whose answer is known by how they were made, and the remedy that is named."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from certvae.data.dataset import Dataset
from certvae.models.nets import Vae, build, weights
from certvae.training import objective
from certvae.training.batches import Batches
from certvae.training.response import Response, respond
from tests.small_cells import CLASSES, MODEL
from tests.training.test_control import teacher


def network(dataset: Dataset, *changes: Callable[[Vae], None]) -> Vae:
    vae = build(MODEL, dataset.shape, CLASSES, seed=7)
    with torch.no_grad():
        for change in changes:
            change(vae)
    return vae


def response(dataset: Dataset, vae: Vae, learning_rate: float = 1e-3, *, constant: bool = False) -> Response:
    rows = {split: teacher(dataset, split) for split in ("train", "guard")}
    if constant:
        rows = {split: np.broadcast_to(T.mean(axis=0), T.shape).copy() for split, T in rows.items()}
    train, guard = (Batches(dataset, split, rows[split], 100, "cpu") for split in ("train", "guard"))
    return respond(vae, train, guard, learning_rate)


def blind(vae: Vae) -> None:
    """No input reaches the features: every rectifier is off."""
    for parameter in vae.encoder.body.parameters():
        parameter.fill_(-1.0)


def flat(vae: Vae) -> None:
    """The means are constant; features still see the input."""
    vae.encoder.mu.weight.zero_()


def deaf(vae: Vae) -> None:
    """The head does not see the latent."""
    for parameter in vae.head.parameters():
        parameter.zero_()


def restarted(vae: Vae) -> None:
    fresh = build(MODEL, (1, 8, 8), CLASSES, seed=8).head
    vae.head.load_state_dict(fresh.state_dict())


def test_a_constant_code_that_can_still_move_responds_through_its_encoder(digits):
    found = response(digits, network(digits, flat))
    assert found.responds
    assert found.of_head == pytest.approx(0, abs=1e-12)
    assert "alignment moves this network" in found.words


def test_an_encoder_that_does_not_see_its_input_has_none(digits):
    found = response(digits, network(digits, blind))
    assert not found.responds
    assert found.response == pytest.approx(0, abs=1e-9)
    assert "a larger weight alone will not help" in found.words


def test_a_head_without_sensitivity_on_a_constant_code_has_none_until_it_is_restarted(digits):
    assert not response(digits, network(digits, flat, deaf)).responds
    assert "restart the head" in response(digits, network(digits, flat, deaf)).words
    assert response(digits, network(digits, flat, deaf, restarted)).responds


def test_a_constant_teacher_asks_for_nothing(digits):
    found = response(digits, network(digits), constant=True)
    assert found.response == pytest.approx(0, abs=1e-9)


def test_at_the_best_constant_it_is_the_fall_of_the_loss_in_first_order(digits):
    rows = torch.from_numpy(teacher(digits, "train")).double()

    def best(vae: Vae) -> None:
        vae.head.body[-1].weight.mul_(1e-3)  # nearly constant, and still sensitive
        vae.head.body[-1].bias.copy_(rows.mean(dim=0).log())

    vae = network(digits, flat, best)
    train = Batches(digits, "train", teacher(digits, "train"), 1000, "cpu")
    batch = next(train.in_order())
    assert batch.teacher is not None
    found = respond(vae, train, train, 1e-4)
    moved = network(digits, flat, best)
    loss = objective.alignment(batch.teacher, moved.head(moved.encoder(batch.x)[0]))
    loss.backward()
    with torch.no_grad():
        for part in (moved.encoder, moved.head):
            for parameter in part.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-4 * parameter.grad / (parameter.grad.abs() + 1e-8))
        after = objective.alignment(batch.teacher, moved.head(moved.encoder(batch.x)[0]))
    assert float(loss.detach() - after) == pytest.approx(found.response, rel=0.05, abs=1e-7)


def test_asking_changes_nothing(digits):
    vae = network(digits)
    before = weights(vae)
    first = response(digits, vae)
    assert first == response(digits, vae)
    assert all(np.array_equal(before[name], array) for name, array in weights(vae).items())
