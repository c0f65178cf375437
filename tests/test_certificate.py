"""What the certificate states (arXiv 2605.05813), on a four-row example worked by hand and as laws on random rows."""

import collections
import dataclasses
import inspect
import itertools
import json
import math

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import entr, log_expit, log_softmax, ndtri

from certvae.certificate import (
    FLOAT_SLACK,
    TILTS,
    Certificate,
    Evidence,
    Pairs,
    Reference,
    View,
    certify,
    evidence,
    improvement,
    observe,
)
from certvae.evaluation.diagnostics import pairing_p_value
from certvae.training.used_head import UsedDiagnostics
from tests.laws import LowerBoundLaws
from tests.populations import population

TEACHER = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]])
STUDENT = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]])

law = settings(deadline=None, max_examples=60)


def pair(teacher, student, split="certify", view: View = "mu") -> Pairs:
    with np.errstate(divide="ignore"):
        return Pairs(teacher=teacher, log_student=np.log(student), split=split, view=view)


def constant(teacher, row) -> Pairs:
    return pair(teacher, np.broadcast_to(row, teacher.shape))


def one_hot(labels, classes) -> np.ndarray:
    return np.eye(classes)[labels]


@st.composite
def teachers(draw, fewest=1):
    """Simplex rows, zeros and one-hot rows among them."""
    shape = draw(st.integers(fewest, 12)), draw(st.integers(2, 7))
    weights = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 1e-9, 1e-3]) | st.floats(0, 1)))
    weights[weights.sum(axis=1) == 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


@st.composite
def logits_like(draw, shape):
    return draw(arrays(np.float64, shape, elements=st.floats(-20, 20)))


@st.composite
def random_pairs(draw):
    teacher = draw(teachers())
    return Pairs.from_logits(teacher, draw(logits_like(teacher.shape)), split="certify")


# --------------------------------------------------------------------------------------- the worked example


def test_the_worked_example_has_the_margin_computed_by_hand():
    certificate = certify(pair(TEACHER, STUDENT))
    assert certificate.mean_teacher_entropy == pytest.approx(1.0782375765, abs=1e-10)
    assert certificate.teacher_entropy_mean == pytest.approx(0.8577104306, abs=1e-10)
    assert certificate.info == pytest.approx(0.2205271460, abs=1e-10)
    assert certificate.loss == pytest.approx(0.0414567173, abs=1e-10)
    assert certificate.margin == pytest.approx(0.1790704287, abs=1e-10)
    assert certificate.at(0.10) == pytest.approx(0.0790704287, abs=1e-10)
    assert certificate.student_info == pytest.approx(0.0973271306, abs=1e-10)
    assert certificate.cross_entropy == pytest.approx(0.8991671479, abs=1e-10)
    assert certificate.trace_covariance == pytest.approx(0.2870526036, abs=1e-10)
    assert certificate.brier_margin == pytest.approx(0.1278125, abs=1e-12)
    assert certificate.effective_clusters == pytest.approx(2.939494, abs=1e-6)


def test_eight_lines_are_enough_to_use_it():
    certificate = certify(Pairs(teacher=TEACHER, log_student=np.log(STUDENT), split="certify"), delta=0.05)
    assert (certificate.certified_rows, certificate.certified_at(0.10)) == (True, True)
    assert certificate.population_bound == certificate.betting_bound < certificate.smoothed_margin


def test_a_rolled_student_is_alive_and_not_certified():
    certificate = certify(pair(TEACHER, np.roll(STUDENT, -1, axis=0)))
    assert certificate.loss == pytest.approx(0.4060845957, abs=1e-10)
    assert certificate.margin == pytest.approx(-0.1855574497, abs=1e-10)
    assert certificate.trace_covariance == pytest.approx(-0.0775752748, abs=1e-10)
    assert certificate.student_info == pytest.approx(0.0973271306, abs=1e-10)
    assert certificate.certified_rows is False


def test_the_margin_near_the_best_constant_follows_its_second_order_expansion():
    direction = np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1], [0.5, -0.5, 0]])
    mean = TEACHER.mean(axis=0)
    slope = ((TEACHER - mean) * direction).sum(axis=1).mean()
    curvature = ((mean * direction**2).sum(axis=1) - (direction @ mean) ** 2).mean()
    assert (slope, curvature) == pytest.approx((0.3828125, 0.534912109375), abs=1e-12)
    printed = {0.1: 0.0356077627, 0.01: 0.0038013787, 0.001: 0.0003825450}
    for step, margin in printed.items():
        certificate = certify(Pairs.from_logits(TEACHER, np.log(mean) + step * direction, split="guard"))
        assert certificate.margin == pytest.approx(margin, abs=1e-10)
        assert certificate.margin == pytest.approx(step * slope - step**2 / 2 * curvature, abs=0.2 * step**3)


@pytest.mark.parametrize(("tilt", "margin", "info"), [(0.0848, 0.0843576, 1.8921e-5), (0.2, 0.1988936, 1.13651e-4)])
def test_a_weak_tilt_shows_in_the_margin_long_before_the_student_information(tilt, margin, info):
    """First against second order: a small bare margin and a student information near 0 do not contradict."""
    certificate = certify(Pairs.from_logits(np.eye(200), tilt * np.eye(200), split="certify"))
    assert certificate.margin == pytest.approx(margin, abs=5e-8)
    assert certificate.student_info == pytest.approx(info, rel=5e-5)


# ------------------------------------------------------------------------------------------- constant rows


@pytest.mark.parametrize(
    ("row", "loss", "margin"),
    [([0.2, 0.5, 0.3], 0.2558693299, -0.0353421840), ([1 / 3, 1 / 3, 1 / 3], 0.2409018581, -0.0203747121)],
)
def test_a_constant_student_loses_its_distance_to_the_mean_teacher(row, loss, margin):
    certificate = certify(constant(TEACHER, row))
    assert (certificate.loss, certificate.margin) == pytest.approx((loss, margin), abs=1e-10)


@law
@given(st.data())
def test_every_constant_student_obeys_the_constant_baseline_identity(data):
    """Lemma 1: L_TS = I_T + KL(Tbar || s)."""
    teacher = data.draw(teachers())
    log_row = log_softmax(data.draw(logits_like(teacher.shape[1])))
    certificate = certify(constant(teacher, np.exp(log_row)))
    mean = teacher.mean(axis=0)
    divergence = sum(m * (math.log(m) - s) for m, s in zip(mean, log_row, strict=True) if m > 0)
    assert certificate.loss == pytest.approx(certificate.info + divergence, abs=1e-12)
    assert certificate.margin == pytest.approx(-divergence, abs=1e-12)
    assert certificate.brier_margin <= 1e-12
    assert certificate.certified_rows is False


