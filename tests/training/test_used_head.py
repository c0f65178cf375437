"""The shared-safe used head: equal rows stay equal, it only helps, and none of its numbers can be certified."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.nn import functional

from certvae.certificate import Pairs, certify
from certvae.spec.rescue import Protection, SafeMix, SharedAffine
from certvae.training import objective
from certvae.training.used_head import UsedDiagnostics, diagnose, fit_map, protected_alignment

T = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]], dtype=torch.float64)
S = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]], dtype=torch.float64)
ROLLED = S.roll(-1, 0)  # row i takes row i + 1: a live student below the constant baseline
INFO = 0.2205271460
BOTH = (SharedAffine(), SafeMix(weight=0.5))


def random_rows(seed: int, n: int = 40, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Teacher rows and raw logits."""
    rng = np.random.default_rng(seed)
    teacher = rng.dirichlet(np.full(classes, 0.5), n)
    return torch.from_numpy(0.98 * teacher + 0.02 / classes), torch.from_numpy(2 * rng.standard_normal((n, classes)))


def kl(teacher: torch.Tensor, log_rows: torch.Tensor) -> float:
    return float(functional.kl_div(log_rows, teacher, reduction="batchmean"))


class TestConstancy:
    @pytest.mark.parametrize("protection", BOTH)
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**20))
    def test_bitwise_equal_raw_rows_give_equal_used_rows(self, protection: Protection, seed: int):
        teacher, logits = random_rows(seed)
        same = logits[:1].repeat(len(logits), 1)
        log_student = functional.log_softmax(same, dim=1)
        used = fit_map(protection, teacher, log_student)(log_student)
        assert float((used.exp() - used[0].exp()).abs().max()) <= 1e-12

    @pytest.mark.parametrize("protection", BOTH)
    def test_a_constant_student_is_not_certified_by_its_used_rows(self, protection: Protection):
        """Even handed to the certificate by force: the map reads T of the batch, never T of the row."""
        teacher, logits = random_rows(0)
        log_student = functional.log_softmax(logits[:1].repeat(len(logits), 1), dim=1)
        used = fit_map(protection, teacher, log_student)(log_student)
        pairs = Pairs(teacher=teacher.numpy(), log_student=used.numpy(), split="train")
        assert certify(pairs).certified_rows is False

    @pytest.mark.parametrize("protection", BOTH)
    def test_the_teacher_row_of_an_image_does_not_move_its_used_row(self, protection: Protection):
        """The fitted map is a function of raw rows alone; a per-row teacher would be a way round the latent."""
        teacher, logits = random_rows(1)
        log_student = functional.log_softmax(logits, dim=1)
        fitted = fit_map(protection, teacher, log_student)
        before = fitted(log_student)
        other = teacher.clone()
        other[0] = other[0].flip(0)
        assert torch.equal(fitted(log_student), before)
        assert not torch.equal(fit_map(protection, other, log_student)(log_student), before)


