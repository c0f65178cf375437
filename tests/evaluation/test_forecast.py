"""The forecast of collapse: planted spectra, the reference on digits, and where alignment keeps a code alive."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.data.dataset import Dataset, open_dataset
from certvae.data.decoding import View, publish
from certvae.data.loading import load
from certvae.data.source import Contents
from certvae.evaluation import forecast as module
from certvae.evaluation.forecast import Forecast, Spectrum, spectrum
from certvae.spec.parts import Bernoulli, Data, Gaussian, Mlp, Model
from certvae.spec.presets import rescue

MODEL = rescue("digits").model


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Dataset:
    return load(Data(name="digits"), cache=tmp_path_factory.mktemp("digits"), progress=False)


def planted(images: np.ndarray, target: Path) -> Dataset:
    """Images (n, C, H, W) of uint8, all of them train rows but the last two."""
    labels, splits = np.zeros(len(images), np.int64), np.zeros(len(images), np.uint8)
    splits[-2:] = 1, 2
    contents = Contents.of_arrays(images, labels, n_train=len(images), classes=1, scale=1 / 255)
    view = View(contents=contents, rows=np.arange(len(images)), splits=splits, classes=1, size=None)
    publish(target, view, {"name": "planted", "source": "noise", "files": "0" * 64, "substitute": "noise"}, label=None)
    return open_dataset(target)


def plain(dataset: Dataset, model: Model = MODEL) -> Forecast:
    return of(dataset, model).plain()


def of(dataset: Dataset, model: Model = MODEL) -> Spectrum:
    return spectrum(dataset, model.likelihood, model.encoder.latent)


def one_hot(dataset: Dataset, smoothing: float = 0.02) -> np.ndarray:
    labels = dataset.labels[dataset.rows("train")]
    return (1 - smoothing) * np.eye(10)[labels] + smoothing / 10


class TestReference:
    def test_the_spectrum_of_digits(self, digits):
        """Of all images the spectrum is 1.40 1.28 1.11 .79 .54 .46; these are the train rows."""
        found = plain(digits)
        assert found.thresholds[:6] == pytest.approx([1.40, 1.28, 1.11, 0.79, 0.54, 0.46], rel=0.03)
        assert found.alpha_crit == found.thresholds[0]
        assert not found.is_local

    @pytest.mark.parametrize(("alpha_kl", "units"), [(0.5, 5), (1.0, 3), (1.35, 1), (1.6, 0), (2.0, 0)])
    def test_the_units_that_survive(self, digits, alpha_kl, units):
        assert plain(digits).units(alpha_kl) == units

    @pytest.mark.parametrize(("alpha_kl", "seen"), [(1.143, 0.20), (1.223, 0.10), (1.308, 0.035)])
    def test_near_the_threshold_trained_codes_carry_what_it_says(self, digits, alpha_kl, seen):
        """Means over three seeds of `no_align`, sixty epochs."""
        assert plain(digits).rate(alpha_kl) == pytest.approx(seen, rel=0.25)

    def test_the_channel_is_called_dead_a_little_before_its_last_unit_goes(self, digits):
        found = plain(digits)
        assert 1.223 < found.alpha_dead < 1.308  # alive in three seeds, dead in three seeds
        assert found.rate(found.alpha_dead) == pytest.approx(0.05)
        assert found.rate(found.alpha_crit) == 0.0

    def test_it_says_where_a_weight_lies(self, digits):
        found = plain(digits)
        assert found.words(1.0) == "alpha_kl 1: 3 units expected, dead from 1.4 on"
        assert found.words(20.0) == "alpha_kl 20: a dead code expected, 14 times alpha_crit 1.4"

    def test_rows_that_do_not_vary_hold_no_code_at_any_weight(self):
        found = module.of_rows(np.full((20, 4), 0.5), Gaussian(variance=0.1), 4)
        assert (found.alpha_crit, found.alpha_dead, found.units(0.1)) == (0.0, 0.0, 0)
        assert found.words(0.1) == "alpha_kl 0.1: a dead code expected, as at any weight: train rows do not vary"


class TestPlanted:
    def test_it_finds_the_variances_that_were_planted(self, tmp_path):
        generator = np.random.default_rng(0)
        deviations = np.array([40, 20, 10, 5])
        images = (128 + generator.standard_normal((4000, 4)) * deviations).round().clip(0, 255).astype(np.uint8)
        found = plain(planted(images.reshape(-1, 1, 2, 2), tmp_path / "rows"), _model(Gaussian(variance=0.1)))
        assert found.thresholds == pytest.approx((deviations / 255) ** 2 / 0.1, rel=0.06)

    def test_independent_pixels_of_zeros_and_ones_have_curvature_one(self, tmp_path):
        """Under the Bernoulli likelihood, whatever their rates; pixels that never change are left out."""
        rates = np.array([0.5, 0.1, 0.02, 0.0])
        images = (np.random.default_rng(0).random((20_000, 4)) < rates).astype(np.uint8) * 255
        found = plain(planted(images.reshape(-1, 1, 2, 2), tmp_path / "rows"), _model(Bernoulli()))
        assert found.is_local
        assert found.thresholds == pytest.approx(np.ones(3), abs=0.05)
        assert "local statement" in found.words(0.5)

    def test_many_features_are_reduced_without_moving_the_leading_thresholds(self, digits, monkeypatch):
        exact = plain(digits).thresholds
        monkeypatch.setattr(module, "DENSE", 16)
        monkeypatch.setattr(module, "MODES", 20)
        assert plain(digits).thresholds == pytest.approx(exact, rel=1e-4)

    def test_a_code_has_no_more_modes_than_units(self, digits):
        narrow = replace(MODEL, encoder=Mlp(hidden=(8,), latent=2))
        assert len(plain(digits, narrow).thresholds) == 2
        assert plain(digits, narrow).units(0.01) == 2

    @given(weight=st.floats(0, 1e3), other=st.floats(0, 1e3))
    def test_more_weight_never_keeps_more_units(self, weight, other):
        found = Forecast(np.array([3.0, 2.0, 0.5]), is_local=False)
        low, high = sorted((weight, other))
        assert found.units(low) >= found.units(high)
        assert (found.units(weight) == 0) == (weight >= found.alpha_crit)

    @given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
    def test_at_the_weight_of_a_dead_channel_the_rate_is_that_of_one(self, thresholds):
        found = Forecast(np.sort(thresholds)[::-1], is_local=False)
        assert found.rate(found.alpha_dead) == pytest.approx(0.05)
        assert found.alpha_dead < found.alpha_crit

    def test_data_that_never_change_have_a_dead_channel_at_every_weight(self):
        found = Forecast(np.zeros(1), is_local=False)
        assert (found.alpha_dead, found.rate(0.1)) == (0.0, 0.0)


class TestDecoderThatSeesTheTeacher:
    def test_what_the_teacher_says_needs_no_latent(self, tmp_path):
        """Two clusters far apart and a little noise: the first mode is the cluster, and a decoder that is told of it
        leaves the latent the noise."""
        generator = np.random.default_rng(0)
        kind = np.arange(4000) % 2
        images = 100 + 50 * kind[:, None] * np.array([1, 1, 0, 0]) + generator.normal(0, [5, 5, 20, 5], (4000, 4))
        data = planted(images.round().clip(0, 255).astype(np.uint8).reshape(-1, 1, 2, 2), tmp_path / "rows")
        known, T = of(data, _model(Gaussian(variance=0.1))), np.eye(2)[kind[data.rows("train")]]
        told = known.taught(T, 0.0, decoder_sees_teacher=True)
        assert known.plain().alpha_crit == pytest.approx((50**2 / 2 + 5**2) / 255**2 / 0.1, rel=0.06)
        assert told.alpha_crit == pytest.approx((20 / 255) ** 2 / 0.1, rel=0.06)
        assert known.taught(T, 5.0, decoder_sees_teacher=True).alpha_crit == pytest.approx(5.0, rel=0.01)

    def test_a_teacher_that_knows_nothing_changes_nothing(self, digits):
        T = np.full((len(digits.rows("train")), 10), 0.1)
        found = of(digits).taught(T, 0.0, decoder_sees_teacher=True)
        assert found.thresholds == pytest.approx(plain(digits).thresholds)


class TestMemory:
    def test_so_many_rows_are_read_as_fit(self, digits, monkeypatch):
        monkeypatch.setattr(module, "ENTRIES", 64 * 500)
        few = of(digits)
        assert len(few.scores) == len(few.rows) == 500
        assert few.plain().thresholds[:3] == pytest.approx(plain(digits).thresholds[:3], rel=0.1)

    def test_rows_that_never_change_have_one_threshold_of_zero(self):
        assert module.of_rows(np.zeros((40, 4)), Bernoulli(), 4).thresholds.tolist() == [0.0]


class TestAligned:
    def test_without_weight_it_is_the_plain_forecast(self, digits):
        bare, none = plain(digits), of(digits).taught(one_hot(digits), 0.0)
        assert none.thresholds == pytest.approx(bare.thresholds, rel=1e-6)

    def test_weight_raises_every_threshold(self, digits):
        known = of(digits)
        found = [known.taught(one_hot(digits), weight).thresholds for weight in (0.0, 1.0, 5.0, 50.0)]
        assert all((after >= before - 1e-9).all() for before, after in pairwise(found))

    def test_one_hot_rows_have_curvature_lambda(self, digits):
        """Cov(T) = Sigma there: K - 1 modes of weight lambda each, beside what the data has."""
        found = of(digits).taught(one_hot(digits, 0.0), 1000.0).thresholds
        assert found[:9] == pytest.approx(np.full(9, 1000.0), rel=0.005)
        assert found[9] < 2

    @pytest.mark.parametrize("alpha_kl", [2.0, 8.0, 20.0])
    def test_the_critical_weight_is_where_the_last_unit_dies(self, digits, alpha_kl):
        T, known = one_hot(digits), of(digits)
        weight = known.critical_weight(T, alpha_kl)
        assert known.taught(T, weight).alpha_crit == pytest.approx(alpha_kl, rel=1e-4)
        assert known.critical_weight(T, 1.0) == 0.0

    def test_a_constant_teacher_keeps_nothing_alive(self, digits):
        T = np.full((len(digits.rows("train")), 10), 0.1)
        assert of(digits).critical_weight(T, 20.0) == np.inf


def _model(likelihood: Gaussian | Bernoulli) -> Model:
    return Model(encoder=Mlp(hidden=(8,), latent=4), likelihood=likelihood)
