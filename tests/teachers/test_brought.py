"""Teachers that a user brings: what is read, what is refused, and the keys that name them."""

import dataclasses
import shutil
from typing import ClassVar

import numpy as np
import pytest

from certvae.canonical import digest, plain
from certvae.data import describe, load
from certvae.data.dataset import SPLITS
from certvae.errors import ConfigFault, DataFault
from certvae.protocols import chain, teachers
from certvae.protocols.judging import Raw
from certvae.spec.parts import Data
from certvae.spec.reading import read
from certvae.spec.rescue import Rescue, Triad
from certvae.spec.simplex import Witness
from certvae.spec.teachers import FeatureGmm, Given, Labels, PcaGmm
from certvae.teachers import kinds, save_rows
from certvae.teachers.brought import check_teacher
from tests.laws import StageLaws
from tests.small_cells import small_cell, small_digits

K = 4
MAP = np.random.default_rng(0).standard_normal((64, K))
SMALL = {
    "classes": K,
    "whitening": (0,),
    "covariance": ("diag",),
    "regulariser": (1e-3,),
    "temperature": (1.0,),
    "initialisations": 1,
}
CODE = """
def halves(x):
    return x.flatten(1)[:, ::2]

def other(x):
    return x.flatten(1)[:, 1::2]

def one_number(x):
    return x.flatten(1).sum()

def broken(x):
    raise ValueError("as written")
"""


