"""Mixtures as arrays: fitted by scikit-learn on numpy or torch, read as pure functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from certvae.spec.parts import Covariance
from certvae.teachers import mixture
from certvae.teachers.mixture import Mixture, Start, pca, smooth, temper, whiten

TORCH = "cpu:0"  # a device name, so torch tensors and scikit-learn's array API; "cpu" alone means numpy
COVARIANCES: tuple[Covariance, ...] = ("diag", "tied", "spherical", "full")
EVERY_COVARIANCE = pytest.mark.parametrize("covariance", COVARIANCES)


@pytest.fixture
def array_api(monkeypatch):
    """What `environment.settle` does for a worker; and no points are few, for those would be the host's."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    monkeypatch.setattr(mixture, "FEW", 0)


def blobs(n: int = 600, seed: int = 0) -> np.ndarray:
    """Three clouds in four dimensions, of different widths and sizes."""
    generator = np.random.default_rng(seed)
    clouds = [
        generator.normal([0, 0, 0, 0], 1.0, (n // 2, 4)),
        generator.normal([6, 1, 0, 2], 0.5, (n // 3, 4)),
        generator.normal([-4, 5, 1, 0], 2.0, (n - n // 2 - n // 3, 4)),
    ]
    return np.concatenate(clouds)


def fitted(covariance: Covariance = "diag", device: str = "cpu", features: np.ndarray | None = None) -> mixture.Fit:
    points = blobs() if features is None else features
    return mixture.fit(points, Start(points, 3, seed=0), covariance, 1e-3, 100, device)


def rows_of(n: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=n)


@EVERY_COVARIANCE
def test_planted_clouds_are_found(covariance):
    found = fitted(covariance)
    assert found.converged
    weights = found.mixture.arrays["weights_"]
    assert sorted(weights) == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=0.05)
    labels = found.mixture.posterior(blobs()).argmax(axis=1)
    planted = np.repeat([0, 1, 2], [300, 200, 100])
    shares = [np.bincount(labels[planted == cloud], minlength=3).max() / (planted == cloud).sum() for cloud in range(3)]
    assert min(shares) > 0.9


@EVERY_COVARIANCE
def test_a_posterior_is_that_of_the_fitted_model(covariance):
    """Rebuilt from arrays, without the object that was fitted."""
    points = blobs()
    start = Start(points, 3, seed=0)
    model = GaussianMixture(
        3,
        covariance_type=covariance,
        reg_covar=1e-3,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions(covariance, 1e-3),
    ).fit(points)
    posterior = fitted(covariance).mixture.posterior(points)
    np.testing.assert_allclose(posterior, model.predict_proba(points), rtol=0, atol=1e-12)
    np.testing.assert_allclose(posterior.sum(axis=1), 1, rtol=0, atol=1e-12)


@EVERY_COVARIANCE
def test_torch_and_numpy_fit_the_same_mixture(array_api, covariance):
    on_numpy, on_torch = fitted(covariance, "cpu"), fitted(covariance, TORCH)
    assert (on_torch.converged, on_torch.iterations) == (on_numpy.converged, on_numpy.iterations)
    for name, array in on_numpy.mixture.arrays.items():
        np.testing.assert_allclose(on_torch.mixture.arrays[name], array, rtol=1e-9, atol=1e-9, strict=True)
    expected = on_numpy.mixture.posterior(blobs())
    np.testing.assert_allclose(on_torch.mixture.posterior(blobs(), TORCH), expected, rtol=0, atol=1e-9, strict=True)


@pytest.mark.parametrize("device", ["cpu", TORCH])
@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_a_singular_covariance_is_a_value_error_on_every_device(array_api, covariance, device):
    line = np.outer(np.arange(60.0), np.ones(3))
    with pytest.raises(ValueError, match="Fitting the mixture model failed"):
        mixture.fit(line, Start(line, 3, seed=0), covariance, 0.0, 10, device)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_start():
    points = blobs()
    first, again, other = (Start(points, 8, seed).means for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@EVERY_COVARIANCE
def test_the_start_has_the_variances_of_its_clusters(covariance):
    points = blobs()
    start = Start(points, 3, seed=0)
    assert start.weights.sum() == pytest.approx(1, abs=1e-12)
    labels = ((points[:, None] - start.means) ** 2).sum(axis=2).argmin(axis=1)
    variances = np.stack([points[labels == k].var(axis=0) for k in range(3)])
    precisions = start.precisions(covariance, 0.01)
    match covariance:
        case "diag":
            np.testing.assert_allclose(1 / precisions, variances + 0.01)
        case "spherical":
            np.testing.assert_allclose(1 / precisions, variances.mean(axis=1) + 0.01)
        case "tied":
            np.testing.assert_allclose(np.linalg.inv(precisions), np.diag(start.weights @ variances + 0.01), atol=1e-12)
        case "full":
            inverse = [np.diag(row + 0.01) for row in variances]
            np.testing.assert_allclose(np.linalg.inv(precisions), inverse, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_fewer_places_than_components_leave_components_empty_and_numbers_finite():
    points = np.repeat(blobs(3), 20, axis=0)
    found = mixture.fit(points, Start(points, 5, seed=0), "diag", 1e-3, 100, "cpu")
    posterior = found.mixture.posterior(points)
    assert np.isfinite(posterior).all()
    assert (posterior.mean(axis=0) < 1e-9).sum() == 2


def test_how_em_ended_is_kept():
    points = blobs()
    start = Start(points, 3, seed=0)
    cut = mixture.fit(points, start, "diag", 1e-3, 1, "cpu")
    assert (cut.converged, cut.iterations) == (False, 1)
    assert mixture.fit(points, start, "diag", 1e-3, 100, "cpu").converged


def test_whitened_features_have_unit_covariance():
    features = blobs().astype(np.float32) @ np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    points = whiten(features, pca(features, 3))
    assert points.shape == (600, 3)
    np.testing.assert_allclose(np.cov(points.T), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-6)


def test_without_whitening_features_are_left_as_they_are():
    features = blobs().astype(np.float32)
    assert pca(features, 0) == {}
    np.testing.assert_array_equal(whiten(features, {}), features.astype(np.float64), strict=True)


def test_directions_without_variance_are_left_out_of_the_whitening():
    """Dead latent units would become division by zero, or rounding noise of unit size."""
    features = np.concatenate([blobs()[:, :2], np.full((600, 6), 0.25)], axis=1)
    points = whiten(features, pca(features, 5))
    assert points.shape == (600, 2)
    np.testing.assert_allclose(np.cov(points.T), np.eye(2), atol=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_what_is_flat_does_not_depend_on_the_unit_of_the_features(scale):
    features = np.random.default_rng(0).normal(size=(50, 4)) * [1.0, 0.5, 0.25, 0.0]
    assert pca(scale * features, 4)["pca_map"].shape == (4, 3)


def test_whitening_takes_no_more_directions_than_there_are_rows():
    points = whiten(blobs(6), pca(blobs(6)[:3], 4))
    assert points.shape == (6, 2)
    assert np.isfinite(points).all()


def test_a_mixture_reads_features_in_the_space_it_was_fitted_in():
    features = blobs()
    basis = pca(features, 2)
    found = fitted(features=whiten(features, basis)).mixture
    whitened = Mixture("diag", {**found.arrays, **basis})
    np.testing.assert_array_equal(whitened.posterior(features), found.posterior(whiten(features, basis)))


@given(st.integers(2, 12), st.floats(0.25, 8), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_temper_is_a_softmax_of_divided_log_rows(classes, temperature, seed):
    rows = rows_of(5, classes, seed)
    powered = np.exp(np.log(rows) / temperature)
    expected = powered / powered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(temper(rows, temperature), expected, rtol=1e-9)
    assert temper(rows, 1.0) is rows


def test_a_higher_temperature_is_softer_and_keeps_the_order():
    rows = rows_of(20, 6, 0)
    previous = rows
    for temperature in (1.5, 2.0, 4.0, 100.0):
        found = temper(rows, temperature)
        assert (found.max(axis=1) < previous.max(axis=1)).all()
        np.testing.assert_array_equal(found.argsort(axis=1), rows.argsort(axis=1))
        previous = found


def test_temper_survives_rows_that_underflow():
    rows = np.array([[1.0, 0.0, 5e-324], [0.0, 1.0, 1e-300]])
    for temperature in (0.5, 2.0, 1e9):
        found = temper(rows, temperature)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)


@given(st.integers(2, 12), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_smoothing_leaves_eps_over_k_everywhere(classes, eps, seed):
    """eps / K, not eps / (K - 1): the bounds of the certificate rest on the first."""
    rows = smooth(np.eye(classes), eps)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert rows.min() == pytest.approx(eps / classes, abs=1e-15)
    assert smooth(rows_of(9, classes, seed), eps).min() >= eps / classes


def test_the_teacher_is_tempered_then_smoothed_and_float32():
    model, features = fitted().mixture, blobs()
    expected = smooth(temper(model.posterior(features), 2.0), 0.05)
    found = model.teacher(features, temperature=2.0, smoothing=0.05)
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)


def test_a_posterior_of_a_row_does_not_depend_on_the_rows_beside_it():
    model, features = fitted().mixture, blobs()
    np.testing.assert_allclose(model.posterior(features)[7:8], model.posterior(features[7:8]), rtol=0, atol=1e-12)


def test_few_points_are_the_hosts_whatever_the_device(array_api, monkeypatch):
    """A card takes longer to launch what fits them. This device has no numbers to read."""
    monkeypatch.setattr(mixture, "FEW", blobs().size * 3)
    on_host, asked = fitted(), fitted(device="meta")
    np.testing.assert_array_equal(on_host.mixture.posterior(blobs()), asked.mixture.posterior(blobs()))
    monkeypatch.setattr(mixture, "FEW", blobs().size * 3 - 1)
    with pytest.raises(RuntimeError, match="meta"):
        fitted(device="meta")


def test_a_posterior_is_of_one_device_however_few_its_rows(array_api):
    with pytest.raises(RuntimeError, match="meta"):
        fitted().mixture.posterior(blobs()[:1], "meta")