@law
@given(teachers())
def test_the_uniform_student_measures_the_imbalance_of_the_teacher(teacher):
    certificate = certify(constant(teacher, np.full(teacher.shape[1], 1 / teacher.shape[1])))
    assert certificate.margin == pytest.approx(-certificate.imbalance, abs=1e-12)


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (257, 10), (100_000, 3), (100_000, 200)])
def test_the_best_constant_student_is_never_certified(n, classes):
    teacher = np.random.default_rng(n + classes).random((n, classes)) ** 8
    teacher /= teacher.sum(axis=1, keepdims=True)
    certificate = certify(constant(teacher, teacher.mean(axis=0)))
    assert certificate.margin == pytest.approx(0, abs=1e-10)
    assert certificate.certified_rows is False


def test_equal_latent_rows_are_not_certified_in_whatever_batches_the_head_reads_them():
    generator = np.random.default_rng(0)
    latent, weights = np.tile(generator.normal(size=64), (100_000, 1)), generator.normal(size=(64, 10))
    logits = np.concatenate([latent[i : i + 1024] @ weights for i in range(0, len(latent), 1024)])
    assert np.ptp(logits, axis=0).max() <= 1e-12
    fitted = logits - logits[0] + np.log(np.full(10, 0.1))  # the mean teacher, plus what rounding leaves
    teacher = one_hot(np.arange(100_000) % 10, 10)
    assert certify(Pairs.from_logits(teacher, fitted, split="certify")).certified_rows is False


def test_a_constant_teacher_carries_no_information():
    teacher = np.tile(TEACHER[:1], (5, 1))
    certificate = certify(pair(teacher, STUDENT[[0, 1, 2, 3, 0]]))
    assert certificate.info == pytest.approx(0, abs=1e-14)
    assert certificate.certified_rows is False


# ---------------------------------------------------------------------------------------------- same rows


def test_a_mean_teacher_from_other_rows_would_certify_a_constant_student():
    teacher, row = one_hot([0] * 60 + [1] * 40, 2), np.array([0.6, 0.4])
    cross_entropy = -(teacher @ np.log(row)).mean()
    assert math.log(2) - cross_entropy == pytest.approx(0.0201355136, abs=1e-10)  # with Tbar = (.5, .5)
    assert certify(constant(teacher, row)).margin == pytest.approx(0, abs=1e-12)


def test_no_argument_lets_teacher_information_in_from_outside():
    assert set(inspect.signature(certify).parameters) == {
        *("pairs", "delta", "looks", "eps", "eta"),
        *("reference", "strata"),  # of other rows, and a grouping: neither enters the margin from outside
    }
    assert {field.name for field in dataclasses.fields(Pairs)} == {"teacher", "log_student", "split", "view"}


def test_same_rows_give_no_false_positive_where_other_rows_give_many():
    generator = np.random.default_rng(0)
    same = foreign = 0
    for _ in range(2000):
        weights = generator.dirichlet(np.full(10, 5.0))
        labels, other = generator.choice(10, size=(2, 200), p=weights)
        frequencies = np.bincount(other, minlength=10)
        row = (frequencies + 1) / (frequencies + 1).sum()
        certificate = certify(constant(one_hot(labels, 10), row))
        foreign_entropy = entr(frequencies / 200).sum()
        same += certificate.certified_rows is not False
        foreign += bool(foreign_entropy - certificate.cross_entropy > FLOAT_SLACK)
    assert same == 0
    assert foreign > 50


def test_margins_of_class_sorted_batches_do_not_average_to_the_margin():
    teacher = one_hot(np.repeat(np.arange(4), 25), 4)
    student = 0.8 * teacher + 0.05
    batches = [certify(pair(teacher[i : i + 25], student[i : i + 25])) for i in range(0, 100, 25)]
    assert [batch.info for batch in batches] == [0, 0, 0, 0]
    assert np.mean([batch.margin for batch in batches]) < 0 < certify(pair(teacher, student)).margin


@pytest.mark.parametrize(("n", "classes", "bias"), [(128, 10, -0.036), (128, 100, -0.449), (256, 200, -0.451)])
def test_information_of_few_rows_is_biased_downwards(n, classes, bias):
    generator = np.random.default_rng(n)
    teachers = (one_hot(generator.integers(classes, size=n), classes) for _ in range(60))
    found = [certify(constant(teacher, np.full(classes, 1 / classes))).info for teacher in teachers]
    assert np.mean(found) - math.log(classes) == pytest.approx(bias, abs=0.01)


# -------------------------------------------------------------------------------------------- laws of rows


def margin_reference(pairs: Pairs) -> float:
    """G_0 as its definition reads, nats, in plain loops: a slow text."""
    teacher, log_student = pairs.teacher.tolist(), pairs.log_student.tolist()
    n, classes = len(teacher), range(len(teacher[0]))
    mean = [math.fsum(row[k] for row in teacher) / n for k in classes]
    info = loss = 0.0
    for t, log_s in zip(teacher, log_student, strict=True):
        possible = [k for k in classes if t[k] > 0]
        info += sum(t[k] * math.log(t[k] / mean[k]) for k in possible) / n
        loss += sum(t[k] * (math.log(t[k]) - log_s[k]) for k in possible) / n
    return info - loss


@law
@given(random_pairs())
def test_the_margin_is_what_its_definition_says(pairs):
    assert certify(pairs).margin == pytest.approx(margin_reference(pairs), abs=1e-12)


@law
@given(random_pairs())
def test_the_margin_lies_below_each_of_its_upper_bounds(pairs):
    certificate = certify(pairs)
    assert -1e-12 <= certificate.info <= certificate.mean_teacher_entropy + 1e-12
    assert certificate.mean_teacher_entropy <= math.log(certificate.classes) + 1e-12
    assert certificate.margin <= certificate.info + 1e-12
    assert certificate.trace_covariance is not None
    assert certificate.margin <= certificate.trace_covariance + 1e-12
    assert certificate.margin == pytest.approx(certificate.info - certificate.loss, abs=1e-12)


