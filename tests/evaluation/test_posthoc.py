"""Heads fitted afterwards: renaming finds a permuted head, a head stopped early falls below every constant."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.certificate import Pairs, certify
from certvae.evaluation.heads import accuracy, affine_head, label_probe, relabelling, short_head

K, D = 5, 8


def teacher(n: int, seed: int, balance: float = 5.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.choice(K, n, p=rng.dirichlet(np.full(K, balance)))
    return 0.95 * np.eye(K)[labels] + 0.05 / K


def margin(T: np.ndarray, logits: np.ndarray) -> float:
    return certify(Pairs.from_logits(T, logits, split="guard")).margin


class TestRelabelling:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**20), order=st.permutations(range(K)))
    def test_finds_a_permuted_head(self, seed: int, order: list[int]):
        T = teacher(300, seed)
        log_student = np.log(0.9 * T + 0.1 / K)
        renamed = log_student[:, order]
        found = relabelling(T, renamed)
        assert margin(T, renamed[:, found]) >= margin(T, log_student) - 1e-12

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**20))
    def test_is_one_to_one_and_never_loses(self, seed: int):
        T, logits = teacher(200, seed), np.random.default_rng(seed).standard_normal((200, K))
        found = relabelling(T, logits)
        assert sorted(found) == list(range(K))
        assert margin(T, logits[:, found]) >= margin(T, logits) - 1e-12

    def test_cannot_certify_a_constant(self):
        T, logits = teacher(200, 0), np.tile(np.arange(K, dtype=float), (200, 1))
        assert margin(T, logits[:, relabelling(T, logits)]) <= 1e-9


class TestShortHead:
    def test_is_below_every_constant_where_the_fitted_head_is_not(self):
        """How printed margins can be far below zero: a start near uniform, an imbalanced teacher, few steps."""
        T = 0.999 * np.eye(K)[np.r_[np.zeros(980, int), np.arange(20) % K]] + 0.001 / K
        z = np.random.default_rng(0).standard_normal((1000, D))
        short, fitted = short_head(z, T, 0), affine_head(z, T, z, T)
        assert margin(T, short.logits(z)) < -0.5
        assert margin(T, fitted.logits(z)) >= -1e-6

    def test_same_seed_same_head_other_seed_other_head(self):
        T, z = teacher(300, 0), np.random.default_rng(1).standard_normal((300, D))
        first, again, other = short_head(z, T, 0), short_head(z, T, 0), short_head(z, T, 1)
        np.testing.assert_array_equal(first.weight, again.weight)
        assert not np.array_equal(first.weight, other.weight)


class TestLabelProbe:
    def test_reads_labels_that_are_linear_in_the_latent_and_no_others(self):
        rng = np.random.default_rng(0)
        z, map_ = rng.standard_normal((600, D)), rng.standard_normal((D, K))
        y, noise = (z @ map_).argmax(axis=1), rng.integers(0, K, 600)
        train, guard, held = np.split(np.arange(600), [300, 450])
        for labels, low, high in ((y, 0.85, 1.0), (noise, 0.0, 0.4)):
            probe = label_probe(z[train], labels[train], z[guard], labels[guard], K)
            assert low <= accuracy(probe.logits(z[held]), labels[held]) <= high
