"""Arrays of one's own: forms, keys, ranges, and what is wrong with them, in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from certvae.data.arrays import Arrays, by_part
from certvae.data.dataset import SPLITS, Dataset
from certvae.data.loading import describe, load
from certvae.errors import DataFault
from certvae.spec.parts import Data

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
LABELS = np.arange(60) % 3


def opened(place: Path | str, cache: Path, **choices) -> Dataset:
    about = describe(place if isinstance(place, str) else f"npz:{place}")
    return load(Data(name=about.name, **choices), about.place, cache=cache, progress=False, verify=True)


def written(path: Path, **named) -> Path:
    np.savez(path, **named)
    return path


def refusal(path: Path, **named) -> str:
    with pytest.raises(DataFault) as raised:
        opened(written(path / "a.npz", **named), path / "cache")
    return str(raised.value)


def by_row(dataset: Dataset) -> np.ndarray:
    """All rows, in an order that does not depend on splits."""
    rows = dataset.images.reshape(len(dataset.images), -1)
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (BYTES, (1, 8, 8)),
        (BYTES[..., None], (1, 8, 8)),
        (BYTES[:, None], (1, 8, 8)),
        (np.stack([BYTES] * 3, axis=-1), (3, 8, 8)),
        (np.stack([BYTES] * 3, axis=1), (3, 8, 8)),
        (BYTES.reshape(60, 64), (1, 1, 64)),
    ],
)
def test_every_form_of_bytes(tmp_path, x, shape):
    dataset = opened(written(tmp_path / "a.npz", x=x, y=LABELS), tmp_path / "cache")
    assert (dataset.shape, dataset.classes, dataset.scale) == (shape, 3, 1 / 255)
    assert dataset.images.dtype == np.uint8
    assert isinstance(dataset.images, np.memmap)
    wanted = np.moveaxis(x, -1, 1) if x.ndim == 4 and shape[0] == x.shape[-1] else x
    flat = wanted.reshape(60, -1)
    np.testing.assert_array_equal(by_row(dataset), flat[np.lexsort(flat.T)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_the_unit_interval_are_kept(tmp_path, dtype):
    x = (BYTES / 255).astype(dtype)
    dataset = opened(written(tmp_path / "a.npz", x=x), tmp_path / "cache")
    assert (dataset.images.dtype, dataset.scale, dataset.classes) == (np.float32, 1.0, None)
    wanted = x.astype(np.float32).reshape(60, -1)
    np.testing.assert_array_equal(by_row(dataset), wanted[np.lexsort(wanted.T)])
    assert dataset.substitute == "arrays of a.npz, 12 of 60 drawn as test images"
    train = dataset.images[dataset.rows("train")].astype(np.float64)
    assert dataset.mean == pytest.approx([train.mean()], rel=1e-6)
    assert dataset.std == pytest.approx([train.std()], rel=1e-6)


def test_vectors_of_any_range_are_mapped_by_their_train_rows_and_the_peak_is_declared(tmp_path):
    x = RNG.normal(3.0, 2.0, (60, 5))
    path = written(tmp_path / "a.npz", x_train=x[:50], x_test=x[50:])
    dataset = opened(path, tmp_path / "cache")
    low, high = x[:50].min(), x[:50].max()
    assert dataset.shape == (1, 1, 5)
    found = dataset.images[dataset.rows("certify")][:, 0, 0]
    np.testing.assert_allclose(found * (high - low) + low, x[50:], rtol=1e-5, atol=1e-5)
    assert f"peak {high - low:.4g}, the range of the train rows" in str(dataset.substitute)
    declared = opened(written(tmp_path / "b.npz", x_train=x[:50], x_test=x[50:], range=[-10, 10]), tmp_path / "cache")
    assert "values of [-10, 10] as [0, 1]: peak 20" in str(declared.substitute)
    np.testing.assert_allclose(declared.images[declared.rows("certify")][:, 0, 0] * 20 - 10, x[50:], atol=1e-4)


def test_float_images_of_a_declared_range(tmp_path):
    x = BYTES / 127.5 - 1
    assert "E-DATA: the train values are in [-1, 1]" in refusal(tmp_path, x=x)
    dataset = opened(written(tmp_path / "b.npz", x=x, range=[-1.0, 1.0]), tmp_path / "cache")
    assert dataset.images.min() >= -1e-6
    assert dataset.images.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (("x", "y"), (["train"], ["train"])),
        (("X",), (["train"], [])),
        (("arr_0",), (["train"], [])),
        (("whatever",), (["train"], [])),
        (("x_train", "y_train", "x_test", "y_test"), (["train", "test"], ["train", "test"])),
        (("train_images", "train_labels", "val_images", "val_labels"), (["train", "val"], ["train", "val"])),
        (("train", "valid", "test"), (["train", "val", "test"], [])),
        (("Train-Data", "Train-Targets"), (["train"], ["train"])),
        (("images", "labels", "class_names"), (["train"], ["train"])),
    ],
)
def test_keys(keys, wanted):
    values, labels = by_part(Path("a.npz"), dict.fromkeys(keys, 0))
    assert (list(values), list(labels)) == wanted


def test_three_parts_are_train_guard_and_certify(tmp_path):
    """MedMNIST's keys, with labels of shape (n, 1)."""
    cuts = {"train": slice(0, 30), "val": slice(30, 45), "test": slice(45, 60)}
    named = {f"{part}_images": BYTES[cut] for part, cut in cuts.items()}
    named |= {f"{part}_labels": LABELS[cut, None] for part, cut in cuts.items()}
    dataset = opened(written(tmp_path / "a.npz", **named), tmp_path / "cache")
    assert [dataset.rows(split).tolist() for split in SPLITS] == [[*range(30)], [*range(30, 45)], [*range(45, 60)]]
    np.testing.assert_array_equal(dataset.labels, LABELS)
    few = opened(tmp_path / "a.npz", tmp_path / "cache", limit=10)
    assert [len(few.rows(split)) for split in SPLITS] == [10, 15, 15]


