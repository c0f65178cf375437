"""Quality control of teachers: six numbers, one verdict in words, and a score (arXiv 2605.05813, teacher search)."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certvae.quality import (
    TeacherQuality,
    Thresholds,
    entropy,
    from_row,
    judge,
    kl_to_uniform,
    measure,
    score,
    statuses,
)

FOUR_ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]])
STRICT = Thresholds()


def one_hot(classes: int, used: int | None = None) -> np.ndarray:
    """Ten rows for each used class."""
    return np.eye(classes)[np.arange(10 * (used or classes)) % (used or classes)]


@st.composite
def teachers(draw):
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 7))
    weights = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 1e-9]) | st.floats(0.001, 1)))
    weights[weights.sum(axis=1) == 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


def test_a_balanced_one_hot_teacher_is_strict_feasible():
    quality = measure(one_hot(10))
    assert quality.info == pytest.approx(math.log(10), abs=1e-12)
    assert (quality.top1_margin, quality.high_margin_share) == (1.0, 1.0)
    assert quality.hard_usage_kl == pytest.approx(0, abs=1e-12)
    assert quality.soft_usage_kl == pytest.approx(0, abs=1e-12)
    assert quality.min_mass == pytest.approx(0.1, abs=1e-12)
    assert str(judge(quality, STRICT)) == "strict-feasible"


def test_an_empty_class_alone_makes_a_stress_case():
    verdict = judge(measure(one_hot(10, used=9)), STRICT)
    assert verdict.status == "stress-case"
    assert verdict.reasons == ("min mass 0 < 0.01",)


def test_four_rows_worked_by_hand():
    quality = measure(FOUR_ROWS)
    assert quality.info == pytest.approx(0.2205271460, abs=1e-9)
    assert math.exp(quality.info) == pytest.approx(1.246734, abs=1e-6)
    assert math.exp(entropy(FOUR_ROWS.mean(axis=0))) == pytest.approx(2.939494, abs=1e-6)
    assert quality.top1_margin == pytest.approx((0.5 + 0.7 + 0.4 + 0.25) / 4, abs=1e-12)
    assert quality.high_margin_share == 0.25  # 0.7 alone: a margin of exactly 0.5 is not above 0.5
    assert quality.hard_usage_kl == pytest.approx(kl_to_uniform(np.array([0.25, 0.5, 0.25])), abs=1e-12)
    assert quality.soft_usage_kl == pytest.approx(math.log(3) - 1.0782375765, abs=1e-9)
    assert quality.min_mass == 0.2625


@given(teachers())
@settings(deadline=None)
def test_every_number_keeps_its_bounds(teacher):
    quality, log_k = measure(teacher), math.log(teacher.shape[1])
    assert 0 <= quality.info <= log_k + 1e-12
    assert quality.info <= entropy(teacher.mean(axis=0)) + 1e-12
    assert 0 <= quality.top1_margin <= 1
    assert 0 <= quality.high_margin_share <= 1
    assert 0 <= quality.hard_usage_kl <= log_k + 1e-12
    assert 0 <= quality.soft_usage_kl <= log_k + 1e-12
    assert 0 <= quality.min_mass <= 1 / teacher.shape[1] + 1e-12


@given(teachers(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_rows_and_names_of_classes_do_not_matter(teacher, random):
    rows, columns = list(range(len(teacher))), list(range(teacher.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    untied = np.sort(teacher, axis=1)[:, -2:]
    shuffled = dataclasses.asdict(measure(teacher[rows][:, columns]))
    for name, value in dataclasses.asdict(measure(teacher)).items():
        if name == "hard_usage_kl" and (untied[:, 0] == untied[:, 1]).any():
            continue  # of two equal classes the first is counted
        assert shuffled[name] == pytest.approx(value, abs=1e-12)


@given(st.integers(2, 200), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_a_constant_teacher_carries_nothing(classes, n, seed):
    row = np.random.default_rng(seed).dirichlet(np.ones(classes))
    assert measure(np.tile(row, (n, 1))).info <= 1e-12


JUST_ENOUGH = TeacherQuality(
    classes=10,
    info=0.5 * math.log(10),
    top1_margin=0.5,
    high_margin_share=0.6,
    hard_usage_kl=0.25 * math.log(10),
    soft_usage_kl=0.25 * math.log(10),
    min_mass=0.1 / 10,
)


def test_a_threshold_that_is_just_reached_is_kept():
    assert judge(JUST_ENOUGH, STRICT).status == "strict-feasible"


def test_a_row_exactly_on_the_threshold_is_not_sharp():
    on_it, above = [0.75, 0.25, 0.0], [0.8125, 0.1875, 0.0]  # exact in binary
    assert measure(np.array([on_it, above])).high_margin_share == 0.5


def test_an_energy_budget_that_is_just_spent_is_kept():
    teacher = judge(JUST_ENOUGH, STRICT)
    assert teacher.with_energy(0.5, 0.5).status == "strict-feasible"
    assert teacher.with_energy(0.75, 0.5).reasons == ("code energy 0.75 > 0.5",)


@pytest.mark.parametrize(
    ("field", "word", "worse"),
    [
        ("info", "information", -1e-6),
        ("top1_margin", "top-1 margin", -1e-6),
        ("high_margin_share", "share of sharp rows", -1e-6),
        ("hard_usage_kl", "hard usage KL", 1e-6),
        ("soft_usage_kl", "soft usage KL", 1e-6),
        ("min_mass", "min mass", -1e-6),
    ],
)
def test_each_threshold_alone_makes_a_stress_case_and_is_named(field, word, worse):
    for value in (getattr(JUST_ENOUGH, field) + worse, math.nan):
        verdict = judge(dataclasses.replace(JUST_ENOUGH, **{field: value}), STRICT)
        assert verdict.status == "stress-case"
        assert len(verdict.reasons) == 1
        assert verdict.reasons[0].startswith(word)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Thresholds)])
def test_every_threshold_is_in_force(field):
    """Moving one of them past what was found turns the verdict."""
    lenient = Thresholds(info_share=0, top1_margin=0, high_margin_share=0, usage_share=1e6, min_mass_share=0)
    impossible = dataclasses.replace(lenient, **{field: -1.0 if field == "usage_share" else 1e6})
    quality = measure(FOUR_ROWS)
    assert judge(quality, lenient).status == "strict-feasible"
    assert judge(quality, impossible).status == "stress-case"


def test_the_score_of_the_best_teacher_and_of_a_useless_one():
    assert score(measure(one_hot(10))) == pytest.approx(1.5, abs=1e-12)
    assert score(measure(np.full((4, 10), 0.1))) == pytest.approx(-0.5, abs=1e-12)  # argmax ties fall on class 0


def test_information_and_sharpness_raise_the_score_and_imbalance_lowers_it():
    better = {"info": 0.1, "top1_margin": 0.1, "hard_usage_kl": -0.1, "soft_usage_kl": -0.1}
    for field, step in better.items():
        moved = dataclasses.replace(JUST_ENOUGH, **{field: getattr(JUST_ENOUGH, field) + step})
        assert score(moved) > score(JUST_ENOUGH)


def test_a_stored_row_carries_the_same_quality():
    quality = measure(FOUR_ROWS)
    row = {f"teacher_{name}": value for name, value in dataclasses.asdict(quality).items() if name != "classes"}
    assert from_row({"classes": 3, **row}) == quality


def test_a_failed_run_is_judged_by_the_teacher_that_it_shares():
    rows = [
        {"outcome": "ok", "key_teacher": "a", "teacher_status": "stress-case"},
        {"outcome": "diverged", "key_teacher": "a"},
        {"outcome": "ok", "key_teacher": "b", "teacher_status": "strict-feasible"},
        {"outcome": "diverged", "key_teacher": "b"},
        {"outcome": "infeasible_teacher"},
        {"outcome": "diverged", "key_teacher": "c"},
        {"outcome": "diverged"},
    ]
    stress, strict = "stress-case", "strict-feasible"
    assert statuses(rows) == [stress, stress, strict, strict, stress, None, None]
