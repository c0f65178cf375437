"""The simplex witness: its geometry, its closed-form code, its force, and what a margin says about the latent."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certvae import certificate
from certvae.simplex import (
    FLOAT_SLACK,
    analytic_code,
    centred_log_ratio,
    code_energy,
    distance_lower_bound,
    escape_force,
    force_floor,
    last_layer_gradient,
    log_odds_energy,
    log_softmax,
    log_student_bound,
    logit_energy,
    require_positive,
    shortest_code,
    smoothed_one_hot,
    spread_lower_bound,
    transfer_bound,
    vertices,
    view_gap,
    witness_logits,
    witness_margin,
)

MNIST_TRAIN = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
MNIST_TEST = np.array([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
F1_TEACHER = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]])
F1_STUDENT = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]])

BALANCED = {  # classes: (I_T, e* at beta = 5) at eps .01, .05, .1, .2
    10: [(2.231456, 0.770995), (2.020189, 0.446899), (1.802297, 0.329635), (1.435691, 0.223408)],
    20: [(2.914069, 1.040198), (2.664784, 0.637469), (2.402055, 0.487790), (1.950066, 0.348567)],
    50: [(3.818803, 1.390177), (3.525764, 0.903266), (3.209958, 0.717419), (2.654419, 0.540226)],
    100: [(4.504137, 1.659254), (4.180671, 1.117403), (3.827373, 0.907331), (3.197719, 0.704252)],
    200: [(5.189877, 1.938095), (4.837197, 1.345392), (4.447651, 1.112619), (3.745937, 0.885097)],
}


def finite(shape, bound):
    return arrays(np.float64, shape, elements=st.floats(-bound, bound))


@st.composite
def scenes(draw, bound=4.0):
    """Teacher rows, means, vertices and gain of one random witness."""
    n, classes, spare = draw(st.integers(1, 12)), draw(st.integers(2, 8)), draw(st.integers(0, 3))
    T = np.exp(log_softmax(draw(finite((n, classes), bound))))
    mu = draw(finite((n, classes - 1 + spare), 2.0))
    return T, mu, vertices(classes, classes - 1 + spare), draw(st.floats(0.5, 8.0))


def balanced(classes, eps):
    return smoothed_one_hot(np.arange(classes), classes, eps)


def mnist(counts, eps=0.05):
    return smoothed_one_hot(np.repeat(np.arange(10), counts), 10, eps)


def divergence(T, S):
    """E KL(T || S), written out."""
    return np.sum(T * (np.log(T) - np.log(S)), axis=1).mean()


def information(T):
    return divergence(T, np.broadcast_to(T.mean(axis=0), T.shape))


def spread(mu):
    return mu.var(axis=0).sum()


class TestVertices:
    @pytest.mark.parametrize(("classes", "dimension"), [(2, 1), (3, 2), (4, 5), (10, 16), (100, 128), (200, 199)])
    def test_gram_matrix_is_that_of_the_regular_simplex(self, classes, dimension):
        V = vertices(classes, dimension)
        expected = classes / (classes - 1) * (np.eye(classes) - 1 / classes)
        np.testing.assert_allclose(V @ V.T, expected, atol=1e-12)
        np.testing.assert_allclose(V.sum(axis=0), 0, atol=1e-12)

    @pytest.mark.parametrize(("classes", "dimension"), [(2, 1), (3, 2), (4, 5), (10, 16), (100, 128)])
    def test_witness_subspace_is_the_first_coordinates(self, classes, dimension):
        V = vertices(classes, dimension)
        projector = np.diag(np.arange(dimension) < classes - 1).astype(float)
        np.testing.assert_allclose(V.T @ V, classes / (classes - 1) * projector, atol=1e-12)
        assert not V[:, classes - 1 :].any()

    def test_is_a_rotation_of_the_singular_vectors_of_the_centring_matrix(self):
        left = np.linalg.svd(np.eye(6) - 1 / 6)[0][:, :5] * np.sqrt(6 / 5)
        rotation = np.linalg.lstsq(left, vertices(6, 5), rcond=None)[0]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-12)
        np.testing.assert_allclose(left @ rotation, vertices(6, 5), atol=1e-12)

    @pytest.mark.parametrize(("classes", "dimension", "message"), [(10, 8, "dimension >= 9"), (1, 4, "at least 2")])
    def test_refuses_what_holds_no_simplex(self, classes, dimension, message):
        with pytest.raises(ValueError, match=message):
            vertices(classes, dimension)


class TestAnalyticCode:
    T = np.array([[0.7, 0.2, 0.1]])

    def test_worked_example(self):
        clr = centred_log_ratio(self.T)
        np.testing.assert_allclose(clr[0], [1.0662243725, -0.1865385960, -0.8796857765], atol=1e-9)
        assert log_odds_energy(self.T) == pytest.approx(1.9454781258, abs=1e-9)
        code = analytic_code(self.T, vertices(3, 2), 5.0)
        assert np.square(code).sum() == pytest.approx(0.0518794167, abs=1e-9)
        assert code_energy(self.T, 5.0) == pytest.approx(0.0259397083, abs=1e-9)

    @given(scenes())
    def test_witness_of_the_code_is_the_teacher(self, scene):
        T, _, V, beta = scene
        S = np.exp(log_softmax(witness_logits(analytic_code(T, V, beta), V, beta)))
        np.testing.assert_allclose(S, T, rtol=0, atol=1e-12)

    @given(scenes())
    def test_is_the_shortest_of_all_means_with_the_same_witness(self, scene):
        _, mu, V, beta = scene
        inside = shortest_code(witness_logits(mu, V, beta), V, beta)
        np.testing.assert_allclose(inside, mu * V.any(axis=0), atol=1e-12)

    @given(scenes())
    def test_energy_is_the_mean_part_of_the_kl_inside_the_subspace(self, scene):
        T, mu, V, beta = scene
        direct = np.square(analytic_code(T, V, beta)).sum(axis=1).mean() / 2
        assert code_energy(T, beta) == pytest.approx(direct, rel=1e-12, abs=1e-12)
        inside = np.square(mu * V.any(axis=0)).sum(axis=1).mean() / 2
        assert logit_energy(witness_logits(mu, V, beta), beta) == pytest.approx(inside, rel=1e-12, abs=1e-12)

    def test_refuses_a_teacher_with_a_zero_and_names_the_row(self):
        T = np.array([[0.5, 0.5], [1.0, 0.0]])
        with pytest.raises(ValueError, match=r"T\[1, 1\] = 0\.0; smooth the teacher first"):
            analytic_code(T, vertices(2, 1), 5.0)

    @pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
    def test_refuses_a_gain_that_is_not_positive(self, beta):
        for attempt in (
            lambda: analytic_code(self.T, vertices(3, 2), beta),
            lambda: code_energy(self.T, beta),
            lambda: witness_logits(np.zeros((1, 2)), vertices(3, 2), beta),
            lambda: force_floor(self.T, beta),
        ):
            with pytest.raises(ValueError, match="beta must be positive and finite"):
                attempt()

    def test_refusal_names_the_weight(self):
        with pytest.raises(ValueError, match="lambda_ts must be positive and finite, got 0"):
            require_positive(alpha_kl=1.0, lambda_ts=0.0)


class TestSmoothedTeachers:
    @pytest.mark.parametrize("classes", BALANCED)
    def test_information_and_energy_of_balanced_labels(self, classes):
        for eps, (info, energy) in zip((0.01, 0.05, 0.1, 0.2), BALANCED[classes], strict=True):
            T = balanced(classes, eps)
            assert witness_margin(T, np.log(T)) == pytest.approx(info, abs=1e-6)
            assert code_energy(T, 5.0) == pytest.approx(energy, abs=1e-6)

    @given(st.integers(2, 60), st.floats(0.001, 0.9))
    def test_closed_forms_of_balanced_labels(self, K, eps):
        T, hot, cold = balanced(K, eps), 1 - eps + eps / K, eps / K
        log_odds = (K - 1) / K * np.log(1 + K * (1 - eps) / eps) ** 2
        info = np.log(K) + hot * np.log(hot) + (K - 1) * cold * np.log(cold)
        assert log_odds_energy(T) == pytest.approx(log_odds, rel=1e-12)
        assert witness_margin(T, np.log(T)) == pytest.approx(info, abs=1e-12)

    def test_log_odds_energy_of_ten_balanced_classes(self):
        assert log_odds_energy(balanced(10, 0.05)) == pytest.approx(24.8277385, abs=1e-7)

    def test_mnist_train_frequencies_give_the_printed_information_and_energy(self):
        T = mnist(MNIST_TRAIN)
        info, energy = witness_margin(T, np.log(T)), code_energy(T, 5.0)
        assert info == pytest.approx(2.018901, abs=1e-6)
        assert energy == pytest.approx(0.446899, abs=1e-6)
        assert round(info, 4) == 2.0189
        assert int(energy * 1e4) == 4468  # printed 0.4468, truncated
        assert -witness_margin(T, np.zeros(T.shape)) == pytest.approx(0.001287, abs=1e-6)
        assert spread(T) == pytest.approx(0.811990, abs=1e-6)
        assert np.square(analytic_code(T, vertices(10, 16), 5.0)).sum(axis=1).mean() == pytest.approx(
            0.893799, abs=1e-6
        )

    def test_mnist_test_frequencies_do_not_print_the_same_information(self):
        T = mnist(MNIST_TEST)
        assert witness_margin(T, np.log(T)) == pytest.approx(2.01862, abs=1e-5)

    def test_sharing_eps_among_the_other_classes_only_is_another_teacher(self):
        others = np.where(np.eye(10, dtype=bool), 0.95, 0.05 / 9)
        T = np.repeat(others, MNIST_TRAIN, axis=0)
        assert witness_margin(T, np.log(T)) == pytest.approx(1.99294, abs=1e-5)
        assert code_energy(T, 5.0) == pytest.approx(0.428275, abs=1e-6)

    def test_rows_sum_to_one_and_eps_zero_is_one_hot(self):
        np.testing.assert_allclose(balanced(7, 0.3).sum(axis=1), 1, atol=1e-15)
        np.testing.assert_array_equal(balanced(3, 0.0), np.eye(3))

    @pytest.mark.parametrize(
        ("labels", "eps", "message"), [([0, 3], 0.1, r"0\.\.2"), ([-1], 0.1, r"0\.\.2"), ([0], 1.5, "eps")]
    )
    def test_refuses_foreign_labels_and_impossible_smoothing(self, labels, eps, message):
        with pytest.raises(ValueError, match=message):
            smoothed_one_hot(np.array(labels), 3, eps)


class TestWitnessMargin:
    def test_worked_example(self):
        assert witness_margin(F1_TEACHER, np.log(F1_STUDENT)) == pytest.approx(0.1790704287, abs=1e-9)

    @given(scenes())
    def test_is_information_minus_loss(self, scene):
        T, mu, V, beta = scene
        logits = witness_logits(mu, V, beta)
        expected = information(T) - divergence(T, np.exp(log_softmax(logits)))
        assert witness_margin(T, logits) == pytest.approx(expected, abs=1e-12, rel=1e-12)

    def test_teacher_may_have_empty_classes(self):
        assert witness_margin(np.eye(3)[[0, 1]], np.zeros((2, 3))) == pytest.approx(np.log(2) - np.log(3), abs=1e-12)

    def test_log_softmax_survives_large_single_precision_logits(self):
        logits = np.array([[1e4, 0.0, -1e4]], dtype=np.float32)
        np.testing.assert_array_equal(log_softmax(logits), [[0.0, -1e4, -2e4]])

    @given(scenes())
    def test_ignores_what_lies_outside_the_subspace(self, scene):
        _, mu, V, beta = scene
        moved = mu + np.where(V.any(axis=0), 0, 17.0)
        np.testing.assert_array_equal(witness_logits(moved, V, beta), witness_logits(mu, V, beta))


class TestEscapeForce:
    @given(scenes(bound=2.0))
    def test_is_minus_the_gradient_of_the_divergence(self, scene):
        T, mu, V, beta = scene
        weight = torch.tensor(mu, requires_grad=True)
        logits = beta * weight @ torch.tensor(V).T
        teacher = torch.tensor(T)
        (teacher * (teacher.log() - logits.log_softmax(dim=1))).sum().backward()
        assert weight.grad is not None
        np.testing.assert_allclose(escape_force(T, mu, V, beta), -weight.grad.numpy(), atol=1e-12)

    @pytest.mark.parametrize("classes", [2, 10, 100])
    def test_squared_norm_at_the_uniform_constant_does_not_depend_on_the_number_of_classes(self, classes):
        T, V = balanced(classes, 0.05), vertices(classes, classes)
        force = escape_force(T, np.zeros((classes, classes)), V, 5.0)
        assert np.square(force).sum(axis=1).mean() == pytest.approx(22.5625, abs=1e-10)
        assert force_floor(T, 5.0) == pytest.approx(22.5625, abs=1e-10)

    @given(scenes())
    def test_no_collapsed_mean_has_less_force_than_the_floor(self, scene):
        T, mu, V, beta = scene
        force = escape_force(T, np.broadcast_to(mu[0], mu.shape), V, beta)
        assert np.square(force).sum(axis=1).mean() >= force_floor(T, beta) - 1e-9

    def test_constant_teacher_has_no_floor_and_the_code_of_its_mean_no_force(self):
        T = np.tile([[0.5, 0.3, 0.2]], (4, 1))
        V = vertices(3, 4)
        assert force_floor(T, 5.0) <= 1e-30
        np.testing.assert_allclose(escape_force(T, analytic_code(T, V, 5.0), V, 5.0), 0, atol=1e-12)

    @pytest.mark.parametrize(("length", "margin"), [(1e-3, 0.02253094), (1e-2, 0.22226253), (3e-2, 0.64208177)])
    def test_first_step_buys_its_length_times_the_squared_force(self, length, margin):
        T, V, origin = balanced(10, 0.05), vertices(10, 9), np.zeros((10, 9))
        moved = length * escape_force(T, origin, V, 5.0)
        gained = witness_margin(T, witness_logits(moved, V, 5.0))
        assert gained == pytest.approx(margin, abs=1e-8)
        assert 0 < length * 22.5625 - gained < 50 * length**2 * 5.0**2

    def test_last_layer_gradient_at_collapse(self):
        rng = np.random.default_rng(0)
        T, features, bias = rng.dirichlet(np.ones(5), size=40), rng.normal(size=(40, 7)), rng.normal(size=6)
        V, beta = vertices(5, 6), 5.0
        weight = torch.zeros(6, 7, dtype=torch.float64, requires_grad=True)
        mu = torch.tensor(features) @ weight.T + torch.tensor(bias)
        teacher = torch.tensor(T)
        log_student = (beta * mu @ torch.tensor(V).T).log_softmax(dim=1)
        (teacher * (teacher.log() - log_student)).sum(dim=1).mean().backward()
        assert weight.grad is not None

        force = escape_force(T, mu.detach().numpy(), V, beta)
        np.testing.assert_allclose(last_layer_gradient(force, features), weight.grad.numpy(), atol=1e-12)
        covariance = (T - T.mean(axis=0)).T @ (features - features.mean(axis=0)) / len(T)
        split = -beta * V.T @ covariance - np.outer(force.mean(axis=0), features.mean(axis=0))
        np.testing.assert_allclose(split, weight.grad.numpy(), atol=1e-12)

    def test_dead_features_leave_the_mean_term_only(self):
        T, V = balanced(4, 0.1), vertices(4, 3)
        force, features = escape_force(T, np.zeros((4, 3)), V, 5.0), np.ones((4, 2))
        np.testing.assert_allclose(last_layer_gradient(force, features), 0, atol=1e-12)
        tilted = force + 1.0
        np.testing.assert_allclose(last_layer_gradient(tilted, features), -np.ones((3, 2)), atol=1e-12)


class TestQuantitativeNonCollapse:
    @given(scenes())
    def test_margin_bounds_the_spread_inside_the_subspace(self, scene):
        T, mu, V, beta = scene
        margin = witness_margin(T, witness_logits(mu, V, beta))
        assert spread(mu * V.any(axis=0)) >= spread_lower_bound(margin - 1e-12, T, beta) - 1e-12

    @given(scenes())
    def test_margin_bounds_the_distance_from_every_point(self, scene):
        T, mu, V, beta = scene
        bound = distance_lower_bound(witness_margin(T, witness_logits(mu, V, beta)), len(V), beta)
        inside = mu * V.any(axis=0)
        for point in (inside.mean(axis=0), np.median(inside, axis=0), inside[0]):
            assert np.linalg.norm(inside - point, axis=1).mean() >= bound - 1e-12

    def test_printed_mnist_margin(self):
        bound = spread_lower_bound(1.3180, mnist(MNIST_TRAIN), 5.0)
        assert bound == pytest.approx(0.0770, abs=5e-5)
        assert np.sqrt(bound) == pytest.approx(0.2775, abs=5e-5)
        assert distance_lower_bound(1.3180, 10, 5.0) == pytest.approx(0.176828, abs=1e-6)

    def test_full_code_of_ten_balanced_classes(self):
        T = balanced(10, 0.05)
        assert spread(analytic_code(T, vertices(10, 16), 5.0)) == pytest.approx(0.893799, abs=1e-6)
        assert spread_lower_bound(witness_margin(T, np.log(T)), T, 5.0) == pytest.approx(0.180883, abs=1e-6)

    def test_rounding_on_a_constant_teacher_is_not_spread(self):
        T = np.tile([[0.3, 0.7]], (3, 1))
        assert spread_lower_bound(1e-15, T, 5.0) == 0

    def test_negative_margin_says_nothing(self):
        assert spread_lower_bound(-3.6837, balanced(10, 0.05), 5.0) == 0
        assert distance_lower_bound(-3.6837, 10, 5.0) == 0


class TestViewsAndCachedTargets:
    VIEWS = np.array([[[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]], [[0.1, 0.7, 0.2], [0.1, 0.3, 0.6]]])

    def test_worked_example(self):
        T, S = self.VIEWS.reshape(4, 3), np.array([[0.6, 0.2, 0.2], [0.2, 0.5, 0.3]])
        gap, seen = view_gap(self.VIEWS), self.VIEWS.mean(axis=1)
        assert information(T) == pytest.approx(0.2713421611, abs=1e-9)
        assert gap == pytest.approx(0.0633980070, abs=1e-9)
        assert information(T) - gap == pytest.approx(0.2079441542, abs=1e-9)
        assert divergence(T, np.repeat(S, 2, axis=0)) == pytest.approx(0.1055724413, abs=1e-9)
        margin = witness_margin(T, np.log(np.repeat(S, 2, axis=0)))
        assert margin == pytest.approx(0.1657697198, abs=1e-9)
        assert margin == pytest.approx(information(seen) - divergence(seen, S), abs=1e-12)

    @given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 5), st.data())
    def test_gap_is_the_floor_of_the_loss_and_cancels_in_the_margin(self, n, repeats, classes, data):
        views = np.exp(log_softmax(data.draw(finite((n, repeats, classes), 4.0))))
        S = np.exp(log_softmax(data.draw(finite((n, classes), 4.0))))
        T, seen, student = views.reshape(-1, classes), views.mean(axis=1), np.repeat(S, repeats, axis=0)
        gap = view_gap(views)
        assert divergence(T, student) == pytest.approx(gap + divergence(seen, S), abs=1e-12)
        assert information(T) == pytest.approx(gap + information(seen), abs=1e-12)

    def test_one_hot_views_have_the_entropy_of_their_mean_as_gap(self):
        assert view_gap(np.eye(2)[None]) == pytest.approx(np.log(2), abs=1e-12)

    @given(scenes(), st.data())
    def test_transfer_from_cached_targets(self, scene, data):
        T, mu, V, beta = scene
        cached = np.exp(log_softmax(data.draw(finite(T.shape, 4.0))))
        log_student = log_softmax(witness_logits(mu, V, beta))
        entropy, cached_entropy = (-np.sum(p * np.log(p), axis=1).mean() for p in (T, cached))
        change = divergence(T, np.exp(log_student)) - divergence(cached, np.exp(log_student))
        bound = transfer_bound(T, cached, log_student)
        assert abs(change - (cached_entropy - entropy)) <= bound + 1e-12
        radius = float(np.linalg.norm(mu * V.any(axis=0), axis=1).max())
        assert bound <= np.abs(T - cached).sum(axis=1).mean() * log_student_bound(radius, len(V), beta) + 1e-12

    def test_transfer_costs_the_least_likely_class_of_a_row_that_moved(self):
        T, cached, log_student = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.log([[0.75, 0.25]])
        assert transfer_bound(T, cached, log_student) == pytest.approx(2 * np.log(4), abs=1e-12)

    @given(scenes())
    def test_log_student_is_bounded_by_the_radius_of_the_code(self, scene):
        _, mu, V, beta = scene
        for row, log_row in zip(mu, log_softmax(witness_logits(mu, V, beta)), strict=True):
            radius = float(np.linalg.norm(row * V.any(axis=0)))
            assert -log_row.min() <= log_student_bound(radius, len(V), beta) + 1e-12

    def test_growth_of_the_bound_with_the_radius(self):
        growth = log_student_bound(1.0, 10, 5.0) - log_student_bound(0.0, 10, 5.0)
        assert growth == pytest.approx(7.4535599, abs=1e-7)
        assert log_student_bound(0.0, 10, 5.0) == pytest.approx(np.log(10), abs=1e-12)


def test_rounding_is_what_the_certificate_calls_so():
    """Two files that stand alone, each to be read without the other: one number."""
    assert certificate.FLOAT_SLACK == FLOAT_SLACK
