"""What is found of certify rows: leaks, near-duplicates, repetitions; measured once."""

import numpy as np
import pytest

from certvae.data import preconditions as tested
from certvae.data.dataset import Dataset
from certvae.data.loading import describe, load
from certvae.data.preconditions import measured, preconditions
from certvae.spec.parts import Data
from tests.small_data import real_data


def brought(tmp_path, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Dataset:
    """Arrays as a data set of one's own."""
    path = tmp_path / "rows.npz"
    np.savez(path, x_train=train, x_val=val, x_test=test)
    place = f"npz:{path}"
    return load(Data(name=describe(place).name), place, cache=tmp_path / "cache", progress=False)


def images(n: int, seed: int, side: int = 16) -> np.ndarray:
    """Smooth images, of which no two are alike."""
    rough = np.random.default_rng(seed).integers(0, 256, (n, 4, 4), dtype=np.uint8)
    return rough.repeat(side // 4, axis=1).repeat(side // 4, axis=2)


def test_all_is_well_where_no_row_is_in_two_splits(tmp_path):
    found = preconditions(brought(tmp_path, images(40, 0), images(10, 1), images(20, 2)))
    told = {"n": 20, "in_train": 0, "in_guard": 0, "leaked": 0, "near": 0, "distinct": 20}
    assert {name: value for name, value in found.facts.items() if name != "certify"} == told
    assert found.unseen.all()


def test_planted_rows_are_found_in_both_splits(tmp_path):
    train, val, test = images(40, 0), images(10, 1), images(20, 2)
    test[[3, 4, 9]], test[[11, 12]], val[0] = train[[7, 8, 9]], val[[5, 6]], train[9]
    found = preconditions(brought(tmp_path, train, val, test))
    assert [found.facts[name] for name in ("in_train", "in_guard", "leaked", "distinct")] == [3, 3, 5, 20]
    assert np.flatnonzero(~found.unseen).tolist() == [3, 4, 9, 11, 12]


def test_rows_that_repeat_within_certify_are_counted(tmp_path):
    test = images(20, 2)
    test[10:15] = test[0]
    dataset = brought(tmp_path, images(40, 0), images(10, 1), test)
    for found in (preconditions(dataset), preconditions(dataset)):  # measured, then read
        assert found.facts["distinct"] == 15
        assert np.flatnonzero(~found.counted).tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(("noise", "near"), [(2, 5), (60, 0)])
def test_rows_that_differ_by_noise_alone_are_near_and_no_leak(tmp_path, noise, near):
    train, test, generator = images(40, 0), images(20, 2), np.random.default_rng(3)
    moved = train[:5].astype(int) + generator.integers(-noise, noise + 1, train[:5].shape)
    test[:5] = np.clip(moved, 0, 255)
    found = preconditions(brought(tmp_path, train, images(10, 1), test)).facts
    assert (found["near"], found["leaked"]) == (near, 0)


def test_vectors_and_small_images_have_no_hash(tmp_path):
    vectors = np.random.default_rng(0).random((70, 12))
    assert preconditions(brought(tmp_path, vectors[:40], vectors[40:50], vectors[50:])).facts["near"] is None


def test_equal_certify_rows_are_one_resource_whatever_stands_beside_them(tmp_path):
    digests = []
    for seed, test in ((0, images(20, 2)), (5, images(20, 2)[::-1])):
        (tmp_path / str(seed)).mkdir()
        dataset = brought(tmp_path / str(seed), images(40, seed), images(10, 1), test)
        digests.append((dataset.digest, preconditions(dataset).facts["certify"]))
    (first, rows), (second, same) = digests
    assert first != second
    assert rows == same


def test_it_is_measured_once_and_again_when_the_record_is_damaged(tmp_path, monkeypatch):
    dataset, calls = brought(tmp_path, images(40, 0), images(10, 1), images(20, 2)), []

    def counted(one: Dataset):
        calls.append(one)
        return measured(one)

    monkeypatch.setattr(tested, "measured", counted)
    wanted = preconditions(dataset).facts
    assert preconditions(dataset).facts == wanted
    assert len(calls) == 1
    [record] = (tmp_path / "cache").glob("preconditions-*/facts.json")
    record.write_text("{}")
    assert preconditions(dataset).facts == wanted
    assert len(calls) == 2


@pytest.mark.slow
def test_the_official_rows_of_tiny_imagenet_repeat_four_train_images(tmp_path):
    root = real_data("tiny-imagenet-200.zip")
    dataset = load(Data(name="tiny-imagenet-200"), root, cache=tmp_path, progress=False)
    assert preconditions(dataset).facts["leaked"] == 4