@law
@given(random_pairs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_classes_do_not_matter(pairs, random):
    rows, classes = (list(range(size)) for size in pairs.teacher.shape)
    random.shuffle(rows)
    random.shuffle(classes)
    chosen = np.ix_(rows, classes)
    moved = Pairs(teacher=pairs.teacher[chosen], log_student=pairs.log_student[chosen], split="certify")
    for name, value in certify(pairs).as_row().items():
        if name not in {"betting_bound", "population_bound"}:  # they read the rows in 20 fixed orders
            assert certify(moved).as_row()[name] == pytest.approx(value, abs=1e-10), name


@law
@given(st.integers(0, 2**32 - 1))
def test_a_margin_forces_the_latent_apart_in_proportion_to_the_gain_of_the_head(seed):
    """E||z - m|| >= G_0 / (sqrt(2) Lambda) for every m, since the gradient S - T of the loss is at most sqrt(2)."""
    generator = np.random.default_rng(seed)
    latent, weights = generator.normal(size=(30, 3)), generator.normal(size=(3, 4))
    logits = latent @ weights
    teacher = np.exp(log_softmax(logits + generator.normal(size=logits.shape), axis=1))
    margin = certify(Pairs.from_logits(teacher, logits, split="certify")).margin
    gain = np.linalg.norm(weights, 2)
    for centre in (latent.mean(axis=0), latent[0], np.zeros(3)):
        assert np.linalg.norm(latent - centre, axis=1).mean() >= margin / (math.sqrt(2) * gain)


# ------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("truth", [[0.7, 0.2, 0.1], [1.0, 0.0, 1e-300]])
def test_a_student_that_excludes_the_truth_has_margin_minus_infinity(truth):
    pairs = pair(np.array([truth, *TEACHER[1:]]), np.array([[0.5, 0.5, 0.0], *STUDENT[1:]]))
    certificate = certify(pairs)
    assert (certificate.loss, certificate.margin) == (math.inf, -math.inf)
    assert margin_reference(pairs) == -math.inf
    assert (certificate.certified_rows, certificate.trace_covariance) == (False, None)
    assert not any(isinstance(value, float) and math.isnan(value) for value in certificate.as_row().values())


def test_zeros_shared_by_teacher_and_student_are_harmless():
    certificate = certify(pair(np.eye(3), np.eye(3)))
    assert (certificate.loss, certificate.margin) == pytest.approx((0, math.log(3)), abs=1e-12)


def test_teacher_entries_whose_mean_would_underflow_count_as_zero():
    teacher = np.array([[0.0, 0.5, 0.5], [5e-324, 1.0, 5e-324]])
    certificate = certify(pair(teacher, STUDENT[:2]))
    assert certificate.as_row() == certify(pair(teacher.round(1), STUDENT[:2])).as_row()
    assert math.isfinite(certificate.smoothed_margin)


def test_float32_logits_of_any_size_give_the_float64_margin():
    generator = np.random.default_rng(0)
    logits = (1e4 * generator.normal(size=(50, 5))).astype(np.float32)
    teacher = generator.dirichlet(np.ones(5), size=50)
    log_student = log_softmax(logits.astype(np.float64), axis=1)
    expected = entr(teacher.mean(axis=0)).sum() + (teacher * log_student).sum(axis=1).mean()
    found = certify(Pairs.from_logits(teacher, logits, split="certify")).margin
    assert math.isfinite(found)
    assert found == pytest.approx(expected, rel=1e-12)


def test_float32_rows_are_renormalised_in_float64():
    generator = np.random.default_rng(0)
    teacher = generator.dirichlet(np.ones(200), size=300).astype(np.float32)
    log_student = log_softmax(generator.normal(size=(300, 200)).astype(np.float32), axis=1)
    pairs = Pairs(teacher=teacher, log_student=log_student, split="certify")
    assert np.abs(pairs.teacher.sum(axis=1) - 1).max() < 1e-14
    assert np.abs(np.exp(pairs.log_student).sum(axis=1) - 1).max() < 1e-13


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        np.ndarray.tolist,
        pd.DataFrame,
        torch.from_numpy,
        lambda rows: torch.from_numpy(rows).requires_grad_() * 1,
        np.asfortranarray,
    ],
)
def test_whatever_holds_real_numbers_is_taken(form):
    found = certify(Pairs(teacher=form(TEACHER), log_student=form(np.log(STUDENT)), split="certify"))
    assert found == certify(pair(TEACHER, STUDENT))
    assert certify(Pairs.from_logits(form(TEACHER), form(np.log(STUDENT)), split="certify")).margin == pytest.approx(
        found.margin, abs=1e-15
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", [pd.Series, lambda labels: torch.tensor(labels, requires_grad=True), np.array])
def test_so_are_strata_and_the_rows_of_a_reference(form):
    strata = [0.0, 0.0, 1.0, 1.0]
    rows = pd.DataFrame(TEACHER), torch.from_numpy(TEACHER).requires_grad_()
    plain = Reference(teacher=TEACHER, split="train", strata=np.array(strata))
    found = certify(pair(TEACHER, STUDENT), strata=form(strata), reference=plain)
    for teacher in rows:
        given = Reference(teacher=teacher, split="train", strata=form(strata))
        assert certify(pair(TEACHER, STUDENT), strata=form(strata), reference=given) == found


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "rows",
    [
        TEACHER + 0j,
        np.ma.MaskedArray(TEACHER, mask=TEACHER > 0.7),
        TEACHER.astype(str),
        [[0.5, 0.5], [1.0]],
        torch.from_numpy(TEACHER).bfloat16(),
        None,
    ],
)
def test_rows_that_are_not_real_numbers_are_refused(rows):
    with pytest.raises(ValueError, match="teacher rows must be real numbers"):
        Pairs(teacher=rows, log_student=np.log(STUDENT), split="certify")
    with pytest.raises(ValueError, match="logits rows must be real numbers"):
        Pairs.from_logits(TEACHER, rows, split="certify")


@pytest.mark.parametrize(("kind", "off"), [(np.float64, 9e-7), (np.float32, 8e-6), (np.float16, 8e-3)])
def test_rows_are_held_to_what_their_type_can_hold(kind, off):
    good, bad = (TEACHER * (1 + step * np.array([[0], [1], [0], [0]])) for step in (off, 3 * off))
    taken = Pairs(teacher=good.astype(kind), log_student=np.log(STUDENT), split="certify")
    assert np.abs(taken.teacher - TEACHER).max() < 2e-3
    with pytest.raises(ValueError, match=r"teacher row 1 .*divide each row by its sum: rows / rows.sum") as refusal:
        Pairs(teacher=bad.astype(kind), log_student=np.log(STUDENT), split="certify")
    assert f"for {np.dtype(kind)}" in str(refusal.value)
    rows = bad.astype(kind)
    assert pair(rows / rows.sum(axis=1, keepdims=True), STUDENT).teacher == pytest.approx(TEACHER, abs=2e-3)
    log_student = (np.log(STUDENT) + 3 * off).astype(kind)
    with pytest.raises(ValueError, match=r"student row 0 .*through Pairs.from_logits"):
        Pairs(teacher=TEACHER, log_student=log_student, split="certify")
    remedied = Pairs.from_logits(TEACHER, log_student, split="certify")
    assert np.exp(remedied.log_student) == pytest.approx(STUDENT, abs=2e-3)


