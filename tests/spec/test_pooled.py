"""Means by all configs together: they follow a smooth truth, know no scale, and mend what choosing the best breaks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from certvae.canonical import plain
from certvae.spec import pooled
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged, judge
from certvae.spec.noise import Noise
from certvae.spec.pooled import LEAST, LENGTHS, MOST, SIGNALS, components
from certvae.spec.ranking import best

SEEDS = (100, 101, 102)
NOISE = 0.2


def smoothed(points, means, noise):
    found = pooled.smoothed(points, means, noise)
    assert found is not None
    return found


def truth(points):
    return points[:, 0] + points[:, 1] ** 2


class TestSmoothed:
    def noisy(self, seed, noise=NOISE, count=40):
        rng = np.random.default_rng(seed)
        points = rng.uniform(0, 1, (count, 2))
        return points, truth(points) + rng.normal(0, noise, count)

    def test_is_nearer_to_a_smooth_truth_than_each_mean_by_itself_and_knows_how_near(self):
        points, means = self.noisy(0)
        found, variance = smoothed(points, means, NOISE**2)
        wrong = (found - truth(points)) ** 2
        assert wrong.mean() < np.mean((means - truth(points)) ** 2) / 2
        assert wrong.mean() == pytest.approx(variance.mean(), rel=1)

    def test_without_much_noise_a_mean_stays_what_it_is(self):
        points, means = self.noisy(1, noise=1e-4)
        found, variance = smoothed(points, means, 1e-8)
        assert found == pytest.approx(means, abs=1e-3)
        assert variance.max() < 2e-8

    def test_moves_with_the_limit_and_knows_no_order_of_configs(self):
        points, means = self.noisy(2)
        found, variance = smoothed(points, means, NOISE**2)
        moved, _ = smoothed(points, means - 5, NOISE**2)
        _, turned = smoothed(points[::-1], means[::-1], NOISE**2)
        assert moved == pytest.approx(found - 5)
        assert turned == pytest.approx(variance[::-1])

    def test_is_the_posterior_of_another_library(self):
        points, means = self.noisy(3)
        found, variance = smoothed(points, means, NOISE**2)
        kernels = [  # a constant of so large a variance is an estimated one
            ConstantKernel(signal * means.var()) * Matern(length, nu=2.5) + ConstantKernel(1e4)
            for length in LENGTHS
            for signal in SIGNALS
        ]
        fits = [
            GaussianProcessRegressor(kernel, alpha=NOISE**2, optimizer=None).fit(points, means) for kernel in kernels
        ]
        best = max(fits, key=lambda fit: fit.log_marginal_likelihood_value_)
        mean, error = best.predict(points, return_std=True)
        assert found == pytest.approx(mean, abs=1e-3)
        assert variance == pytest.approx(error**2, rel=1e-2, abs=1e-4)

    @pytest.mark.parametrize(
        ("count", "means", "noise"),
        [
            (LEAST - 1, range(LEAST - 1), 1.0),
            (MOST + 1, range(MOST + 1), 1.0),
            (20, range(20), 0.0),
            (20, [1.0] * 20, 1.0),
        ],
    )
    def test_where_nothing_can_be_pooled_it_says_so(self, count, means, noise):
        assert pooled.smoothed(np.linspace(0, 1, count)[:, None], list(means), noise) is None
        assert pooled.smoothed(np.empty((count, 0)), list(means), noise) is None


def test_what_seeds_share_is_told_from_what_they_do_not():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.3, (1, 400)), rng.normal(0, 0.1, (60, 400))
    assert components(rng.normal(0, 1, (60, 1)) + shared + own) == pytest.approx((0.09, 0.01), rel=0.2)
    assert components(own)[0] < 1e-3


def rows(config, margins, drops):
    for seed, margin, drop in zip(SEEDS, margins, drops, strict=True):
        known = {"config": config, "seed": seed, "split": "guard", "outcome": "ok", "teacher_status": "strict-feasible"}
        yield {**known, "mode": "no_align", "margin": 0.0, "psnr_01": 20.0}
        yield {**known, "mode": "full", "margin": margin, "psnr_01": 20.0 - drop}


def searched(rng, goal, count=96, shared=0.0):
    """Configs close to the limit, as a sampler that has learned proposes them: what gains margin loses PSNR."""
    drawn = [{"x": float(x)} for x in rng.uniform(0, 1, count)]
    common = rng.normal(0, shared, 3)
    found = []
    for place, one in enumerate(drawn):
        margins, drops = rng.normal(one["x"], 0.01, 3), rng.normal(1.4 + 0.2 * one["x"], NOISE, 3) + common
        found.append(judge(f"{place:02d}", SEEDS, rows(f"{place:02d}", margins, drops), goal, one))
    return drawn, found


class TestWinner:
    """The truth keeps its limit where x <= 0.5."""

    def wrong(self, goal, repetitions=30, shared=0.0):
        rng, wrong = np.random.default_rng(4), 0
        for _ in range(repetitions):
            drawn, found = searched(rng, goal, shared=shared)
            winner = best(found, goal.certainty)
            wrong += winner is not None and drawn[int(winner.config)]["x"] > 0.5
        return wrong

    def test_the_promise_holds_after_choosing_where_all_configs_are_asked_and_not_otherwise(self):
        assert self.wrong(Goal(pooled=False)) > 15
        assert stats.binomtest(self.wrong(Goal()), 30, 0.1, alternative="greater").pvalue > 0.01

    def test_what_a_seed_adds_to_all_configs_is_known_to_none(self):
        assert self.wrong(Goal(pooled=False), shared=0.3) > 10
        assert stats.binomtest(self.wrong(Goal(), shared=0.3), 30, 0.1, alternative="greater").pvalue > 0.01

    def test_one_that_was_not_drawn_goes_by_its_own_seeds_as_all_others_do(self):
        _, found = searched(np.random.default_rng(5), Goal())
        brought = judge("brought", SEEDS, rows("brought", (0.1, 0.1, 0.1), (1.0, 1.0, 1.0)), Goal())
        assert Noise.pooled(found).together["psnr_drop"].keys() == {one.config for one in found}
        assert Noise.pooled([*found, brought]).together == {}

    def test_a_channel_is_asked_of_every_seed_and_smoothed_over_none(self):
        known = {"outcome": "complete", "reason": "", "n": 3, "n_failed": 0, "n_stress": 0, "score": 1.0}
        known |= {"variances": {"channel": 0.0, "score": 0.0}}
        seeds = np.random.default_rng(0).normal(0, 1, (20, 3))
        found = [
            Judged(str(k), **known, violations={"channel": -float(one.min())}, place={"x": k / 20})
            for k, one in enumerate(seeds)
        ]
        found = [replace(one, by_seed={"channel": tuple(line)}) for one, line in zip(found, seeds, strict=True)]
        assert Noise.pooled(found).together == {}

    def test_what_a_race_remembers_of_noise_holds_no_means(self):
        _, found = searched(np.random.default_rng(6), Goal(), 20)
        assert Noise.of(found).together == {}

    def test_a_search_that_began_before_it_goes_by_each_config_alone(self):
        body = plain(Goal())
        del body["pooled"]
        assert not Goal.of(body).pooled