def posterior(x):
    weights = np.exp(3 * x.reshape(len(x), -1) @ MAP)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def rows(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    save_rows(path, dataset, posterior)
    return path


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "brought_features.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


def written(tmp_path, rows, **changed):
    """The same file with other arrays."""
    with np.load(rows) as found:
        np.savez(tmp_path / "changed.npz", **{**found, **changed})
    return str(tmp_path / "changed.npz")


def arrays(rows):
    with np.load(rows) as found:
        return {split: found[split] for split in SPLITS}


def test_a_function_may_see_the_rows_at_another_size(tmp_path):
    """A teacher reads large images, and the networks small ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels)
    about = describe(f"npz:{tmp_path / 'a.npz'}")

    def opened(**choices):
        return load(Data(name=about.name, **choices), about.place, cache=tmp_path / "cache", progress=False)

    def halves(x):
        found = x.reshape(len(x), 2, -1).mean(axis=2)
        return found / found.sum(axis=1, keepdims=True)

    path, small, large = tmp_path / "rows.npz", opened(size=8), opened()
    save_rows(path, small, halves, seen=large)
    check_teacher(small, Given(str(path)))
    with np.load(path) as found:
        assert np.allclose(found["guard"], halves(large.images[large.rows("guard")] / 255), atol=1e-6)
    with pytest.raises(DataFault, match=r"18 train, 2 guard, 8 certify rows .* load both by one Data"):
        save_rows(path, small, halves, seen=opened(limit=20))


class TestGiven:
    def test_rows_are_smoothed_and_kept_for_every_split(self, dataset, store, rows):
        artifact = store.call(teachers.given_teacher, dataset, Given(str(rows), smoothing=0.1))
        read = kinds.read(artifact, "cpu")
        for split, found in arrays(rows).items():
            np.testing.assert_allclose(read.rows(dataset, split), 0.9 * found + 0.1 / K, rtol=1e-6)
        assert artifact.facts["source"] == "given"
        assert read.view_gap(dataset, "guard") == 0

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_rounding_of_the_dtype_is_no_fault(self, dataset, store, rows, tmp_path, dtype):
        rounded = {split: found.astype(dtype) for split, found in arrays(rows).items()}
        artifact = store.call(teachers.given_teacher, dataset, Given(written(tmp_path, rows, **rounded)))
        total = artifact.arrays["targets_train"].sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(total, 1, atol=K * np.finfo(np.float32).eps)

    def test_its_name_is_its_content_and_no_path(self, rows, tmp_path):
        moved = shutil.copy(rows, tmp_path / "moved.npz")
        assert digest(Given(str(moved))) == digest(Given(str(rows)))
        assert "rows" not in plain(Given(str(rows)))
        with np.load(rows) as found:
            other = written(tmp_path, rows, guard=found["guard"][::-1])
        assert digest(Given(other)) != digest(Given(str(rows)))

    def test_a_row_of_a_study_gives_the_cell_back(self, rows):
        for teacher in (Given(str(rows)), FeatureGmm(str(rows), **SMALL)):
            cell = small_cell(teacher=teacher)
            assert read(plain(cell)).cell == cell.cell

    def test_what_is_no_distribution_is_refused_by_its_row(self, dataset, rows, tmp_path):
        train = arrays(rows)["train"]
        for bad, told in ((2 * train, "1?.*sum 2, wanted is 1 within 1e-06"), (train - 0.5, "lowest entry -0")):
            with pytest.raises(DataFault, match=told):
                check_teacher(dataset, Given(written(tmp_path, rows, train=bad)))
        train = train.copy()
        train[7] = np.nan
        with pytest.raises(DataFault, match="1 of 216 train rows are no distributions: row 7"):
            check_teacher(dataset, Given(written(tmp_path, rows, train=train)))

    def test_a_class_that_never_occurs_is_named_and_leaving_it_out_helps(self, dataset, rows, tmp_path):
        absent = {split: np.insert(found, 2, 0.0, axis=1) for split, found in arrays(rows).items()}
        with pytest.raises(DataFault, match="classes 2 of 5 occur in no train row"):
            check_teacher(dataset, Given(written(tmp_path, rows, **absent)))
        check_teacher(dataset, Given(str(rows)))

    def test_rows_that_are_all_equal_are_refused_before_a_look_is_spent(self, dataset, rows, tmp_path):
        """A run trained against them to its end, and opened the certify rows."""
        equal = {split: np.tile(found[:1], (len(found), 1)) for split, found in arrays(rows).items()}
        with pytest.raises(DataFault, match=r"all train rows are equal.* give rows that vary"):
            check_teacher(dataset, Given(written(tmp_path, rows, **equal)))
        check_teacher(dataset, Given(str(rows)))

    def test_rows_of_other_images_are_refused_by_count_and_by_digest(self, dataset, rows, tmp_path):
        train = arrays(rows)["train"]
        with pytest.raises(DataFault, match="215 train rows for 216 images of digits"):
            check_teacher(dataset, Given(written(tmp_path, rows, train=train[1:])))
        with np.load(rows) as found:
            images = found["images_guard"].copy()
        images[[3, 4]] = images[[4, 3]]
        with pytest.raises(DataFault, match="2 of 24 guard rows belong to other images, row 3 the first"):
            check_teacher(dataset, Given(written(tmp_path, rows, images_guard=images)))

    def test_a_file_that_is_none_says_what_is_wanted(self, tmp_path, rows):
        np.savez_compressed(tmp_path / "whole.npz", train=np.ones((2, 3)))
        whole = (tmp_path / "whole.npz").read_bytes()
        place = whole.index(b"train.npy") + len("train.npy") + int.from_bytes(whole[28:30], "little")
        damaged, encrypted = bytearray(whole), bytearray(whole)
        damaged[place] = 0xFF  # no kind of a compressed block
        for at in (6, whole.index(b"PK\1\2") + 8):
            encrypted[at] |= 1
        files = {"absent": None, "text": b"no arrays", "cut": whole[:40], "damaged": damaged, "encrypted": encrypted}
        for name, content in ((f"{name}.npz", content) for name, content in files.items()):
            if content:
                (tmp_path / name).write_bytes(content)
            with pytest.raises(ConfigFault, match=r"an \.npz file of arrays is wanted.*save_rows"):
                Given(str(tmp_path / name))
        np.savez(tmp_path / "two.npz", train=np.ones((2, 3)), guard=np.ones((2, 3)))
        with pytest.raises(ConfigFault, match="no array certify; it has train, guard"):
            Given(str(tmp_path / "two.npz"))
        with pytest.raises(ConfigFault, match=r"guard must be \(rows, 4\) floating-point numbers, got \(24, 3\)"):
            Given(written(tmp_path, rows, guard=np.ones((24, 3))))

    def test_a_file_that_changed_after_it_was_named_is_refused(self, dataset, rows, tmp_path):
        named = Given(written(tmp_path, rows))
        written(tmp_path, rows, train=arrays(rows)["train"][::-1])
        with pytest.raises(ConfigFault, match=f"here and now, and {named.source} is wanted"):
            check_teacher(dataset, named)


class BroughtLaws(StageLaws):
    describes: ClassVar = {"dataset": "teacher"}

    @pytest.fixture(autouse=True)
    def _brought(self, dataset, rows):
        type(self).dataset, type(self).path = dataset, str(rows)


class TestGivenStage(BroughtLaws):
    stage = teachers.given_teacher

    def inputs(self, store):
        return {"dataset": self.dataset, "teacher": Given(self.path)}

    def others(self, store):
        return {"teacher": Given(self.path, smoothing=0.2)}


class TestFeatureStage(BroughtLaws):
    stage = teachers.feature_teacher

    def inputs(self, store):
        return {"dataset": self.dataset, "teacher": FeatureGmm(self.path, **SMALL), "seed": 0}

    def others(self, store):
        return {"teacher": FeatureGmm(self.path, **{**SMALL, "smoothing": 0.2}), "seed": 1}


class TestFeatures:
    def test_a_file_and_a_function_of_the_same_features_find_the_same_mixture(self, dataset, store, code, tmp_path):
        save_rows(tmp_path / "features.npz", dataset, lambda x: x.reshape(len(x), -1)[:, ::2])
        specs = (FeatureGmm(str(tmp_path / "features.npz"), **SMALL), FeatureGmm("brought_features:halves", **SMALL))
        one, other = (store.call(teachers.feature_teacher, dataset, spec, 0) for spec in specs)
        assert one.key != other.key
        for split in SPLITS:
            np.testing.assert_array_equal(one.arrays[f"targets_{split}"], other.arrays[f"targets_{split}"])
        assert one.facts["source"] == "feature_gmm"
        assert one.facts["candidates"]

    def test_the_text_of_the_function_names_it(self, code):
        one, other = (FeatureGmm(f"brought_features:{name}") for name in ("halves", "other"))
        assert one.source == other.source
        assert digest(one) != digest(other)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("one_number", r"\(2, d\) floating-point numbers are wanted for 2 images, got \(\)"),
            ("broken", r"broken raised ValueError: as written.*brought_features\.py:12"),
            ("absent", "no function or class absent; it has broken, halves"),
        ],
    )
    def test_a_function_is_tried_before_anything_starts(self, dataset, code, name, told):
        with pytest.raises((ConfigFault, DataFault), match=told):
            check_teacher(dataset, FeatureGmm(f"brought_features:{name}"))

    def test_a_classifier_of_torchvision_with_random_weights(self, dataset, store):
        pytest.importorskip("torchvision")
        few = small_digits(dataset.path.parent, limit=40)
        spec = FeatureGmm("torchvision:mobilenet_v3_small", pretrained=False, **SMALL)
        check_teacher(few, spec)
        with pytest.raises(DataFault, match=r"no classifier resnet81.*choose one of resnet"):
            check_teacher(few, dataclasses.replace(spec, features="torchvision:resnet81"))
        with pytest.raises(DataFault, match="squeezenet1_1 of torchvision has no linear layer"):
            check_teacher(few, dataclasses.replace(spec, features="torchvision:squeezenet1_1"))


class TestInChains:
    """Every teacher in the protocol of either paper."""

    def judged(self, spec, dataset, store):
        return chain.judge(chain.train(spec, dataset, store), dataset, store, "certify")

    @pytest.mark.parametrize("kind", ["given", "features", "pixels", "labels"])
    def test_full_no_align_and_rescue_under_each(self, dataset, store, rows, kind):
        taught = {
            "given": lambda: Given(str(rows)),
            "features": lambda: FeatureGmm(str(rows), **SMALL),
            "pixels": lambda: PcaGmm(classes=K, whitening=(4,), covariance=("diag",), initialisations=1),
            "labels": Labels,
        }
        spec = small_cell(teacher=taught[kind]())
        assert {type(spec.protocol)} == {Rescue}
        found = self.judged(spec, dataset, store)
        assert [row["mode"] for row in found] == ["full", "no_align", "rescue"]
        sources = {"given": "given", "features": "feature_gmm", "pixels": "pca_gmm", "labels": "labels"}
        assert {row["teacher_source"] for row in found} == {sources[kind]}
        assert len({row["info"] for row in found}) == 1
        assert all(row["outcome"] == "ok" and row["teacher_status"] for row in found)

    def test_a_given_teacher_of_the_simplex_witness(self, dataset, store, rows):
        from tests.test_documents import witness  # noqa: PLC0415

        base = witness(0)
        spec = dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, teacher=Given(str(rows))))
        assert {row["teacher_source"] for row in self.judged(spec, dataset, store)} == {"given"}

    def test_what_needs_the_features_of_the_chain_is_refused(self, rows):
        for more in ({"live_features": True}, {"triad": Triad()}):
            with pytest.raises(ConfigFault, match="must be left out for a teacher that reads no encoder"):
                Rescue(teacher=Given(str(rows)), **more)

    def test_the_witness_needs_strictly_positive_rows(self, rows):
        with pytest.raises(ConfigFault, match="smoothing must be > 0"):
            Witness(teacher=Given(str(rows), smoothing=0.0))

    def test_one_teacher_for_all_seeds(self, rows):
        cells = [small_cell(seed=seed, teacher=FeatureGmm(str(rows), **SMALL), teacher_seed=7) for seed in (0, 1)]
        assert len({chain.graph(cell).teacher.key for cell in cells}) == 1
        assert chain.of(cells[0]).reads("full") == Raw()