def test_a_folder_of_npy_files_and_an_npz_of_the_same_arrays_are_one_data_set(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, array in {"x_train": BYTES[:40], "x_test": BYTES[40:]}.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._x_train.npy").write_bytes(b"x")
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, x_train=BYTES[:40], x_test=BYTES[40:], note=np.array("mine"))
    assert describe(f"npz:{folder}").name == describe(f"npz:{packed}").name
    assert opened(folder, tmp_path / "one").digest == opened(packed, tmp_path / "two").digest


def test_labels_of_any_integers_are_counted_in_order(tmp_path):
    y = np.array([7, -3, 100])[LABELS]
    dataset = opened(written(tmp_path / "a.npz", x=BYTES, y=y), tmp_path / "cache")
    assert dataset.classes == 3
    assert np.bincount(dataset.labels).tolist() == [20, 20, 20]


def test_labels_may_be_texts(tmp_path):
    y = np.array(["owl", "cat", "ant"])[LABELS]
    dataset = opened(written(tmp_path / "a.npz", x=BYTES, y=y), tmp_path / "cache")
    numbered = opened(written(tmp_path / "b.npz", x=BYTES, y=2 - LABELS), tmp_path / "cache")
    assert dataset.classes == 3
    assert np.array_equal(dataset.labels, numbered.labels)


def test_a_file_of_torch_is_a_zip_and_no_archive_of_arrays(tmp_path):
    torch.save({"x": torch.from_numpy(BYTES)}, tmp_path / "a.pt")
    with pytest.raises(DataFault, match=r"no archive of arrays .* --data mine:images"):
        describe(f"npz:{tmp_path / 'a.pt'}")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"x": BYTES.astype(np.int32)}, "E-DATA: the train values are of int32"),
        ({"x": BYTES > 5}, "the train values are of bool"),
        ({"x": BYTES.astype(complex)}, "the train values are of complex128"),
        ({"x": BYTES[0, 0]}, "E-DATA: the train values have shape (8,)"),
        ({"x": np.zeros((6, 9, 9, 9), np.uint8)}, "shape (6, 9, 9, 9), and no axis of 1 to 4 channels"),
        ({"x": BYTES / 255 + 0.5}, "E-DATA: the train values are in [0.5, 1.5]"),
        ({"x": np.full((6, 4, 4), np.nan)}, "E-DATA: the train values are not all finite"),
        ({"x": np.ones((6, 4))}, "E-DATA: all train values are 1"),
        ({"x": BYTES, "y": LABELS[:-1]}, "E-DATA: the train labels have shape (59,)"),
        ({"x": BYTES, "y": LABELS / 2}, "the train labels are of float64"),
        (
            {"x_train": BYTES, "x_test": BYTES, "y_train": LABELS},
            "E-DATA: labels for train, and values for train, test",
        ),
        ({"x_train": BYTES, "x_test": BYTES[:, :4]}, "E-DATA: parts of several kinds"),
        ({"x_train": BYTES, "train_images": BYTES}, "E-DATA: two arrays of train values"),
        ({"x_test": BYTES}, "E-DATA: no train images, but 60 others"),
        ({"a": BYTES, "b": BYTES}, "E-DATA: no array of images or vectors among a, b"),
        ({"x": BYTES[:1]}, "E-DATA: 1 images"),
        ({"x_train": BYTES / 255, "x_test": BYTES[:0] / 255}, "E-DATA: the test values have shape (0, 8, 8)"),
        ({"x": BYTES, "y": np.r_[np.zeros(59, int), 9]}, "a single image in 1 of 2 classes, first 9"),
        ({"x": BYTES / 255, "range": [1, 0]}, "E-DATA: range is [1, 0]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, named, words):
    assert words in refusal(tmp_path, **named)


@pytest.mark.parametrize("key", ["x", "y"])
def test_objects_are_never_unpickled(tmp_path, key):
    named = {"x": BYTES, "y": LABELS} | {key: np.array([{}] * 60, dtype=object)}
    assert f"E-DATA: {key} cannot be read" in refusal(tmp_path, **named)


@pytest.mark.parametrize("content", [b"", b"file,kind\n0.png,cat\n", b"PK\x03\x04"])
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    """And nobody is told to unpickle it, as numpy advises."""
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataFault, match=r"E-DATA.* give an \.npz file") as raised:
        describe(f"npz:{tmp_path / 'a.npz'}")
    assert "pickle" not in str(raised.value)
    with pytest.raises(DataFault, match="E-DATA"):
        describe(f"npz:{tmp_path / 'absent.npz'}")


def test_floats_are_not_resized(tmp_path):
    with pytest.raises(DataFault, match="size must be 8, got 16"):
        opened(written(tmp_path / "a.npz", x=BYTES / 255), tmp_path / "cache", size=16)


@settings(deadline=None, max_examples=60)
@given(
    arrays_of.arrays(np.float32, st.tuples(st.integers(5, 12), st.integers(1, 4)), elements=st.floats(-5, 5, width=32))
)
def test_train_vectors_always_end_in_the_unit_interval(x):
    source = Arrays.of(Path("a.npz"), {"x_train": x[3:], "x_test": x[:3]})
    if x[3:].min() == x[3:].max():
        with pytest.raises(DataFault, match="E-DATA"), source.open():
            pass
        return
    with source.open() as contents:
        train = contents.read(np.arange(contents.n_train))
        assert 0 <= train.min() <= train.max() <= 1
