"""Stages of the simplex witness: pure functions of their keys, and starts that are what they say."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset, open_dataset
from certvae.models.nets import build, weights
from certvae.protocols import judging, simplex, teachers
from certvae.protocols.judging import Simplex, Subject
from certvae.simplex import force_floor
from certvae.spec.parts import Bernoulli, Gaussian, Mlp, Model, SimplexHead, Training
from certvae.spec.rescue import Objective, Unaligned
from certvae.spec.teachers import Labels, PcaGmm
from certvae.store.artifact import Artifact
from certvae.store.store import Store
from tests.laws import JudgementLaws, StageLaws
from tests.small_cells import small_digits, with_noise_in

K = 10
ENCODER, OTHER_ENCODER = Mlp(hidden=(24,), latent=12), Mlp(hidden=(20,), latent=12)
MODEL = Model(encoder=ENCODER, head=SimplexHead(), likelihood=Gaussian(variance=0.5), decoder_sees_teacher=False)
OTHER_MODEL = replace(MODEL, head=SimplexHead(beta=3.0))
TRAINING, OTHER_TRAINING = Training(epochs=2, batch_size=64), Training(epochs=3, batch_size=64)
SMALL = PcaGmm(
    classes=4, whitening=(4,), covariance=("diag",), regulariser=(1e-3,), temperature=(1.0,), initialisations=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


class _Witness(StageLaws):
    """Small inputs; artifacts of earlier stages come from the store at hand."""

    @pytest.fixture(autouse=True)
    def _data(self, folder: Path) -> None:
        self.dataset = small_digits(folder)
        self.other = small_digits(folder, limit=200)
        noisy = folder / "noisy"
        splits = ("train", "guard", "certify")
        self.noisy = open_dataset(noisy) if noisy.exists() else with_noise_in(self.dataset, splits, noisy)

    def teacher(self, store: Store, smoothing: float = 0.05) -> Artifact:
        return store.call(teachers.labels_teacher, self.dataset, Labels(smoothing=smoothing))

    def start(self, store: Store, seed: int = 0) -> Artifact:
        return store.call(simplex.initial, self.dataset, ENCODER, seed)


def shaped(dataset: Dataset) -> Dataset:
    """Other images for a stage that reads their shape alone."""
    return dataclasses.replace(dataset, shape=(1, 4, 4), digest="0" * 64)


class TestLabelsTeacher(_Witness):
    stage = teachers.labels_teacher

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.dataset, "teacher": Labels()}

    def others(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.other, "teacher": Labels(smoothing=0.1)}


class TestPcaTeacher(_Witness):
    stage = teachers.pca_teacher

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.dataset, "teacher": SMALL, "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.other, "teacher": replace(SMALL, smoothing=0.1), "seed": 1}


class TestVae(_Witness):
    stage = simplex.vae

    def inputs(self, store: Store) -> dict[str, Any]:
        goal = Unaligned(alpha_kl=0.1, lambda_bal=0.0)
        return self._given(self.dataset, ENCODER, Gaussian(), goal, TRAINING, 0)

    def others(self, store: Store) -> dict[str, Any]:
        goal = Unaligned(alpha_kl=0.2, lambda_bal=0.0)
        return self._given(self.other, OTHER_ENCODER, Bernoulli(), goal, OTHER_TRAINING, 1)

    @staticmethod
    def _given(*values: Any) -> dict[str, Any]:
        return dict(zip(("dataset", "encoder", "likelihood", "objective", "training", "seed"), values, strict=True))

    def test_it_knows_neither_teacher_nor_witness(self):
        parameters = simplex.vae.inputs(1, 2, 3, 4, 5, 6)
        assert set(parameters) == {"dataset", "encoder", "likelihood", "objective", "training", "seed"}


class TestInitial(_Witness):
    stage = simplex.initial

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.dataset, "encoder": ENCODER, "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"dataset": shaped(self.dataset), "encoder": OTHER_ENCODER, "seed": 1}

    def test_it_is_the_initialisation_of_the_whole_model_of_the_seed(self, tmp_path):
        found = self.start(Store(tmp_path)).arrays
        expected = weights(build(MODEL, self.dataset.shape, K, stage_seed(0, "init")))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


class TestCollapsed(_Witness):
    stage = simplex.collapsed

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"start": self.start(store)}

    def others(self, store: Store) -> dict[str, Any]:
        return {"start": self.start(store, seed=1)}

    def test_the_mean_layer_is_zero_and_all_else_is_kept(self, tmp_path):
        store = Store(tmp_path)
        before, after = self.start(store).arrays, store.call(simplex.collapsed, self.start(store)).arrays
        for name in before:
            expected = np.zeros_like(before[name]) if name.startswith("encoder.mu.") else before[name]
            np.testing.assert_array_equal(after[name], expected)


class TestPrefit(_Witness):
    stage = simplex.prefit

    def inputs(self, store: Store) -> dict[str, Any]:
        given = {"dataset": self.dataset, "model": MODEL, "scale": 1.0, "rest_weight": 0.01, "training": TRAINING}
        return {**given, "seed": 0, "start": self.start(store), "teacher": self.teacher(store)}

    def others(self, store: Store) -> dict[str, Any]:
        given = {"dataset": self.noisy, "model": OTHER_MODEL, "scale": 0.3, "rest_weight": 1.0}
        later = {"seed": 1, "start": self.start(store, 1), "teacher": self.teacher(store, 0.1)}
        return {**given, "training": OTHER_TRAINING, **later}

    def test_means_come_near_the_scaled_code_and_the_decoder_stays(self, tmp_path):
        """The witness of the prefit comes near the teacher on train rows; nothing but the means has moved."""
        store = Store(tmp_path)
        inputs = {**self.inputs(store), "training": Training(epochs=60, batch_size=64, learning_rate=3e-3)}
        found = store.call(simplex.prefit, **inputs)
        curve = found.facts["curve"]
        assert curve[-1]["total"] < 0.3 * curve[0]["total"]
        assert curve[-1]["alignment"] < 0.3 < 1.5 < curve[0]["alignment"]
        before = inputs["start"].arrays
        moved = {name.split(".")[0] for name, array in found.arrays.items() if not np.array_equal(array, before[name])}
        assert moved == {"encoder"}
        np.testing.assert_array_equal(found.arrays["encoder.logvar.weight"], before["encoder.logvar.weight"])


class TestEscape(_Witness):
    stage = simplex.escape

    def inputs(self, store: Store) -> dict[str, Any]:
        objective = Objective(alpha_kl=0.1, lambda_ts=1.0, lambda_bal=0.0)
        given = {"dataset": self.dataset, "model": MODEL, "objective": objective, "steps_per_point": 2}
        start = store.call(simplex.collapsed, self.start(store))
        return {**given, "pace": TRAINING, "seed": 0, "start": start, "teacher": self.teacher(store)}

    def others(self, store: Store) -> dict[str, Any]:
        objective = Objective(alpha_kl=0.2, lambda_ts=1.0, lambda_bal=0.0)
        given = {"dataset": self.noisy, "model": OTHER_MODEL, "objective": objective, "steps_per_point": 3}
        later = {"seed": 1, "start": self.start(store), "teacher": self.teacher(store, 0.1)}
        return {**given, "pace": OTHER_TRAINING, **later}

    def test_it_leaves_exact_collapse_with_the_force_that_was_promised(self, tmp_path):
        store = Store(tmp_path)
        inputs = {**self.inputs(store), "pace": Training(epochs=60, batch_size=64, learning_rate=3e-3)}
        curve = store.call(simplex.escape, **inputs).facts["curve"]
        first, last = curve[0], curve[-1]
        floor = np.sqrt(force_floor(inputs["teacher"].arrays["targets_guard"].astype(np.float64), 5.0))
        assert [point["epoch"] for point in curve] == list(range(61))
        assert first["guard_variance_mu_witness"] == 0
        assert first["guard_margin"] <= 0
        assert first["guard_force_norm"] >= floor
        assert first["guard_gradient_norm"] > 0
        assert last["guard_margin"] > 0.1
        assert last["guard_force_norm"] < first["guard_force_norm"]


class _Judging(_Witness, JudgementLaws):
    describes_in_subject = ("model", "warm")
    reads_alone = Simplex()

    def subject(self, store: Store) -> Subject:
        return Subject(self.dataset, MODEL, self.teacher(store), self.start(store))

    def other_subject(self, store: Store) -> dict[str, Any]:
        return {"dataset": self.noisy, "teacher": self.teacher(store, 0.1), "trained": self.start(store, 1)}


class TestJudgeWitness(_Judging):
    stage = judging.judge


class TestFairWitness(_Judging):
    stage = judging.fitted_heads

    def test_its_train_columns_are_on_train_rows(self, tmp_path):
        store = Store(tmp_path)
        facts = store.call(self.stage, **self.inputs(store)).facts
        assert facts["train_n"] == len(self.dataset.rows("train"))
        assert facts["train_margin"] == pytest.approx(facts["train_info"] - facts["train_loss"], abs=1e-12)
        assert facts["affine_margin"] > facts["rotation_margin"]
