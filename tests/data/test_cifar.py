"""CIFAR archives and folders give the same rows; damaged ones are named."""

import os
import pickle
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest

from certvae.data import cifar
from certvae.data.pickled import plain_dict
from certvae.errors import DataFault
from tests.small_data import Evil, cifar_files, real_data, write_folder, write_tar

LAYOUTS = {"cifar10": cifar.TEN, "cifar100": cifar.HUNDRED}
Name = Literal["cifar10", "cifar100"]
NAMES: tuple[Name, ...] = get_args(Name)


def found(name: Name, root: Path) -> cifar.Cifar:
    source = cifar.find(LAYOUTS[name], root)
    assert source is not None
    return source


@pytest.mark.parametrize("name", NAMES)
def test_archive_and_folder_are_one_data_set(tmp_path, name):
    files = cifar_files(name)
    write_tar(tmp_path / "tar" / LAYOUTS[name].archive.place, files)
    write_folder(tmp_path / "folder", files)
    rows = np.arange(300)
    with found(name, tmp_path / "tar").open() as packed, found(name, tmp_path / "folder").open() as extracted:
        np.testing.assert_array_equal(packed.read(rows), extracted.read(rows))
        np.testing.assert_array_equal(packed.labels, extracted.labels)
        assert packed.shape == (3, 32, 32)
        assert packed.n_train == 200
        assert packed.deviation == "200 of 50,000 train images, 100 of 10,000 test images"


def test_pixels_are_planes_of_red_green_and_blue(tmp_path):
    """A row of 3,072 bytes is 1,024 red, then green, then blue values, each plane row by row."""
    files = cifar_files("cifar100", train=10, test=5)
    write_folder(tmp_path, files)
    with found("cifar100", tmp_path).open() as contents:
        image = contents.read(np.array([3]))[0]
    row = plain_dict(files["cifar-100-python/train"])["data"][3]
    assert image[1, 2, 5] == row[1024 + 2 * 32 + 5]


def test_the_archive_wins_over_the_folder_beside_it(tmp_path):
    write_folder(tmp_path, cifar_files("cifar10"))
    archive = write_tar(tmp_path / "cifar-10-python.tar.gz", cifar_files("cifar10"))
    assert found("cifar10", tmp_path).path == archive


def test_a_malicious_folder_leaves_no_marker(tmp_path):
    marker = tmp_path / "marker"
    evil = pickle.dumps({"data": Evil(os.mkdir, str(marker)), "fine_labels": [0]}, protocol=2)
    write_folder(tmp_path, cifar_files("cifar100") | {"cifar-100-python/train": evil})
    with pytest.raises(DataFault, match=r"E-DATA: train is no batch of images: .* it asks to run"):
        found("cifar100", tmp_path).open().__enter__()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "train is no batch"),
        (pickle.dumps({"fine_labels": [1]}, protocol=2), "train is no batch of images: 'data'"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "fine_labels": [1, 1]}, protocol=2), "cannot reshape"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]}, protocol=2), "2 images and labels"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["x"]}, protocol=2), "of integer"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0.5]}, protocol=2), "of integer"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "fine_labels": [1]}, protocol=2), "float64 instead of uint8"),
        (pickle.dumps({"data": np.array([{}]), "fine_labels": [1]}, protocol=2), "object instead of uint8"),
    ],
)
def test_a_file_that_is_no_batch_is_named(tmp_path, content, words):
    write_folder(tmp_path, cifar_files("cifar100") | {"cifar-100-python/train": content})
    with pytest.raises(DataFault, match="E-DATA") as raised, found("cifar100", tmp_path).open():
        pass
    assert words in str(raised.value)


def test_absent_batches_are_named(tmp_path):
    files = cifar_files("cifar10")
    del files["cifar-10-batches-py/data_batch_3"]
    write_tar(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(DataFault, match="data_batch_3 absent"), found("cifar10", tmp_path).open():
        pass


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_itself_may_be_the_root(tmp_path, name):
    write_folder(tmp_path, cifar_files(name))
    (folder,) = tmp_path.iterdir()
    assert found(name, folder).path == folder
    assert cifar.find(LAYOUTS["cifar10" if name == "cifar100" else "cifar100"], folder) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_sees_every_byte(tmp_path, name):
    files = cifar_files(name)
    before = found(name, write_folder(tmp_path, files)).fingerprint
    assert found(name, tmp_path).fingerprint == before
    changed = next(iter(files))
    write_folder(tmp_path, {changed: files[changed][:-2] + b"\x00."})
    assert found(name, tmp_path).fingerprint != before


def test_the_real_subset_is_reported_as_one():
    with found("cifar100", real_data("cifar-100-python.subset")).open() as contents:
        assert contents.deviation == "1,117 of 50,000 train images, 916 of 10,000 test images"
        assert contents.labels.shape == (2033,)
        assert contents.labels.max() == 99