@law
@given(random_pairs())
def test_what_is_observed_without_a_bound_is_what_the_certificate_says(pairs):
    for strata in (None, np.arange(len(pairs.teacher)) % 2):
        seen, certificate = observe(pairs, strata), certify(pairs, strata=strata)
        assert dataclasses.asdict(seen).items() <= dataclasses.asdict(certificate).items()
        assert (seen.info, seen.loss, seen.margin) == (certificate.info, certificate.loss, certificate.margin)


def test_pairs_keep_read_only_copies():
    teacher = TEACHER.copy()
    pairs = pair(teacher, STUDENT)
    teacher[:] = 1 / 3
    assert pairs.teacher == pytest.approx(TEACHER)
    with pytest.raises(ValueError, match="read-only"):
        pairs.teacher[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        pairs.log_student[0, 0] = 0.0


@pytest.mark.parametrize("row", [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [-0.1, 0.5, 0.6], [0.2 + 2e-6, 0.2, 0.6]])
def test_the_first_bad_teacher_row_is_named(row):
    teacher = np.array([TEACHER[0], TEACHER[1], row, row])
    with pytest.raises(ValueError, match="teacher row 2 "):
        pair(teacher, STUDENT)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.3 + 2e-6])
def test_the_first_bad_student_row_is_named(value):
    student = STUDENT.copy()
    student[1:, 1] = value
    with pytest.raises(ValueError, match="student row 1 "):
        pair(TEACHER, student)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_left_the_finite_numbers_are_refused(value):
    logits = np.zeros((4, 3))
    logits[3, 0] = value
    with pytest.raises(ValueError, match="student row 3 has logsumexp nan"):
        Pairs.from_logits(TEACHER, logits, split="certify")


