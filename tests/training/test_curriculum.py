"""K from coarse to fine: what is aligned with at which epoch, and levels that cannot be had."""

import dataclasses

import numpy as np
import pytest
import torch

from certvae.canonical import plain
from certvae.certificate import Pairs, certify
from certvae.errors import ConfigFault
from certvae.models.nets import build
from certvae.properties import coarsened
from certvae.protocols import chain
from certvae.protocols.judging import Levels
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Training
from certvae.spec.rescue import Curriculum, Rescue
from certvae.spec.teachers import WarmUpGmm
from certvae.training import objective
from certvae.training.batches import Batch
from certvae.training.losses import chain_loss, levelled_loss, merging
from tests.small_cells import CLASSES, MODEL, OBJECTIVE

PARTS = np.array([0, 1, 0, 1])


def rows(seed: int) -> torch.Tensor:
    return torch.randn(16, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cell(levels: tuple[int, ...] = (2, 5), epochs: int = 10, trained: int = 60, classes: int = 10) -> CellSpec:
    protocol = Rescue(teacher=WarmUpGmm(classes=classes), curriculum=Curriculum(levels=levels, epochs=epochs))
    return CellSpec(protocol=protocol, training=Training(epochs=trained))


class TestLoss:
    def test_a_level_aligns_with_what_its_certificate_reads(self):
        T, logits = rows(0).softmax(dim=1), rows(1)
        pairs = Pairs.from_logits(T.numpy(), logits.numpy(), split="train")
        assert float(merging(PARTS)(T, logits)) == pytest.approx(certify(coarsened(pairs, PARTS)).loss, abs=1e-12)

    def test_parts_of_one_class_are_the_classes(self):
        T, logits = rows(0).softmax(dim=1), rows(1)
        assert torch.allclose(merging(np.arange(CLASSES))(T, logits), objective.alignment(T, logits), atol=1e-12)

    def test_within_a_part_nothing_is_asked(self):
        logits = rows(1).requires_grad_()
        merging(PARTS)(rows(0).softmax(dim=1), logits).backward()
        assert logits.grad is not None
        share = logits.detach().softmax(dim=1)
        pull = logits.grad / share  # S_k times a number of its part
        assert torch.allclose(pull[:, 0], pull[:, 2])
        assert torch.allclose(pull[:, 1], pull[:, 3])

    @pytest.mark.parametrize(("done", "is_coarse"), [(0.0, True), (1.9, True), (2.0, False), (9.5, False)])
    def test_each_level_has_its_epochs_and_the_rest_is_the_full_objective(self, done, is_coarse):
        vae, T = build(MODEL, (1, 8, 8), CLASSES, seed=0), rows(0).softmax(dim=1).float()
        batch = Batch(torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), T)
        align = merging(PARTS) if is_coarse else None
        wanted = chain_loss(MODEL, OBJECTIVE.unaligned(), OBJECTIVE.lambda_ts, align=align)
        losses = (levelled_loss(MODEL, OBJECTIVE, [PARTS], epochs=2), wanted)
        mine, other = (loss(vae, batch, torch.Generator().manual_seed(1), done).values() for loss in losses)
        assert torch.equal(mine, other)


class TestSpec:
    def test_it_is_off_and_leaves_every_name_as_it_was(self):
        assert "curriculum" not in plain(Rescue())
        assert "curriculum_full" not in chain.modes(CellSpec())

    def test_it_adds_a_mode_that_is_judged_at_each_level_and_shares_all_else(self):
        spec = cell()
        assert chain.of(spec).reads("curriculum_full") == Levels((2, 5))
        protocol = dataclasses.replace(spec.protocol, curriculum=None)
        shared, before = chain.shared(spec), chain.shared(dataclasses.replace(spec, protocol=protocol))
        assert {name: key for name, key in shared.items() if name != "curriculum_full"} == before

    @pytest.mark.parametrize(
        ("wrong", "said", "right"),
        [
            ({"levels": (5, 2)}, "rising", {"levels": (2, 5)}),
            ({"levels": (2, 2)}, "rising", {"levels": (2, 3)}),
            ({"levels": (2, 3, 4, 5)}, "at most 3", {"levels": (2, 3, 4)}),
            ({"levels": (2, 10)}, "fewer than the 10 classes", {"levels": (2,)}),
            ({"epochs": 30}, "fewer than 60 epochs", {"epochs": 29}),
        ],
    )
    def test_levels_that_cannot_be_had_are_refused_and_the_remedy_is_taken(self, wrong, said, right):
        with pytest.raises(ConfigFault, match=said):
            cell(**wrong)
        assert "curriculum_full" in chain.modes(cell(**right))