class TestMaps:
    def test_the_safe_mix_of_a_rolled_student(self):
        log_student = ROLLED.log()
        used = fit_map(SafeMix(weight=0.5), T, log_student)(log_student)
        assert kl(T, used) == pytest.approx(0.2885357801, abs=1e-9)
        assert 0.5 * kl(T, log_student) + 0.5 * INFO == pytest.approx(0.3133058708, abs=1e-9)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**20), weight=st.floats(0.01, 0.99))
    def test_the_safe_mix_loses_at_most_the_mixed_losses(self, seed: int, weight: float):
        teacher, logits = random_rows(seed)
        log_student = functional.log_softmax(logits, dim=1)
        used = fit_map(SafeMix(weight=weight), teacher, log_student)(log_student)
        info = kl(teacher, teacher.mean(dim=0).log().expand_as(teacher))
        assert kl(teacher, used) <= (1 - weight) * kl(teacher, log_student) + weight * info + 1e-12

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**20))
    def test_the_affine_map_never_loses(self, seed: int):
        teacher, logits = random_rows(seed)
        log_student = functional.log_softmax(logits, dim=1)
        used = fit_map(SharedAffine(), teacher, log_student)(log_student)
        assert kl(teacher, used) <= kl(teacher, log_student) + 1e-12

    def test_the_affine_map_is_the_best_one(self):
        teacher, logits = random_rows(3)
        student = functional.log_softmax(logits, dim=1)
        used = fit_map(SharedAffine(newton_steps=30), teacher, student)(student)

        def loss(parameters: np.ndarray) -> float:
            gain, bias = parameters[0], torch.from_numpy(parameters[1:])
            return kl(teacher, functional.log_softmax(gain * student + bias, dim=1))

        best = minimize(loss, np.r_[1.0, np.zeros(5)], bounds=[(0.1, 10), *[(None, None)] * 5], method="L-BFGS-B")
        assert kl(teacher, used) == pytest.approx(best.fun, abs=1e-6)

    def test_a_useless_student_keeps_the_smallest_gain(self):
        """c = 0 would make all used rows equal and end the gradient that could rescue it."""
        teacher, logits = random_rows(4)
        student = functional.log_softmax(-50 * logits, dim=1)
        used = fit_map(SharedAffine(newton_steps=30), teacher, student)(student)
        assert float((used - used[0]).abs().max()) > 1.0


class TestTraining:
    @pytest.mark.parametrize("protection", BOTH)
    def test_above_the_buffer_the_raw_head_is_aligned(self, protection: Protection):
        info = kl(T, S.log()) + protection.tau + 1e-6
        align = protected_alignment(protection, info)
        assert float(align(T, S.log())) == pytest.approx(float(objective.alignment(T, S.log())), abs=1e-15)

    @pytest.mark.parametrize("protection", BOTH)
    def test_below_it_the_used_head_is(self, protection: Protection):
        align = protected_alignment(protection, INFO)
        used = fit_map(protection, T, ROLLED.log())(ROLLED.log())
        assert float(align(T, ROLLED.log())) == pytest.approx(kl(T, used), abs=1e-12)
        assert float(align(T, ROLLED.log())) < kl(T, ROLLED.log())

    @pytest.mark.parametrize("protection", BOTH)
    def test_the_gradient_passes_through_the_student_and_not_through_the_fit(self, protection: Protection):
        logits = ROLLED.log().clone().requires_grad_(True)
        protected_alignment(protection, INFO)(T, logits).backward()
        again = ROLLED.log().clone().requires_grad_(True)
        fixed = fit_map(protection, T, ROLLED.log())
        functional.kl_div(fixed(functional.log_softmax(again, dim=1)), T, reduction="batchmean").backward()
        assert logits.grad is not None
        assert again.grad is not None
        torch.testing.assert_close(logits.grad, again.grad)
        assert float(logits.grad.abs().max()) > 0


class TestTypes:
    def test_what_a_used_head_says_cannot_be_certified(self):
        rows = (T.numpy(), ROLLED.log().numpy())
        used = diagnose(SafeMix(), rows, rows, split="guard")
        assert isinstance(used, UsedDiagnostics)
        assert used.loss == pytest.approx(0.2885357801, abs=1e-9)
        assert used.info == pytest.approx(INFO, abs=1e-9)
        with pytest.raises(TypeError):
            certify(used)  # pyright: ignore[reportArgumentType]

    def test_where_nothing_triggers_it_says_what_the_raw_head_says(self):
        close = (T.numpy(), (0.9 * T + 0.1 * S).log().numpy())
        used = diagnose(SharedAffine(), close, close, split="guard")
        raw = certify(Pairs(teacher=close[0], log_student=close[1], split="guard"))
        assert used.margin == pytest.approx(raw.margin, abs=1e-12)
        assert raw.margin > 0.1
