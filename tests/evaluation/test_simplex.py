"""Facts beyond those of every network: they say what they say of the same draws and rows as the rest of a row."""

import numpy as np
import pytest
import torch

from certvae.evaluation import facts as judgement
from certvae.evaluation import simplex as witness_facts
from certvae.evaluation.diagnostics import kl_rate
from certvae.models.nets import Vae, build
from certvae.protocols import teachers
from certvae.simplex import spread_lower_bound
from certvae.spec.parts import Gaussian, Mlp, Model, SimplexHead
from certvae.spec.teachers import Labels
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench

K = 10
MODEL = Model(encoder=Mlp(hidden=(24,), latent=12), head=SimplexHead(), decoder_sees_teacher=False)


@pytest.fixture(scope="module")
def teacher(dataset, tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store")).call(teachers.labels_teacher, dataset, Labels())


@pytest.fixture
def bench(tmp_path) -> Workbench:
    return Workbench("cpu", dict, Checkpoints(Store(tmp_path).disk, "0" * 64))


def exam_of(vae: Vae, dataset, teacher, bench, split="guard") -> judgement.Exam:
    return judgement.exam(vae, dataset, teacher.arrays[f"targets_{split}"], split, 1, teacher, bench)


def facts_of(vae: Vae, dataset, teacher, bench) -> dict:
    exam = exam_of(vae, dataset, teacher, bench)
    found = witness_facts.witness_facts(exam, witness_facts.witness_of(vae), Gaussian(), 0)
    return {**judgement.facts(exam, dataset.std, 0), **found}


class TestWitnessFacts:
    def test_the_rate_check_is_about_the_draws_of_the_sampled_margin(self, dataset, teacher, bench):
        facts = facts_of(build(MODEL, dataset.shape, K, 0), dataset, teacher, bench)
        assert facts["sampled_within_rate"] == (facts["sampled_margin"] <= facts["kl_rate"] + 1e-9)

    def test_a_margin_on_draws_above_the_rate_is_reported(self, dataset, teacher, bench):
        """A posterior at the prior cannot carry information: whatever its draws seem to show is not within the rate."""
        vae = build(MODEL, dataset.shape, K, 0)
        with torch.no_grad():
            for layer in (vae.encoder.mu, vae.encoder.logvar):
                layer.weight.zero_()
                layer.bias.zero_()
        exam = exam_of(vae, dataset, teacher, bench)
        code = torch.log(torch.from_numpy(teacher.arrays["targets_guard"].astype(np.float64)))
        assert kl_rate(exam.seen.mu, exam.seen.logvar) == pytest.approx(0, abs=1e-9)
        assert not witness_facts.within_rate(exam, code.numpy())

    def test_the_promise_is_kept_by_the_means_it_is_made_about(self, dataset, teacher, bench):
        facts = facts_of(build(MODEL, dataset.shape, K, 0), dataset, teacher, bench)
        rows = teacher.arrays["targets_guard"].astype(np.float64)
        assert facts["spread_lower_bound"] == pytest.approx(spread_lower_bound(facts["margin"], rows, 5.0))
        assert facts["variance_mu_witness"] >= facts["spread_lower_bound"]

    def test_a_decoder_that_ignores_the_witness_has_no_use_for_it(self, dataset, teacher, bench):
        vae = build(MODEL, dataset.shape, K, 0)
        assert facts_of(vae, dataset, teacher, bench)["usage_gap_witness"] != 0
        first = next(module for module in vae.decoder.modules() if isinstance(module, torch.nn.Linear))
        with torch.no_grad():
            first.weight[:, : K - 1] = 0
        assert facts_of(vae, dataset, teacher, bench)["usage_gap_witness"] == 0


class TestFairFacts:
    def test_a_turned_code_is_found_by_the_rotation_and_not_by_the_fixed_axes(self, dataset, teacher, bench):
        """An encoder whose means are the analytic code on other axes: healthy, aligned with nothing."""
        vae = build(MODEL, dataset.shape, K, 0)
        vae.encoder = _TurnedCode(witness_facts.witness_of(vae), teacher, dataset)  # pyright: ignore[reportAttributeAccessIssue]
        exam = exam_of(vae, dataset, teacher, bench, "train")
        found = witness_facts.fair_facts(exam, witness_facts.witness_of(vae), Gaussian(), dataset, teacher, 0, bench)
        assert found["train_margin"] < 0 < 1.9 < found["rotation_margin"]
        assert found["affine_margin"] > 1.9
        assert found["train_n"] == len(dataset.rows("train"))


class _TurnedCode(torch.nn.Module):
    """Looks an image up and gives the code of its teacher row, turned: for a test that needs a code of known shape."""

    def __init__(self, head, teacher, dataset):
        super().__init__()
        turn = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))[0]
        self.rows = {}
        for split in ("train", "guard"):
            code = head.code(torch.from_numpy(teacher.arrays[f"targets_{split}"])).numpy() @ turn
            for image, mean in zip(dataset.images[dataset.rows(split)], code, strict=True):
                self.rows[image.tobytes()] = torch.from_numpy(mean.astype(np.float32))

    def forward(self, x):
        images = (x * 16).round().to(torch.uint8).numpy()
        mu = torch.stack([self.rows[image.tobytes()] for image in images])
        return mu, torch.full_like(mu, -8.0)
