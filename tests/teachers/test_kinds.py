"""Teachers from the data alone: what they read, what they are scored by, and two views of one image."""

import dataclasses

import numpy as np
import pytest

from certvae.certificate import Pairs, certify
from certvae.errors import ConfigFault
from certvae.protocols import teachers
from certvae.protocols.simplex import WitnessProtocol
from certvae.simplex import log_softmax, vertices, view_gap, witness_logits
from certvae.spec.cell import CellSpec
from certvae.spec.simplex import Witness
from certvae.spec.teachers import Labels, PcaGmm
from certvae.teachers import kinds
from certvae.teachers.kinds import LabelTeacher, PixelScores, PixelTeacher, shifted, shifts
from tests.small_cells import with_noise_in

K = 4
SMALL = PcaGmm(
    classes=K, whitening=(4, 8), covariance=("diag",), regulariser=(1e-3,), temperature=(1.0, 4.0), initialisations=1
)


def verdict(teacher, facts):
    return WitnessProtocol(CellSpec(), Witness(teacher=teacher)).verdict(facts)


class TestLabels:
    def test_rows_are_smoothed_one_hot(self, dataset):
        rows = LabelTeacher(10, 0.05).rows(dataset, "guard")
        labels = dataset.labels[dataset.rows("guard")]
        np.testing.assert_array_equal(rows.argmax(axis=1), labels)
        np.testing.assert_allclose(np.sort(np.unique(rows)), [0.005, 0.955], rtol=1e-6)

    def test_another_number_of_classes_than_the_data_has_is_refused(self, dataset, store):
        with pytest.raises(ConfigFault, match="classes must be 10, got 4"):
            store.call(teachers.labels_teacher, dataset, Labels(classes=4))

    def test_a_label_has_no_view_gap(self, dataset):
        assert LabelTeacher(10, 0.05).view_gap(dataset, "guard") == 0


class TestPixelScores:
    def test_constant_pixels_are_left_out(self, dataset):
        images = dataset.images[dataset.rows("train")]
        scores = PixelScores.fit(images, dataset.scale, most=64)
        varying = (images.reshape(len(images), -1).std(axis=0) > 0).sum()
        assert scores.components.shape[1] <= varying < 64

    def test_components_are_orthogonal_and_ordered_by_variance(self, dataset):
        images = dataset.images[dataset.rows("train")]
        scores = PixelScores.fit(images, dataset.scale, most=8)
        np.testing.assert_allclose(scores.components.T @ scores.components, np.eye(8), atol=1e-10)
        found = scores.of(images, dataset.scale)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-10)
        assert (np.diff(found.var(axis=0)) <= 0).all()


class TestSearch:
    def test_only_train_rows_are_fitted_and_only_guard_rows_choose(self, dataset, store, tmp_path):
        """Noise in the certify pixels changes nothing; noise in the guard pixels leaves every fit as it is."""
        blind = with_noise_in(dataset, ("certify",), tmp_path / "noisy_certify")
        chosen_otherwise = with_noise_in(dataset, ("guard",), tmp_path / "noisy_guard")
        first, same, other = (store.call(teachers.pca_teacher, d, SMALL, 0) for d in (dataset, blind, chosen_otherwise))
        assert same.digest == first.digest
        np.testing.assert_array_equal(other.arrays["pixel_components"], first.arrays["pixel_components"])
        fits = [[c["iterations"] for c in found.facts["candidates"]] for found in (first, other)]
        assert fits[0] == fits[1]
        assert not np.array_equal(other.arrays["targets_guard"], first.arrays["targets_guard"])

    def test_cached_rows_are_those_of_the_function(self, dataset, store):
        found = store.call(teachers.pca_teacher, dataset, SMALL, 0)
        teacher = kinds.read(found, "cpu")
        for split in ("train", "guard"):
            np.testing.assert_array_equal(teacher.rows(dataset, split), found.arrays[f"targets_{split}"])
        assert teacher.rows(dataset, "certify").shape == (60, K)
        assert teacher.rows(dataset, "certify").min() >= SMALL.smoothing / K * (1 - 1e-6)

    def test_the_best_price_of_information_wins(self, dataset, store):
        """A dear nat of energy prefers another candidate than a free one."""
        free, dear = (
            store.call(teachers.pca_teacher, dataset, dataclasses.replace(SMALL, energy_price=price), 0).facts
            for price in (0.0, 50.0)
        )
        for facts, price in ((free, 0.0), (dear, 50.0)):
            feasible = [c for c in facts["candidates"] if c["status"] == "strict-feasible"] or facts["candidates"]
            best = max(feasible, key=lambda c, price=price: c["info"] - price * c["code_energy"])
            assert {name: best[name] for name in facts["chosen"]} == facts["chosen"]
        assert free["chosen"] != dear["chosen"]

    def test_a_candidate_over_the_energy_budget_is_a_stress_case_that_says_so(self, dataset, store):
        tight = dataclasses.replace(SMALL, energy_budget=0.01)
        facts = store.call(teachers.pca_teacher, dataset, tight, 0).facts
        assert {c["status"] for c in facts["candidates"]} == {"stress-case"}
        assert all("code energy" in c["reason"] and "> 0.01" in c["reason"] for c in facts["candidates"])
        row = {f"teacher_{name}": value for name, value in facts["quality"].items() if name != "classes"}
        judged = verdict(tight, {"classes": K, **row})
        assert judged.status == "stress-case"
        assert f"code energy {facts['quality']['code_energy']:.4g} > 0.01" in str(judged)

    def test_the_energy_of_a_label_teacher_is_not_budgeted(self):
        facts = {"info": 2.0, "top1_margin": 0.9, "high_margin_share": 1.0, "hard_usage_kl": 0.0, "soft_usage_kl": 0.0}
        row = {f"teacher_{name}": value for name, value in {**facts, "min_mass": 0.1}.items()}
        assert verdict(Labels(), {"classes": 10, **row, "teacher_code_energy": 9.0}).status == "strict-feasible"


