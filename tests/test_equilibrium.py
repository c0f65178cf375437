"""Margin against energy: the path of scaled codes, and the equilibrium of alignment and KL."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize, minimize_scalar

from certvae import equilibrium
from certvae.equilibrium import (
    best_prefit_scale,
    equilibrium_code,
    equilibrium_logits,
    equilibrium_margin,
    margin_energy_path,
    path_lower_bound,
    sufficient_scale,
)
from certvae.simplex import (
    analytic_code,
    code_energy,
    escape_force,
    log_softmax,
    smoothed_one_hot,
    vertices,
    witness_logits,
    witness_margin,
)

MNIST_TRAIN = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
ANCHOR = st.sampled_from(["uniform", "mean"])
WEIGHT = st.floats(0.01, 100.0)

SCALES = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.25])
PATH = {  # classes: margins, energies at beta = 5, balanced labels with eps = .05
    10: (
        [0.434790, 0.832686, 1.180229, 1.682896, 1.931929, 2.020189, 1.994549],
        [0.004469, 0.017876, 0.040221, 0.111725, 0.218981, 0.446899, 0.698280],
    ),
    100: (
        [0.706427, 1.400620, 2.070130, 3.233325, 3.937034, 4.180671, 4.130150],
        [0.011174, 0.044696, 0.100566, 0.279351, 0.547528, 1.117403, 1.745942],
    ),
}
STRESS = {  # (classes, lambda_ts): margins at alpha_kl = 1, 2, 4, 8; beta = 5, balanced labels with eps = .05
    (10, 0.1): [1.28025, 0.86102, 0.49894, 0.26641],
    (10, 0.5): [1.85956, 1.69141, 1.40168, 0.99704],
    (10, 1.0): [1.94777, 1.85956, 1.69141, 1.40168],
    (10, 5.0): [2.01249, 1.99842, 1.96523, 1.89474],
    (100, 0.1): [2.02216, 1.09192, 0.55713, 0.28051],
    (100, 0.5): [3.79941, 3.32197, 2.38408, 1.34568],
    (100, 1.0): [4.01503, 3.79941, 3.32197, 2.38408],
    (100, 5.0): [4.16214, 4.13020, 4.05522, 3.88812],
}


@st.composite
def teachers(draw, bound=4.0):
    shape = draw(st.tuples(st.integers(1, 10), st.integers(2, 7)))
    return np.exp(log_softmax(draw(arrays(np.float64, shape, elements=st.floats(-bound, bound)))))


def balanced(classes, eps=0.05):
    return smoothed_one_hot(np.arange(classes), classes, eps)


def mnist():
    return smoothed_one_hot(np.repeat(np.arange(10), MNIST_TRAIN), 10, 0.05)


def information(T):
    return witness_margin(T, np.log(T))


class TestMarginEnergyPath:
    @pytest.mark.parametrize("classes", PATH)
    def test_table_of_balanced_labels(self, classes):
        margins, energies = margin_energy_path(balanced(classes), SCALES, 5.0)
        np.testing.assert_allclose(margins, PATH[classes][0], atol=1e-6)
        np.testing.assert_allclose(energies, PATH[classes][1], atol=1e-6)

    @pytest.mark.parametrize(("classes", "slope"), [(10, 4.490694), (100, 7.100902)])
    def test_slope_at_the_origin(self, classes, slope):
        margins, _ = margin_energy_path(balanced(classes), np.array([-1e-4, 1e-4]), 5.0)
        assert (margins[1] - margins[0]) / 2e-4 == pytest.approx(slope, abs=1e-6)

    def test_a_tenth_of_a_nat_is_almost_free(self):
        margins, energies = margin_energy_path(balanced(10), np.array([0.0224]), 5.0)
        assert margins[0] == pytest.approx(0.1, abs=1e-3)
        assert energies[0] == pytest.approx(2.2e-4, abs=1e-5)

    @given(teachers(), st.floats(-0.5, 2.0), st.floats(0.5, 8.0), ANCHOR)
    def test_is_the_margin_and_energy_of_the_scaled_code(self, T, scale, beta, anchor):
        V = vertices(T.shape[1], T.shape[1])
        start = analytic_code(T.mean(axis=0, keepdims=True), V, beta) if anchor == "mean" else 0.0
        mu = start + scale * (analytic_code(T, V, beta) - start)
        (margin,), (energy,) = margin_energy_path(T, np.array([scale]), beta, anchor)
        assert margin == pytest.approx(witness_margin(T, witness_logits(mu, V, beta)), abs=1e-12)
        assert energy == pytest.approx(np.square(mu).sum(axis=1).mean() / 2, abs=1e-12, rel=1e-12)

    @given(teachers(), st.lists(st.floats(0, 1), min_size=1, max_size=5), ANCHOR)
    def test_margin_lies_above_its_chord(self, T, scales, anchor):
        margins, _ = margin_energy_path(T, np.array(scales), 5.0, anchor)
        assert np.all(margins >= path_lower_bound(T, np.array(scales), anchor) - 1e-12)

    @given(teachers())
    def test_ends_of_both_paths(self, T):
        ends = np.array([0.0, 1.0])
        uniform, mean = margin_energy_path(T, ends, 5.0), margin_energy_path(T, ends, 5.0, "mean")
        Tbar = T.mean(axis=0)
        assert uniform.margins[0] == pytest.approx(-np.sum(Tbar * np.log(Tbar * len(Tbar))), abs=1e-12)
        assert mean.margins[0] == pytest.approx(0, abs=1e-12)
        for path in (uniform, mean):
            assert path.margins[1] == pytest.approx(information(T), abs=1e-12)
            assert path.energies[1] == pytest.approx(code_energy(T, 5.0), abs=1e-12)

    def test_chord_of_mnist_frequencies(self):
        T, scales = mnist(), np.array([0.0, 0.001, 0.1, 0.5, 1.0])
        margins, _ = margin_energy_path(T, scales, 5.0)
        bound = path_lower_bound(T, scales)
        np.testing.assert_allclose(margins, [-0.001287, 0.003202, 0.433502, 1.681609, 2.018901], atol=1e-6)
        np.testing.assert_allclose(bound, [-0.001287, 0.000733, 0.200731, 1.008807, 2.018901], atol=1e-6)
        assert sufficient_scale(T, 0.0) == pytest.approx(0.00063729, abs=1e-8)

    @given(st.integers(2, 12), st.floats(0.01, 0.9), st.floats(0, 0.99), ANCHOR)
    def test_sufficient_scale_reaches_its_margin(self, classes, eps, share, anchor):
        T = smoothed_one_hot(np.append(np.arange(classes), 0), classes, eps)
        margin = share * information(T)
        scale = sufficient_scale(T, margin, anchor)
        margins, _ = margin_energy_path(T, np.array([scale]), 5.0, anchor)
        assert -1e-12 <= scale <= 1
        assert margins[0] >= margin - 1e-12

    def test_refuses_questions_without_an_answer(self):
        T = balanced(4)
        with pytest.raises(ValueError, match=r"scales in \[0, 1\]"):
            path_lower_bound(T, np.array([0.5, 1.25]))
        with pytest.raises(ValueError, match="no code exceeds I_T"):
            sufficient_scale(T, information(T))
        with pytest.raises(ValueError, match="strictly positive"):
            margin_energy_path(np.eye(3), np.array([0.5]), 5.0)


class TestEquilibrium:
    @pytest.mark.parametrize(("classes", "lambda_ts"), STRESS)
    def test_margin_under_kl_stress(self, classes, lambda_ts):
        T = balanced(classes)
        for alpha_kl, margin in zip((1.0, 2.0, 4.0, 8.0), STRESS[classes, lambda_ts], strict=True):
            found = equilibrium_margin(T, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=5.0)
            assert found == pytest.approx(margin, abs=1e-5)

    @given(st.integers(2, 30), st.floats(0.01, 0.9), WEIGHT, WEIGHT, st.floats(0.5, 8.0))
    def test_of_smoothed_labels_lies_on_the_path(self, classes, eps, alpha_kl, lambda_ts, beta):
        T, weights = balanced(classes, eps), {"alpha_kl": alpha_kl, "lambda_ts": lambda_ts, "beta": beta}
        logits = best_prefit_scale(T, **weights) * np.log(T / T.min())
        found = equilibrium_logits(T, **weights)
        np.testing.assert_allclose(log_softmax(found), log_softmax(logits), atol=1e-9)

    @given(teachers(), WEIGHT, WEIGHT, st.floats(0.5, 8.0))
    def test_force_balances_the_pull_of_the_prior(self, T, alpha_kl, lambda_ts, beta):
        V = vertices(T.shape[1], T.shape[1] + 1)
        mu = equilibrium_code(T, V, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta)
        pull = lambda_ts * escape_force(T, mu, V, beta)
        np.testing.assert_allclose(alpha_kl * mu, pull, atol=1e-11 * max(lambda_ts * beta, alpha_kl))

    def test_is_the_minimum_a_general_optimiser_finds(self):
        T, V = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), vertices(3, 2)

        def price(mu, row):
            log_student = log_softmax(witness_logits(mu[None], V, 5.0))[0]
            return 2.0 * mu @ mu / 2 - 0.7 * row @ log_student

        found = [minimize(price, np.zeros(2), args=(row,), tol=1e-12).x for row in T]
        expected = equilibrium_code(T, V, alpha_kl=2.0, lambda_ts=0.7, beta=5.0)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @given(teachers(), WEIGHT, st.floats(0.5, 8.0), st.floats(0.1, 10.0))
    def test_only_one_ratio_of_the_three_weights_is_identified(self, T, alpha_kl, beta, factor):
        margin = equilibrium_margin(T, alpha_kl=alpha_kl, lambda_ts=1.0, beta=beta)
        other_beta = equilibrium_margin(T, alpha_kl=alpha_kl * factor**2, lambda_ts=1.0, beta=beta * factor)
        other_weights = equilibrium_margin(T, alpha_kl=alpha_kl * factor, lambda_ts=factor, beta=beta)
        assert other_beta == pytest.approx(margin, abs=1e-12)
        assert other_weights == pytest.approx(margin, abs=1e-12)

    @given(teachers(), WEIGHT, st.floats(0.5, 8.0))
    def test_stress_never_helps_alignment(self, T, alpha_kl, beta):
        mild, strong = (
            equilibrium_margin(T, alpha_kl=alpha_kl * stress, lambda_ts=1.0, beta=beta) for stress in (1, 2)
        )
        assert strong <= mild + 1e-12
        assert mild <= information(T) + 1e-12

    @settings(max_examples=50)
    @given(st.integers(2, 200), st.floats(-6, 6), st.floats(-1, 2), st.integers(0, 2**32 - 1))
    def test_is_found_for_one_hot_rows_and_weights_of_any_size(self, classes, log_alpha, log_beta, seed):
        T = np.random.default_rng(seed).dirichlet(np.full(classes, 0.02), size=5)
        alpha_kl, beta = 10.0**log_alpha, 10.0**log_beta
        logits = equilibrium_logits(T, alpha_kl=alpha_kl, lambda_ts=1.0, beta=beta)
        stiffness = alpha_kl * (classes - 1) / (classes * beta**2)
        np.testing.assert_allclose(stiffness * logits, T - np.exp(log_softmax(logits)), atol=1e-12)
        np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-10)

    def test_refuses_weights_that_are_not_positive(self):
        for solver in (equilibrium_logits, best_prefit_scale):
            with pytest.raises(ValueError, match="alpha_kl must be positive"):
                solver(balanced(3), alpha_kl=0.0, lambda_ts=1.0, beta=5.0)

    def test_says_so_when_it_does_not_converge(self, monkeypatch):
        monkeypatch.setattr(equilibrium, "MAX_STEPS", 1)
        for solver in (equilibrium_logits, best_prefit_scale):
            with pytest.raises(ArithmeticError, match="in 1 steps"):
                solver(balanced(3), alpha_kl=1.0, lambda_ts=1.0, beta=5.0)


class TestBestPrefitScale:
    @given(teachers(), WEIGHT, WEIGHT, st.floats(0.5, 8.0))
    def test_no_scale_is_cheaper(self, T, alpha_kl, lambda_ts, beta):
        def cost(scale):
            (margin,), (energy,) = margin_energy_path(T, np.array([scale]), beta)
            return alpha_kl * energy + lambda_ts * (information(T) - margin)

        scale = best_prefit_scale(T, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta)
        searched = minimize_scalar(cost, bounds=(0, 1), method="bounded", options={"xatol": 1e-10})
        assert 0 <= scale <= 1
        assert cost(scale) <= searched.fun + 1e-12 * max(alpha_kl, lambda_ts)

    def test_known_optimum(self):
        T = balanced(10)
        scale = best_prefit_scale(T, alpha_kl=8.0, lambda_ts=1.0, beta=5.0)
        (margin,), _ = margin_energy_path(T, np.array([scale]), 5.0)
        assert margin == pytest.approx(1.40168, abs=1e-5)

    def test_is_found_where_newtons_method_alone_runs_in_circles(self):
        T, weights = balanced(19, 8.5e-9), {"alpha_kl": 0.4, "lambda_ts": 1.0, "beta": 5.0}
        (margin,), _ = margin_energy_path(T, np.array([best_prefit_scale(T, **weights)]), 5.0)
        assert margin == pytest.approx(equilibrium_margin(T, **weights), abs=1e-10)

    def test_uniform_teacher_stays_at_the_origin(self):
        assert best_prefit_scale(np.full((3, 4), 0.25), alpha_kl=1.0, lambda_ts=1.0, beta=5.0) == 0
