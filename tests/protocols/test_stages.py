"""Stages of the rescue chain: pure functions of what they read, paired by seed, and judged on frozen teacher rows."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from certvae.data.dataset import Dataset, Split
from certvae.errors import DataFault
from certvae.evaluation.diagnostics import features
from certvae.protocols import chain, judging, rescue, stages
from certvae.protocols.judging import Edges, Levels, Look, Protected, Raw, Subject
from certvae.protocols.trained import network, teacher_rows
from certvae.spec.control import Control, Guard, Rollback, Staged
from certvae.spec.parts import Bernoulli, Mlp, Model, Training
from certvae.spec.rescue import Curriculum, Objective, SafeMix, Triad
from certvae.store.artifact import Artifact, Content
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench, stage
from certvae.teachers.kinds import FeatureTeacher
from tests.laws import JudgementLaws, StageLaws
from tests.small_cells import (
    CLASSES,
    MODEL,
    OBJECTIVE,
    TEACHER,
    TRAINING,
    WARM_UP,
    small_digits,
    with_images,
    with_noise_in,
)

OTHER_MODEL = dataclasses.replace(MODEL, likelihood=Bernoulli())
SEEING = dataclasses.replace(MODEL, decoder_sees_teacher=True)


def digits(store: Store, limit: int = 240) -> Dataset:
    return small_digits(store.path / "data", limit)


def warm(store: Store, dataset: Dataset | None = None, model: Model = MODEL, seed: int = 0) -> Artifact:
    return store.call(stages.warm_up, dataset or digits(store), model, CLASSES, WARM_UP, seed)


def taught(store: Store, dataset: Dataset | None = None, model: Model = MODEL, seed: int = 0) -> Artifact:
    rows = dataset or digits(store)
    return store.call(stages.teacher, rows, model, TEACHER, seed, warm(store, rows, model))


def unaligned(store: Store, model: Model = MODEL, **changes: Any) -> Artifact:
    return store.call(stages.no_align, **{**_training(store, model), "objective": OBJECTIVE.unaligned(), **changes})


def aligned(store: Store, model: Model = MODEL, **changes: Any) -> Artifact:
    return store.call(stages.aligned, **{**_training(store, model), "objective": OBJECTIVE, **changes})


def judged(store: Store, trained: Artifact, split: Split = "certify", model: Model = MODEL, **changes: Any) -> Artifact:
    given = {"dataset": digits(store), "model": model, "trained": trained}
    given |= {"warm": warm(store, model=model), "teacher": taught(store, model=model)}
    seen = {"split": split, "looks": 1, "seed": 0}
    subject = Subject(**{name: changes.get(name, value) for name, value in given.items()})
    look = Look(**{name: changes.get(name, value) for name, value in seen.items()})
    return store.call(judging.judge, subject, look, Raw())


def _training(store: Store, model: Model) -> dict[str, Any]:
    start, teacher = warm(store, model=model), taught(store, model=model)
    given = {"dataset": digits(store), "model": model, "training": TRAINING, "seed": 0}
    return {**given, "start": start, "teacher": teacher}


def same(first: Artifact, second: Artifact) -> bool:
    """Equal weights; the curves may differ."""
    one, other = first.arrays, second.arrays
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class TestWarmUp(StageLaws):
    stage = stages.warm_up

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": digits(store), "model": MODEL, "classes": CLASSES, "warm_up": WARM_UP, "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        lighter = dataclasses.replace(WARM_UP, alpha_kl=1.0)
        return {"dataset": digits(store, 200), "model": OTHER_MODEL, "classes": 5, "warm_up": lighter, "seed": 1}


class TestTeacher(StageLaws):
    stage = stages.teacher
    describes = {"model": "warm"}  # noqa: RUF012 - a constant of the class, as its type says

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": digits(store), "model": MODEL, "teacher": TEACHER, "seed": 0, "warm": warm(store)}

    def others(self, store: Store) -> dict[str, Any]:
        softer = dataclasses.replace(TEACHER, temperature=(2.0,))
        return {"dataset": digits(store, 200), "teacher": softer, "seed": 1, "warm": warm(store, seed=1)}


class TestNoAlign(StageLaws):
    stage = stages.no_align

    def inputs(self, store: Store) -> dict[str, Any]:
        return {**_training(store, MODEL), "objective": OBJECTIVE.unaligned()}

    def others(self, store: Store) -> dict[str, Any]:
        return {**_other_training(store), "objective": dataclasses.replace(OBJECTIVE.unaligned(), lambda_bal=2.0)}


class TestAligned(StageLaws):
    stage = stages.aligned

    def inputs(self, store: Store) -> dict[str, Any]:
        return {**_training(store, MODEL), "objective": OBJECTIVE}

    def others(self, store: Store) -> dict[str, Any]:
        return {**_other_training(store), "objective": dataclasses.replace(OBJECTIVE, lambda_ts=2.0)}


class TestHeadOnly(TestAligned):
    stage = stages.head_only

    def test_the_code_hears_of_no_teacher_and_the_head_of_nothing_else(self, tmp_path):
        store = Store(tmp_path)
        inputs = {**self.inputs(store), "training": dataclasses.replace(TRAINING, gradient_clip=1e9)}
        heavier = dataclasses.replace(OBJECTIVE, lambda_ts=50.0)
        other = {**inputs, "teacher": taught(store, seed=1), "objective": heavier}
        one, two = (store.call(self.stage, **given).arrays for given in (inputs, other))
        code = [name for name in one if not name.startswith("head.")]
        assert all(np.array_equal(one[name], two[name]) for name in code)
        assert not all(np.array_equal(one[name], two[name]) for name in one if name.startswith("head."))


class TestUntrained(StageLaws):
    stage = stages.untrained

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"dataset": digits(store), "model": MODEL, "classes": CLASSES, "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        shaped = dataclasses.replace(digits(store), shape=(1, 4, 4), digest="0" * 64)
        narrow = dataclasses.replace(MODEL, encoder=Mlp(hidden=(32,), latent=5))
        return {"dataset": shaped, "model": narrow, "classes": 5, "seed": 1}

    def test_it_is_what_the_warm_up_starts_from(self, tmp_path):
        store = Store(tmp_path)
        still = dataclasses.replace(WARM_UP, training=Training(epochs=1, batch_size=64, learning_rate=1e-12))
        moved = store.call(stages.warm_up, digits(store), MODEL, CLASSES, still, 0).arrays
        first = store.call(self.stage, **self.inputs(store)).arrays
        assert all(np.allclose(moved[name], array, rtol=0, atol=1e-9) for name, array in first.items())


class TestPermutedTeacher(StageLaws):
    stage = stages.permuted_teacher

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"teacher": taught(store), "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"teacher": taught(store, seed=1), "seed": 1}

    def test_the_same_rows_belong_to_other_images(self, tmp_path):
        store = Store(tmp_path)
        before, after = taught(store).arrays, store.call(self.stage, **self.inputs(store)).arrays
        for name in ("targets_train", "targets_guard"):
            assert not np.array_equal(before[name], after[name])
            np.testing.assert_array_equal(np.sort(before[name], axis=0), np.sort(after[name], axis=0))


class TestGuarded(StageLaws):
    stage = stages.guarded
    control: ClassVar[Control] = Guard(every=1)
    other: ClassVar[Control] = Staged(student_epochs=1)

    def inputs(self, store: Store) -> dict[str, Any]:
        return {**_training(store, MODEL), "objective": OBJECTIVE, "control": self.control}

    def others(self, store: Store) -> dict[str, Any]:
        heavier = dataclasses.replace(OBJECTIVE, lambda_ts=2.0)
        return {**_other_training(store), "objective": heavier, "control": self.other}


class TestRolledBack(TestGuarded):
    """Every stretch is undone, three times: the states to go back to are in the checkpoints."""

    control = Rollback(xi=0.0, gamma=10.0, most=3, every=1)
    other = Rollback(xi=0.0, gamma=10.0, most=3, every=2)


class TestTriad(StageLaws):
    stage = rescue.triad

    def inputs(self, store: Store) -> dict[str, Any]:
        given = {**_training(store, MODEL), "objective": OBJECTIVE, "triad": Triad(), "warm": warm(store)}
        return {**given, "start": unaligned(store)}

    def others(self, store: Store) -> dict[str, Any]:
        heavier = dataclasses.replace(OBJECTIVE, lambda_ts=2.0)
        other = {"objective": heavier, "triad": Triad(through=2.0), "warm": warm(store, seed=1)}
        return {**_other_training(store), **other}


class TestCurriculum(StageLaws):
    """Two levels of an epoch each, and one epoch of all classes."""

    stage = rescue.curriculum

    def inputs(self, store: Store) -> dict[str, Any]:
        levels = Curriculum(levels=(2, 3), epochs=1)
        return {**_training(store, MODEL), "objective": OBJECTIVE, "curriculum": levels, "start": warm(store)}

    def others(self, store: Store) -> dict[str, Any]:
        levels, heavier = Curriculum(levels=(2,), epochs=1), dataclasses.replace(OBJECTIVE, lambda_ts=2.0)
        return {**_other_training(store), "objective": heavier, "curriculum": levels}

    def test_every_point_shows_each_level(self, store):
        points = store.call(self.stage, **self.inputs(store)).facts["curve"]
        for point in points:
            assert (point["guard_level_1_classes"], point["guard_level_2_classes"]) == (2, 3)
            assert point["guard_level_1_info"] <= point["guard_level_2_info"] <= point["guard_info"]


class TestResponse(StageLaws):
    stage = stages.response
    describes: ClassVar[dict[str, str]] = {"model": "network"}

    def inputs(self, store: Store) -> dict[str, Any]:
        given = {"dataset": digits(store), "model": MODEL, "training": TRAINING}
        return {**given, "network": unaligned(store), "teacher": taught(store)}

    def others(self, store: Store) -> dict[str, Any]:
        other = {"network": aligned(store), "teacher": taught(store, seed=1)}
        faster = dataclasses.replace(TRAINING, learning_rate=1e-2)
        noisy = with_noise_in(digits(store), ("guard",), store.path / "data" / "noise")
        return {"dataset": noisy, "training": faster, **other}


class _Judging(JudgementLaws):
    """On certify rows, where T is computed with the frozen encoder; train and guard rows of T are cached."""

    describes_in_subject = ("model",)

    def subject(self, store: Store) -> Subject:
        return Subject(digits(store), MODEL, taught(store), aligned(store), warm(store))

    def other_subject(self, store: Store) -> dict[str, Any]:
        return {
            "dataset": with_noise_in(digits(store), ("certify",), store.path / "data" / "noise"),
            "warm": warm(store, seed=1),
            "teacher": taught(store, seed=1),
            "trained": unaligned(store),
        }


class TestJudge(_Judging):
    stage = judging.judge
    describes: ClassVar[dict[str, str]] = {}
    read_otherwise = Protected(SafeMix())


class TestJudgeEdges(_Judging):
    stage = judging.judge
    reads_alone = Edges()


class TestJudgeLevels(_Judging):
    stage = judging.judge
    reads_alone = Levels((2, 3))


class TestFittedHeads(_Judging):
    stage = judging.fitted_heads
    reads_alone = Raw()


def _other_training(store: Store) -> dict[str, Any]:
    return {
        "dataset": with_noise_in(digits(store), ("train",), store.path / "data" / "noise"),
        "model": OTHER_MODEL,
        "training": Training(epochs=2, batch_size=64),
        "seed": 1,
        "start": warm(store, seed=1),
        "teacher": taught(store, seed=1),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("stages") / "store")


class TestPairing:
    def test_full_and_no_align_have_the_same_start_order_and_noise(self, store):
        """With an alignment weight that float32 cannot see, one is the other to the last bit."""
        invisible = dataclasses.replace(OBJECTIVE, lambda_ts=1e-30)
        assert same(aligned(store, objective=invisible), unaligned(store))
        assert not same(aligned(store), unaligned(store))

    @pytest.mark.parametrize("begin", [warm, unaligned])
    def test_a_mode_starts_where_its_start_ended(self, store, begin: Callable[[Store], Artifact]):
        start = begin(store)
        still = Training(epochs=1, batch_size=64, learning_rate=1e-12)
        moved = aligned(store, training=still, start=start)
        assert all(np.allclose(moved.arrays[name], array, rtol=0, atol=1e-9) for name, array in start.arrays.items())

    def test_rescue_and_full_differ_by_their_start_alone(self, store):
        assert not same(aligned(store), aligned(store, start=unaligned(store)))

    def test_alignment_contributes_no_gradient_to_no_align_and_is_recorded(self, store):
        """Another teacher, whose rows the decoder does not see, changes not one bit of the weights."""
        mine, other = unaligned(store), unaligned(store, teacher=taught(store, seed=1))
        assert same(mine, other)
        curves = [[point["alignment"] for point in run.facts["curve"]] for run in (mine, other)]
        assert min(map(min, curves)) > 0
        assert curves[0] != curves[1]

    def test_balance_is_on_in_no_align(self, store):
        off = unaligned(store, objective=dataclasses.replace(OBJECTIVE.unaligned(), lambda_bal=0.0))
        balances = [run.facts["curve"][-1]["balance"] for run in (unaligned(store), off)]
        assert balances[0] < balances[1]

    def test_more_weight_lowers_what_it_weighs(self, store):
        goals = [dataclasses.replace(OBJECTIVE, lambda_ts=weight) for weight in (1e-30, 1.0, 5.0, 50.0)]
        losses = [aligned(store, objective=goal).facts["curve"][-1]["alignment"] for goal in goals]
        assert losses == sorted(losses, reverse=True)
        assert len(set(losses)) == 4

    def test_a_teacher_of_other_images_is_refused(self, store):
        fewer = digits(store, 200)
        with pytest.raises(DataFault, match="216 teacher rows for 180 train images"):
            aligned(store, dataset=fewer)

    def test_warm_up_trains_no_head(self, store):
        """There is no teacher yet: the head is as it was made, and no alignment or balance is recorded."""
        longer = dataclasses.replace(WARM_UP, training=Training(epochs=4, batch_size=64))
        more = store.call(stages.warm_up, digits(store), MODEL, CLASSES, longer, 0)
        head = {name for name in more.arrays if name.startswith("head.")}
        assert head
        assert all(np.array_equal(more.arrays[name], warm(store).arrays[name]) for name in head)
        assert all(point["alignment"] == point["balance"] == 0 for point in more.facts["curve"])
        assert not any("margin" in name for name in more.facts["curve"][-1])

    def test_a_curve_ends_with_the_guard_numbers_of_the_judged_network(self, store):
        trained = aligned(store)
        point, row = trained.facts["curve"][-1], judged(store, trained, "guard").facts
        for name in ("info", "loss", "margin", "student_info", "psnr_01", "kl_rate", "active_units"):
            assert point[f"guard_{name}"] == pytest.approx(row[name], abs=1e-12)


class TestFrozenTeacher:
    def test_cached_rows_are_the_teacher_of_their_images(self, store):
        rows, teacher = digits(store), taught(store)
        bench = _bench(store)
        vae, read = network(rows, MODEL, CLASSES, warm(store), bench), FeatureTeacher.of(teacher, "cpu")
        for split in ("train", "guard"):
            again = read.rows(features(vae, rows, split, bench))
            np.testing.assert_allclose(teacher.arrays[f"targets_{split}"], again, rtol=0, atol=1e-5)
            assert teacher_rows(rows, MODEL, warm(store), teacher, split, bench).shape == again.shape

    def test_rows_are_smoothed_and_on_the_simplex(self, store):
        for split in ("train", "guard", "certify"):
            found = teacher_rows(digits(store), MODEL, warm(store), taught(store), split, _bench(store))
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
            assert found.min() >= TEACHER.smoothing / CLASSES - 1e-7

    def test_teacher_information_does_not_depend_on_who_is_judged(self, store):
        """Three networks with three encoders: T is a function of the image, through the frozen one."""
        networks = [aligned(store), unaligned(store), aligned(store, start=unaligned(store))]
        assert len({run.digest for run in networks}) == 3
        for split in ("train", "guard", "certify"):
            info = [judged(store, run, split).facts["info"] for run in networks]
            assert max(info) - min(info) <= 1e-12

    def test_held_out_rows_change_neither_warm_up_nor_teacher_nor_training(self, store):
        clean = digits(store)
        noisy = with_noise_in(clean, ("guard", "certify"), store.path / "data" / "held-out")
        assert noisy.digest != clean.digest
        assert same(warm(store, clean), warm(store, noisy))
        first, second = (taught(store, rows).arrays for rows in (clean, noisy))
        assert not np.array_equal(first.pop("targets_guard"), second.pop("targets_guard"))
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert same(
            aligned(store), aligned(store, dataset=noisy, start=warm(store, noisy), teacher=taught(store, noisy))
        )

    def test_certify_rows_change_nothing_before_they_are_opened(self, store):
        noisy = with_noise_in(digits(store), ("certify",), store.path / "data" / "certify")
        assert taught(store, noisy).digest == taught(store).digest
        again = aligned(store, dataset=noisy, start=warm(store, noisy), teacher=taught(store, noisy))
        assert again.digest == aligned(store).digest
        assert again.key != aligned(store).key

    def test_train_rows_change_all_of_it(self, store):
        noisy = with_noise_in(digits(store), ("train",), store.path / "data" / "train")
        assert not same(warm(store), warm(store, noisy))
        assert not np.array_equal(taught(store).arrays["means_"], taught(store, noisy).arrays["means_"])

    def test_the_artifact_tells_how_it_was_chosen(self, store):
        facts = taught(store).facts
        assert facts["chosen"] in [{name: one[name] for name in facts["chosen"]} for one in facts["candidates"]]
        assert (facts["classes"], facts["smoothing"], facts["source"]) == (CLASSES, 0.02, "warmup_gmm")
        assert facts["quality"]["classes"] == CLASSES


class TestDecoder:
    @pytest.mark.parametrize("model", [MODEL, SEEING], ids=["latent alone", "latent and teacher row"])
    def test_the_certificate_never_looks_at_it(self, store, model):
        trained = aligned(store, model)
        sound, broken = (judged(store, run, model=model).facts for run in (trained, store.call(scrambled, trained)))
        touched = {name for name in sound if sound[name] != broken[name]}
        assert touched == {"psnr_01", "psnr_std", "psnr_01_latent_only"}

    def test_that_sees_no_teacher_row_reconstructs_alike_for_every_teacher(self, store):
        trained = aligned(store)
        mine, other = (judged(store, trained, teacher=taught(store, seed=seed)).facts for seed in (0, 1))
        assert mine["info"] != other["info"]
        assert mine["psnr_01"] == mine["psnr_01_latent_only"] == other["psnr_01"]

    def test_that_sees_it_reconstructs_otherwise_from_the_mean_row(self, store):
        facts = judged(store, aligned(store, SEEING), model=SEEING).facts
        assert facts["psnr_01"] != facts["psnr_01_latent_only"]


class TestJudgement:
    def test_pictures_are_rows_spread_over_the_split(self, store):
        pictures = judged(store, aligned(store)).arrays
        rows = digits(store)
        shown = rows.rows("certify")[[0, 8, 16, 25, 33, 42, 50, 59]]
        expected = np.round(rows.images[shown].astype(np.float32) / 16 * 255).astype(np.uint8)
        np.testing.assert_array_equal(pictures["originals"], expected, strict=True)
        assert pictures["reconstructions"].shape == expected.shape
        assert pictures["reconstructions"].dtype == np.uint8

    def test_pictures_of_rows_sorted_by_class_are_of_several(self, store):
        rows = digits(store)
        images, certify = rows.images.copy(), rows.rows("certify")
        images[certify, :, 0] = np.sort(rows.labels[certify])[:, None, None]  # the top line of an image is its class
        by_class = with_images(rows, images, store.path / "data" / "sorted", "certify rows sorted by class")
        shown = judged(store, aligned(store), dataset=by_class).arrays["originals"]
        assert len(np.unique(shown[:, 0, 0, 0])) == 8

    def test_looks_are_paid_for_by_the_bound_alone(self, store):
        once, often = (judged(store, aligned(store), looks=looks).facts for looks in (1, 20))
        touched = {name for name in once if once[name] != often[name]}
        assert {"looks", "population_bound"} <= touched <= {"looks"} | {name for name in once if "bound" in name}
        assert often["population_bound"] < once["population_bound"]

    def test_the_sampled_view_loses_against_the_mean_and_is_seeded(self, store):
        trained = aligned(store)
        first, other = (judged(store, trained, seed=seed).facts for seed in (0, 1))
        assert first["sampled_margin"] < first["margin"]
        assert first["sampled_margin"] != other["sampled_margin"]
        assert first["margin"] == other["margin"]

    def test_the_row_adds_up(self, store):
        facts = judged(store, aligned(store)).facts
        assert facts["margin"] == pytest.approx(facts["info"] - facts["loss"], abs=1e-12)
        assert (facts["n"], facts["split"], facts["view"]) == (60, "certify", "mu")
        assert facts["teacher_info"] == pytest.approx(facts["info"], abs=1e-9)


class TestKeys:
    """What a stage does not read does not split its cache."""

    def test_no_stage_is_given_more_than_it_reads(self):
        reads = {one.name: set(inspect.signature(one.make).parameters) - {"bench"} for one in chain.STAGES}
        assert reads["warm_up"] == {"dataset", "model", "classes", "warm_up", "seed"}
        assert reads["teacher"] == {"dataset", "model", "teacher", "seed", "warm"}
        assert reads["no_align"] == reads["aligned"] == reads["guarded"] - {"control"}
        assert reads["judge"] == {"subject", "look", "reads"}

    def test_names_are_distinct(self):
        assert len({one.name for one in chain.STAGES}) == len(chain.STAGES)

    def test_lambda_ts_is_not_in_the_key_of_no_align(self, store):
        keys = {
            lambda_ts: store.key(stages.no_align, **{**_training(store, MODEL), "objective": goal.unaligned()})
            for lambda_ts, goal in ((value, Objective(alpha_kl=0.05, lambda_ts=value)) for value in (0.5, 5.0))
        }
        assert len(set(keys.values())) == 1


def test_numbers_of_this_stage_version_are_known(store):
    """Whoever changes them raises the version of the stage that changed, and writes the new numbers here."""
    found = {
        ("warm_up", stages.warm_up.version): warm(store).facts["curve"][-1]["total"],
        ("teacher", stages.teacher.version): taught(store).facts["quality"]["info"],
        ("no_align", stages.no_align.version): unaligned(store).facts["curve"][-1]["total"],
        ("aligned", stages.aligned.version): aligned(store).facts["curve"][-1]["total"],
        ("judge", judging.judge.version): judged(store, aligned(store)).facts["margin"],
    }
    assert found == {
        ("warm_up", 1): pytest.approx(10.9266, rel=1e-3),
        ("teacher", 1): pytest.approx(0.529045, rel=1e-3),
        ("no_align", 1): pytest.approx(10.3991, rel=1e-3),
        ("aligned", 1): pytest.approx(14.0294, rel=1e-3),
        ("judge", 6): pytest.approx(-0.0392063, rel=1e-3),
    }


@stage(version=1)
def scrambled(trained: Artifact, *, bench: Workbench) -> Content:
    """A trained network with noise for a decoder."""
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.normal(size=array.shape).astype(array.dtype) if name.startswith("decoder.") else array
        for name, array in trained.arrays.items()
    }
    return Content(arrays, trained.facts)


def _bench(store: Store) -> Workbench:
    return Workbench("cpu", [].append, Checkpoints(store.disk, "0" * 64))