class TestShifts:
    def test_all_shifts_are_there_once(self):
        assert shifts(0) == ((0, 0),)
        assert len(set(shifts(2))) == 25

    def test_pixels_move_down_and_right_and_edges_are_repeated(self):
        images = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
        np.testing.assert_array_equal(shifted(images, (1, 0))[0, 0], [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]])
        np.testing.assert_array_equal(shifted(images, (0, -2))[0, 0], [[2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]])
        np.testing.assert_array_equal(shifted(images, (0, 0)), images)


class TestViewGap:
    """The teacher sees a shifted view v, the student the image u."""

    @pytest.fixture
    def teacher(self, dataset, store) -> PixelTeacher:
        found = kinds.read(store.call(teachers.pca_teacher, dataset, dataclasses.replace(SMALL, shift=1), 0), "cpu")
        assert isinstance(found, PixelTeacher)
        return found

    def test_the_cached_row_of_an_image_is_that_of_one_of_its_views(self, teacher, dataset):
        rows, views = teacher.rows(dataset, "guard"), teacher.views(dataset, "guard")
        assert views.shape == (len(rows), 9, K)
        closest = np.abs(views - rows[:, None]).max(axis=2).argmin(axis=1)
        np.testing.assert_allclose(views[np.arange(len(rows)), closest], rows, atol=1e-6)
        assert len(set(closest)) > 1

    def test_loss_is_gap_plus_the_loss_against_the_mean_over_views(self, teacher, dataset):
        """E KL(T(v) || S(u)) = gap + E KL(Tbar_u || S(u)), for any student of u: the gap is the floor of the loss."""
        views = teacher.views(dataset, "guard")
        n, many = views.shape[:2]
        mu = np.random.default_rng(0).standard_normal((n, 6))
        log_S = log_softmax(witness_logits(mu, vertices(K, 6), 5.0))
        repeated = Pairs(teacher=views.reshape(-1, K), log_student=np.repeat(log_S, many, axis=0), split="guard")
        averaged = Pairs(teacher=views.mean(axis=1), log_student=log_S, split="guard")
        gap = teacher.view_gap(dataset, "guard")
        one, two = certify(repeated), certify(averaged)
        assert gap == pytest.approx(view_gap(views), abs=1e-12)
        assert gap > 1e-3
        assert one.loss == pytest.approx(gap + two.loss, abs=1e-9)
        assert one.info == pytest.approx(gap + two.info, abs=1e-9)
        assert one.margin == pytest.approx(two.margin, abs=1e-9)

    def test_without_a_shift_there_is_no_gap(self, dataset, store):
        teacher = kinds.read(store.call(teachers.pca_teacher, dataset, SMALL, 0), "cpu")
        assert teacher.view_gap(dataset, "guard") == 0