@pytest.fixture
def unchecked():
    """Without the run-time type checks of this test suite, as a user calls it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match="view must be one of"):
        pair(TEACHER, STUDENT, view="mean")  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (4,), (0, 3), (4, 1)])
def test_rows_that_are_not_paired_are_refused(shape):
    student = np.full(shape, 1 / shape[-1])
    teacher = student if 0 in shape or shape[-1] == 1 else TEACHER
    with pytest.raises(ValueError, match="must share one shape"):
        pair(teacher, student)


# -------------------------------------------------------------------------------------------------- claims


def test_every_tau_is_read_from_one_record():
    certificate = certify(pair(TEACHER, STUDENT))
    assert certificate.at(0.0) == certificate.margin
    for smaller, larger in itertools.pairwise([0.0, 0.05, 0.10, 0.20]):
        assert certificate.at(smaller) - certificate.at(larger) == pytest.approx(larger - smaller, abs=1e-12)
    assert (certificate.certified_at(0.10), certificate.certified_at(0.20)) == (True, False)


@pytest.mark.parametrize("tau", [-0.01, math.log(3), math.nan])
def test_a_buffer_that_no_margin_can_pass_is_refused(tau):
    with pytest.raises(ValueError, match="tau must lie in"):
        certify(pair(TEACHER, STUDENT)).at(tau)


def test_the_sampled_view_makes_no_claim_about_rows():
    certificate = certify(pair(TEACHER, STUDENT, view="sampled"))
    assert certificate.margin > FLOAT_SLACK
    assert (certificate.certified_rows, certificate.certified_at(0.0)) == (None, None)
    with pytest.raises(TypeError):
        dataclasses.replace(certificate, certified_rows=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.view = "mu"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_three_claims_are_printed_apart_with_split_and_rows():
    certify_text = str(certify(balanced_pairs(1000), eps=0.05))
    assert "split certify, view mu, n = 1000, K = 4" in certify_text
    assert [line.split(":")[0].split() for line in certify_text.splitlines()[1:4]] == [
        ["on", "these", "rows", "certified"],
        ["at", "tau", "=", "0.1", "certified"],
        ["in", "the", "population", "certified"],
    ]
    assert "mixed with 0.01 of the uniform row, margin +0.5008; reference row: uniform" in certify_text
    few_text = certify(balanced_pairs(40), eps=0.05).summary(tau=0.5)
    assert "tau = 0.5       not certified" in few_text
    assert "population  not certified" in few_text
    guard_text = str(certify(pair(TEACHER, STUDENT, split="guard")))
    assert "split guard (descriptive)" in guard_text
    assert "population  no claim: lower bound -" in guard_text


def test_only_the_certify_split_carries_a_population_claim():
    opened = balanced_pairs(1000)
    guard = Pairs(teacher=opened.teacher, log_student=opened.log_student, split="guard")
    assert certify(opened, eps=0.05).certified_population is True
    assert certify(guard, eps=0.05).population_bound == certify(opened, eps=0.05).population_bound
    assert certify(guard, eps=0.05).certified_population is None


def test_the_population_claim_begins_where_its_bound_passes_zero():
    records = [certify(balanced_pairs(n), eps=0.05) for n in range(80, 300, 20)]
    claims = [record.certified_population for record in records]
    assert claims == [record.population_bound > 0 for record in records]
    assert set(claims) == {True, False}


def test_a_row_is_flat_and_survives_json():
    row = certify(pair(TEACHER, STUDENT)).as_row()
    assert json.loads(json.dumps(row)) == row
    assert {type(value) for value in row.values()} <= {str, int, float, bool, type(None)}
    assert row["bernstein_bound"] is None
    assert row["population_bound"] == row["betting_bound"]
    assert row["margin"] == certify(pair(TEACHER, STUDENT)).margin


@pytest.mark.usefixtures("unchecked")
def test_a_used_head_reports_numbers_that_cannot_be_certified():
    used = UsedDiagnostics.from_rows(TEACHER, np.log(STUDENT), split="guard")
    assert (used.info, used.loss, used.margin) == pytest.approx((0.2205271460, 0.0414567173, 0.1790704287), abs=1e-10)
    assert not isinstance(used, Pairs | Certificate)
    with pytest.raises(TypeError, match="certify takes Pairs"):
        certify(used)  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------------- sampled view


@pytest.mark.parametrize(
    ("mean", "sampled", "exact"), [(0.5, 0.11142148, 0.219070), (1, 0.33683082, 0.566219), (2, 0.63272019, 0.692812)]
)
def test_two_gaussian_classes_have_the_margins_of_their_quadrature(mean, sampled, exact):
    """z ~ N(+-m, 1) and S = sigmoid(2mz), the posterior: the sampled margin is I(C; Z) and below the rate m^2 / 2."""
    noise = ndtri((np.arange(100_000) + 0.5) / 100_000)
    teacher = one_hot(np.repeat([0, 1], len(noise)), 2)
    z = np.concatenate([mean + noise, -mean + noise])
    draws = np.stack([log_expit(2 * mean * z), log_expit(-2 * mean * z)], axis=1)
    found = certify(Pairs(teacher=teacher, log_student=draws, split="certify", view="sampled")).margin
    assert found == pytest.approx(sampled, abs=5e-6)
    assert found <= mean**2 / 2
    means = np.array([[1.0, -1.0], [-1.0, 1.0]]) * mean**2
    on_mu = certify(Pairs.from_logits(np.eye(2), means, split="certify")).margin
    assert on_mu == pytest.approx(exact, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 2.0))
def test_the_sampled_margin_stays_below_the_rate_of_the_channel(seed, scale):
    generator = np.random.default_rng(seed)
    centres = scale * generator.normal(size=(5, 3))
    labels = generator.integers(5, size=4000)
    z = centres[labels] + generator.normal(size=(4000, 3))
    posterior = z @ centres.T - (centres**2).sum(axis=1) / 2
    certificate = certify(Pairs.from_logits(one_hot(labels, 5), posterior, split="certify", view="sampled"))
    assert certificate.wald_bound is not None
    noise = 4 * (certificate.smoothed_margin - certificate.wald_bound)  # 6.6 standard errors
    assert certificate.margin <= (centres[labels] ** 2).sum(axis=1).mean() / 2 + noise


# ---------------------------------------------------------------------------------------------- pairing test


def test_all_pairings_of_the_worked_example_put_the_true_one_first():
    losses = [certify(pair(TEACHER, STUDENT[list(order)])).loss for order in itertools.permutations(range(4))]
    as_small = sum(loss <= losses[0] + 1e-12 for loss in losses)
    assert as_small / len(losses) == pytest.approx(1 / 24)
    sampled = pairing_p_value(pair(TEACHER, STUDENT), 2000, np.random.default_rng(0))
    assert sampled == pytest.approx(1 / 24, abs=0.015)


def test_no_number_of_pairings_gives_a_p_value_of_zero():
    assert pairing_p_value(pair(np.eye(30), np.eye(30)), 99, np.random.default_rng(0)) == 1 / 100


def test_a_constant_student_has_pairing_p_value_one():
    generator = np.random.default_rng(0)
    assert pairing_p_value(constant(TEACHER, TEACHER.mean(axis=0)), 99, generator) == 1.0


def test_the_pairing_test_is_calibrated_under_independence_and_repeats_with_its_generator():
    generator = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        teacher, student = generator.dirichlet(np.ones(4), size=(2, 30))
        p_values.append(pairing_p_value(pair(teacher, student), 39, generator))
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.04)
    first, second = (pairing_p_value(pair(TEACHER, STUDENT), 50, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    with pytest.raises(ValueError, match="permutations must be >= 1"):
        pairing_p_value(pair(TEACHER, STUDENT), 0, generator)


# -------------------------------------------------------------------------------------------------- bounds


def balanced_pairs(n) -> Pairs:
    """Four balanced classes; the student names the next class in every fifth group of four rows. eps = .05."""
    rows = np.arange(n)
    labels = rows % 4
    predicted = np.where(rows // 4 % 5 == 0, (labels + 1) % 4, labels)
    return pair(0.95 * one_hot(labels, 4) + 0.0125, 0.9 * one_hot(predicted, 4) + 0.025)


def test_the_bounds_have_their_reference_values_at_a_thousand_rows():
    certificate = certify(balanced_pairs(1000), eps=0.05)
    assert certificate.info == pytest.approx(1.1851804450, abs=1e-10)
    assert certificate.loss == pytest.approx(0.6983314505, abs=1e-10)
    assert certificate.margin == pytest.approx(0.4868489945, abs=1e-10)
    assert certificate.smoothed_margin == pytest.approx(0.5007965896, abs=1e-10)
    assert certificate.mcdiarmid_bound == pytest.approx(0.0993188749, abs=1e-10)
    assert certificate.bernstein_bound == pytest.approx(0.2536765359, abs=1e-10)
    assert certificate.wald_bound == pytest.approx(0.4312378244, abs=1e-10)


def test_the_bounds_have_their_reference_values_at_ten_thousand_rows():
    certificate = certify(balanced_pairs(10_000), eps=0.05)
    assert certificate.mcdiarmid_bound == pytest.approx(0.3738381888, abs=1e-10)
    assert certificate.bernstein_bound == pytest.approx(0.4506382542, abs=1e-10)
    assert certificate.wald_bound == pytest.approx(0.4788100783, abs=1e-10)


@pytest.mark.parametrize(("n", "bound"), [(1000, 0.1808751475), (10_000, 0.2867293134)])
def test_the_brier_bound_has_its_reference_value_for_the_smoothed_student(n, bound):
    raw = balanced_pairs(n)
    certificate = certify(pair(raw.teacher, 0.99 * np.exp(raw.log_student) + 0.01 / 4))
    assert certificate.brier_margin == pytest.approx(0.33568425, abs=1e-10)
    assert certificate.brier_bound == pytest.approx(bound, abs=1e-10)


@pytest.mark.parametrize(
    ("classes", "eps", "width"),
    [
        *[(10, 0.05, 12.2061), (100, 0.05, 16.8112), (200, 0.05, 18.1975)],
        *[(10, 0.01, 13.8155), (100, 0.01, 18.4207), (200, 0.01, 19.8070)],
    ],
)
def test_the_radii_at_ten_thousand_rows_depend_on_classes_and_smoothing_only(classes, eps, width):
    teacher = (1 - eps) * one_hot(np.arange(10_000) % classes, classes) + eps / classes
    certificate = certify(constant(teacher, np.full(classes, 1 / classes)), eps=eps)
    assert certificate.mcdiarmid_bound is not None
    assert certificate.brier_margin - certificate.brier_bound == pytest.approx(0.0489549366, abs=1e-10)
    radius = certificate.smoothed_margin - certificate.mcdiarmid_bound
    assert radius == pytest.approx(0.0122387342 * width, abs=1e-6)


@law
@given(st.data())
def test_every_bound_lies_below_its_estimate_and_falls_with_the_looks(data):
    teacher = data.draw(teachers(fewest=2))
    logits = data.draw(logits_like(teacher.shape))
    pairs = Pairs.from_logits(0.9 * teacher + 0.1 / teacher.shape[1], logits, split="certify")
    once, thrice, third = (certify(pairs, eps=0.1, **given) for given in ({}, {"looks": 3}, {"delta": 0.05 / 3}))
    for bound in ("mcdiarmid_bound", "bernstein_bound", "betting_bound", "brier_bound", "wald_bound"):
        assert getattr(thrice, bound) == getattr(third, bound)
    for bound in ("mcdiarmid_bound", "bernstein_bound", "betting_bound", "wald_bound"):
        assert getattr(once, bound) <= once.smoothed_margin + 1e-12
        assert getattr(thrice, bound) <= getattr(once, bound)
    assert thrice.mcdiarmid_bound < once.mcdiarmid_bound  # its radius is the same for all rows, and never 0
    assert thrice.brier_bound < once.brier_bound < once.brier_margin
    assert once.smoothed_margin >= once.margin + math.log(1 - once.eta) - 1e-12


def bernstein_reference(pairs: Pairs, eps: float, eta: float, delta: float) -> float:
    """L2 for n rows, written out with one loop per sum."""
    teacher, student = pairs.teacher, (1 - eta) * np.exp(pairs.log_student) + eta / pairs.teacher.shape[1]
    n, classes = teacher.shape
    mean = [np.mean(teacher[:, k]) for k in range(classes)]
    rows = [
        sum(t * math.log(s / m) for t, s, m in zip(*row, mean, strict=True) if t)
        for row in zip(teacher, student, strict=True)
    ]
    log_box, log_tail = math.log(4 * classes / (delta / 3)), math.log(2 / (2 * delta / 3))
    nuisance = 0.0
    for k in range(classes):
        half = math.sqrt(2 * np.var(teacher[:, k], ddof=1) * log_box / n) + 7 * log_box / (3 * (n - 1))
        low, high = max(mean[k] - half, eps / classes), min(mean[k] + half, 1)
        nuisance += mean[k] * max(math.log(mean[k] / low), math.log(high / mean[k])) ** 2
    deviation = np.std(rows, ddof=1) + math.sqrt(n / (n - 1)) * math.sqrt(nuisance)
    width = math.log(classes / eta) + math.log(classes / eps)
    return np.mean(rows) - deviation * math.sqrt(2 * log_tail / n) - 7 * width * log_tail / (3 * (n - 1))


@law
@given(st.data())
def test_the_bernstein_bound_is_what_its_definition_says(data):
    teacher = data.draw(teachers(fewest=2))
    pairs = Pairs.from_logits(
        0.8 * teacher + 0.2 / teacher.shape[1], data.draw(logits_like(teacher.shape)), split="guard"
    )
    copies = data.draw(st.sampled_from([1, 40])), 1
    many = Pairs(teacher=np.tile(pairs.teacher, copies), log_student=np.tile(pairs.log_student, copies), split="guard")
    found = certify(many, eps=0.2, eta=0.05, delta=0.1).bernstein_bound
    assert found == pytest.approx(bernstein_reference(many, 0.2, 0.05, 0.1), abs=1e-9)


def test_more_rows_of_the_same_kind_raise_every_bound():
    records = [certify(balanced_pairs(n), eps=0.05) for n in (40, 400, 4000, 40_000)]
    for bound in ("mcdiarmid_bound", "bernstein_bound", "betting_bound", "brier_bound", "wald_bound"):
        values = [getattr(record, bound) for record in records]
        assert values == sorted(values)
        assert len(set(values)) == len(values)


def test_bounds_without_their_conditions_are_unavailable_and_not_infinite():
    unsmoothed = certify(balanced_pairs(1000))
    assert (unsmoothed.mcdiarmid_bound, unsmoothed.bernstein_bound) == (None, None)
    assert unsmoothed.wald_bound is not None
    single = certify(balanced_pairs(1), eps=0.05)
    assert (single.bernstein_bound, single.wald_bound) == (None, None)
    assert single.mcdiarmid_bound is not None


def test_smoothing_that_the_rows_do_not_contain_is_refused():
    with pytest.raises(ValueError, match="teacher row 0 has an entry"):
        certify(balanced_pairs(8), eps=0.06)
    float32 = balanced_pairs(8).teacher.astype(np.float32)
    assert certify(pair(float32, balanced_pairs(8).teacher), eps=0.05).bernstein_bound is not None


@pytest.mark.parametrize(
    "arguments",
    [
        *({name: value} for name in ("delta", "eps", "eta") for value in (-0.1, 1.0, 5e-324, math.nan, math.inf, "x")),
        *({name: value} for name in ("delta", "eta") for value in (0.0, True, None)),
        *({"looks": looks} for looks in (0, -1, 1.5, 2.0, True, math.nan, "x", 10**12)),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_parameters_out_of_range_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))}: wanted .*, found .*;"):
        certify(balanced_pairs(8), **arguments)


def draw_population(generator, weights, n) -> Pairs:
    """Noisy teacher logits that know the class, a noisier student; both smoothed, eps = .05."""
    labels = generator.choice(10, size=n, p=weights)
    logits = generator.normal(size=(n, 10)) + 3 * one_hot(labels, 10)
    noisy = 0.6 * logits + generator.normal(size=(n, 10))
    teacher = 0.95 * np.exp(log_softmax(2 * logits, axis=1)) + 0.005
    return pair(teacher, 0.95 * np.exp(log_softmax(noisy, axis=1)) + 0.005)


def test_the_bounds_cover_the_population_margin():
    generator = np.random.default_rng(0)
    weights = generator.dirichlet(np.full(10, 5.0))
    population = certify(draw_population(generator, weights, 400_000)).smoothed_margin
    records = [certify(draw_population(generator, weights, 10_000), eps=0.05) for _ in range(60)]
    covered = {
        bound: np.mean([getattr(record, bound) <= population for record in records])
        for bound in ("mcdiarmid_bound", "bernstein_bound", "betting_bound", "wald_bound")
    }
    assert covered["mcdiarmid_bound"] >= 0.95
    assert covered["bernstein_bound"] >= 0.95
    assert covered["betting_bound"] >= 0.95
    assert covered["wald_bound"] >= 0.90


# ------------------------------------------------------------------------------------------------- betting


class TestBetting(LowerBoundLaws):
    def bound(self, pairs, delta, reference):
        return certify(pairs, delta=delta, reference=reference).population_bound


class TestBettingWithinStrata(LowerBoundLaws):
    """Strata of a coin that is not in the rows leave the population margin as it is."""

    def bound(self, pairs, delta, reference):
        return certify(pairs, delta=delta, reference=reference, strata=np.zeros(len(pairs.teacher))).population_bound


class TestMcDiarmid(LowerBoundLaws):
    kinds = ("smoothed",)

    def bound(self, pairs, delta, reference):
        found = certify(pairs, delta=delta, eps=0.05).mcdiarmid_bound
        assert found is not None
        return found


class TestBernstein(LowerBoundLaws):
    kinds = ("smoothed",)

    def bound(self, pairs, delta, reference):
        found = certify(pairs, delta=delta, eps=0.05).bernstein_bound
        assert found is not None
        return found


def betting_reference(x: list[float], log_odds: float) -> float:
    """The largest m that is rejected, with one loop per order and draw."""
    n = len(x)

    def capital(order: int, m: float) -> float:
        draws = [x[i] for i in sorted(range(n), key=np.random.PCG64(order).random_raw(n).tolist().__getitem__)]
        money, mean, squares, variance = 1.0, 0.5, 0.25, 0.25
        for t, draw in enumerate(draws, start=1):
            money *= 1 + min(math.sqrt(2 * log_odds / (n * variance)), 0.75 / m) * (draw - m)
            mean = (0.5 + math.fsum(draws[:t])) / (t + 1)
            squares += (draw - mean) ** 2
            variance = squares / (t + 1)
        return money

    low, high = 0.0, 1.0
    while high - low > 1e-10:
        m = (low + high) / 2
        rejected = np.mean([capital(order, m) for order in range(20)]) >= math.exp(log_odds)
        low, high = (m, high) if rejected else (low, m)
    return low


def divergence_reference(mean: np.ndarray, r: np.ndarray, n: int, log_odds: float) -> float:
    """The bound of KL(p || r) in two steps: how far one class can be off, then the worst ratio of the two sums."""
    divergence = sum(m * math.log(m / k) for m, k in zip(mean, r, strict=True) if m > 0)
    bounds = [math.log(1 / min(r))]
    for tilt in TILTS:
        short = 1 - math.exp(-(log_odds + math.log(3)) / n - tilt * divergence)
        grid = [np.geomspace(1.001, 1 / k, 20_001) for k in r]
        terms = [k * ((1 - tilt) * t + tilt - t ** (1 - tilt)) for t, k in zip(grid, r, strict=True)]
        t = max(t[term <= short].max(initial=1.001) for t, term in zip(grid, terms, strict=True))
        bounds.append(short * (t * math.log(t) - t + 1) / ((1 - tilt) * t + tilt - t ** (1 - tilt)))
    return min(bounds)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_the_betting_bound_is_what_its_definition_says(data):
    teacher = data.draw(teachers())
    pairs = Pairs.from_logits(teacher, data.draw(logits_like(teacher.shape)), split="certify")
    delta = data.draw(st.sampled_from([0.3, 0.05, 1e-6]))
    n, classes = teacher.shape
    smoothed = 0.99 * np.exp(pairs.log_student) + 0.01 / classes
    scores = [
        sum(t * math.log(s * classes) for t, s in zip(*row, strict=True))
        for row in zip(pairs.teacher, smoothed, strict=True)
    ]
    width = math.log(100 * classes)  # r is uniform: every score lies in [log 0.01, log K]
    x = [min(max((score - math.log(0.01)) / width, 0.0), 1.0) for score in scores]
    uniform = np.full(classes, 1 / classes)
    expected = math.log(0.01) + width * betting_reference(x, math.log(1.5 / delta))
    expected -= divergence_reference(pairs.teacher.mean(axis=0), uniform, n, math.log(3 / delta))
    assert certify(pairs, delta=delta).betting_bound == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("kind", "n", "classes", "seed"),
    [("smoothed", 360, 10, 0), ("smoothed", 2000, 100, 0), ("smoothed", 360, 100, 0), ("smoothed", 10_000, 200, 0)],
)
def test_betting_beats_the_older_bounds_on_the_reference_settings(kind, n, classes, seed):
    truth, generator = population(kind, classes, seed), np.random.default_rng(seed)
    pairs = truth.pairs(truth.kinds(n, generator))
    for reference in (None, truth.reference(4 * n, generator)):
        record = certify(pairs, eps=0.05, reference=reference)
        assert record.betting_bound > max(record.mcdiarmid_bound, record.bernstein_bound)
        assert record.betting_bound < truth.margin()


@pytest.mark.parametrize(("n", "bound"), [(40, -0.8112013818), (1000, 0.3615540266), (10_000, 0.4630805480)])
def test_the_betting_bound_has_its_recorded_values(n, bound):
    assert certify(balanced_pairs(n), eps=0.05).betting_bound == pytest.approx(bound, abs=1e-9)


def test_the_betting_bound_of_a_teacher_that_is_not_smoothed_is_a_claim_about_it():
    truth = population("hard", 10)
    record = certify(truth.pairs(truth.kinds(1000, np.random.default_rng(0))))
    assert record.certified_population is True
    assert truth.margin() - 0.3 < record.population_bound < truth.margin()
    one = certify(pair(TEACHER[:1], STUDENT[:1]))
    assert math.isfinite(one.population_bound)
    assert one.certified_population is False


def test_no_order_of_the_rows_is_worth_choosing():
    """The best of many shuffles lies within a hundredth of a nat of the worst."""
    truth, generator = population("hard", 10), np.random.default_rng(0)
    kinds = truth.kinds(360, generator)
    bounds = [certify(truth.pairs(generator.permutation(kinds))).betting_bound for _ in range(40)]
    assert np.ptp(bounds) < 0.01


def test_rows_sorted_by_class_are_read_in_orders_that_mix_them():
    truth, generator = population("hard", 10), np.random.default_rng(0)
    kinds = truth.kinds(360, generator)
    best = np.argsort(-evidence(truth.pairs(kinds)).scores)
    bounds = [certify(truth.pairs(kinds[order])).betting_bound for order in (slice(None), best, best[::-1])]
    assert np.ptp(bounds) < 0.02


def test_the_evidence_gives_the_bound_at_every_delta():
    truth, generator = population("soft", 10), np.random.default_rng(0)
    pairs, reference = truth.pairs(truth.kinds(300, generator)), truth.reference(500, generator)
    kept = evidence(pairs, reference=reference)
    again = Evidence(scores=kept.scores, rows=kept.rows, divergence=kept.divergence, eta=kept.eta)
    for delta in (0.2, 0.05, 0.001):
        record = certify(pairs, delta=delta, reference=reference)
        assert again.bound(delta) == record.betting_bound
    assert kept.scores.shape == (300,)
    assert kept.scores.mean() - kept.divergence == pytest.approx(record.smoothed_margin, abs=1e-12)
    with pytest.raises(ValueError, match="delta: wanted"):
        kept.bound(0.0)


def test_a_reference_that_may_have_seen_the_judged_rows_is_refused():
    same = Reference(teacher=TEACHER, split="certify")
    for reference in (same, Reference(teacher=np.eye(4), split="train")):
        with pytest.raises(ValueError, match="reference: wanted rows of another split"):
            certify(pair(TEACHER, STUDENT), reference=reference)
    with pytest.raises(ValueError, match="strata only if the pairs have them"):
        certify(pair(TEACHER, STUDENT), reference=Reference(teacher=TEACHER, split="train", strata=[0, 0, 1, 1]))
    assert certify(pair(TEACHER, STUDENT), reference=Reference(teacher=TEACHER, split="train")).reference == "train"


# -------------------------------------------------------------------------------------------------- strata


@law
@given(st.data())
def test_a_head_that_reads_the_condition_alone_is_never_certified(data):
    """Lemma 1 in every stratum: also with strata of one row, and with the best row that each stratum allows."""
    teacher = data.draw(teachers())
    strata = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(teacher), max_size=len(teacher))))
    heads = np.exp(log_softmax(data.draw(logits_like((4, teacher.shape[1]))), axis=1))
    best = np.stack([teacher[strata == s].mean(axis=0) if (strata == s).any() else heads[0] for s in range(4)])
    for rows in (heads, best):
        record = certify(pair(teacher, rows[strata]), strata=strata)
        assert record.margin <= 1e-12
        assert record.certified_rows is False
        assert record.certified_population is False
        assert record.brier_margin <= 1e-12


@law
@given(st.data())
def test_the_conditional_margin_is_the_mean_of_the_margins_of_its_strata(data):
    pairs = data.draw(random_pairs())
    n = len(pairs.teacher)
    strata = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=n, max_size=n))
    record, labels = certify(pairs, strata=strata), np.array(strata)
    parts = {
        s: Pairs(teacher=pairs.teacher[labels == s], log_student=pairs.log_student[labels == s], split="guard")
        for s in set(strata)
    }
    for name in ("info", "loss", "margin", "student_info", "brier_margin", "trace_covariance", "smoothed_margin"):
        mean = sum(len(part.teacher) / n * getattr(certify(part), name) for part in parts.values())
        assert getattr(record, name) == pytest.approx(mean, abs=1e-10), name
    counts = collections.Counter(strata)
    assert (record.strata, record.single_rows) == (len(counts), list(counts.values()).count(1))


def test_what_the_condition_explains_is_not_certified_and_what_the_latent_adds_is():
    """Twelve classes in three groups: the condition is the group. One head names the group, the other the class."""
    generator = np.random.default_rng(0)
    label = generator.integers(12, size=3000)
    group = label // 4
    teacher = one_hot(label, 12)
    names_group = np.repeat(np.eye(3) / 4, 4, axis=1)[group]
    names_class = 0.8 * teacher + 0.2 * names_group
    for student, plain, conditional in ((names_group, True, False), (names_class, True, True)):
        assert certify(pair(teacher, student)).certified_population is plain
        record = certify(pair(teacher, student), strata=group)
        assert (record.certified_rows, record.certified_population) == (conditional, conditional)
    assert "strata 3 (0 of one row)" in str(certify(pair(teacher, names_class), strata=group))


def test_the_conditional_bound_covers_with_every_reference():
    generator = np.random.default_rng(0)
    for kind, classes in (("hard", 4), ("rare", 10), ("blind", 10)):
        truth = population(kind, classes)
        margin = truth.margin(strata=True)
        references = None, truth.reference(1500, generator, strata=True), truth.reference(4, generator, strata=True)
        wrong = 0
        for repeat in range(30):
            kinds = truth.kinds(200, generator)
            record = certify(
                truth.pairs(kinds), delta=0.2, strata=truth.stratum[kinds], reference=references[repeat % 3]
            )
            wrong += record.population_bound > margin
        assert wrong <= 13  # of 30 at one in five: 99.9 %


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("strata", [[0, 1], [[0], [1], [2], [3]], [0.0, math.nan, 1.0, 1.0], [1j, 0, 0, 0]])
def test_strata_that_do_not_label_every_row_are_refused(strata):
    with pytest.raises(ValueError, match="strata: wanted one label"):
        certify(pair(TEACHER, STUDENT), strata=strata)


# ---------------------------------------------------------------------------------------- evidence


@pytest.mark.parametrize("n", [2, 5, 20, 360])
@pytest.mark.parametrize("rare", [False, True])
def test_a_bound_falls_with_its_error_probability_as_holm_needs(n, rare):
    """Bets are made for the odds, so that this is no matter of course: few rows, and scores with a long tail."""
    generator = np.random.default_rng([n, rare])
    student = generator.normal(size=(n, 4)) * (3 if rare else 0.5)
    teacher = np.eye(4)[np.where(generator.random(n) < 0.9, student.argmax(axis=1), 0)]
    found = evidence(Pairs.from_logits(teacher, student, split="certify"))
    bounds = [found.bound(0.05 / share) for share in (1, 2, 3, 5, 10, 40)]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("rows", [30, 400])
def test_evidence_for_an_improvement_is_no_evidence_where_there_is_none(rows):
    """Two students that change places from row to row at random are equally good: an e-value then has a mean of 1."""
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        teacher = rng.dirichlet(np.full(4, 0.3), size=rows)
        students, swap = rng.dirichlet(np.ones(4), size=(2, rows)), rng.random((rows, 1)) < 0.5
        found.append(improvement(*(pair(teacher, np.where(swap, *two)) for two in (students, students[::-1]))))
    values = np.exp(found)
    assert values.mean() <= 1 + 3 * values.std() / np.sqrt(len(values))
    assert np.mean(values >= 20) <= 0.05


@law
@given(random_pairs())
def test_a_student_is_no_improvement_on_itself(one):
    assert improvement(one, one) == pytest.approx(0, abs=1e-9)


def test_evidence_for_an_improvement_grows_with_the_rows():
    teacher = np.tile(TEACHER, (25, 1))
    better, worse = pair(teacher, teacher), constant(teacher, teacher.mean(axis=0))
    few = teacher[:12]
    assert 0 < improvement(pair(few, few), constant(few, few.mean(axis=0))) < improvement(better, worse)


def test_an_improvement_on_other_rows_is_refused_and_on_the_same_is_not():
    with pytest.raises(ValueError, match="on the same rows"):
        improvement(pair(TEACHER, STUDENT), pair(TEACHER[::-1], STUDENT))
    improvement(pair(TEACHER, STUDENT), pair(TEACHER, STUDENT[::-1]))


def test_it_may_be_asked_where_underflow_is_an_error():
    """Of a head that is sure of itself other classes have a share of 0, which numpy may have been told to raise."""
    teacher = one_hot([0, 1, 2, 0], 3)
    wanted = certify(Pairs.from_logits(teacher, 1000 * teacher, split="certify"))
    with np.errstate(all="raise"):
        assert certify(Pairs.from_logits(teacher, 1000 * teacher, split="certify")) == wanted
        assert certify(Pairs.from_logits(teacher, 500 * teacher, split="certify")).margin == wanted.margin
