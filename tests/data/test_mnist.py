"""idx files: what they hold, and how a damaged one is told."""

import contextlib
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from certvae.data import mnist
from certvae.errors import DataFault
from tests.small_data import damaged, idx, mnist_files, real_data, write_folder

# Class counts of MNIST: the prior behind the label teacher of arXiv 2605.18224.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def small(folder, **kwargs) -> mnist.Idx:
    write_folder(folder / "MNIST/raw", mnist_files(**kwargs))
    found = mnist.find("mnist", folder)
    assert found is not None
    return found


def read(file: Path) -> np.ndarray:
    return mnist.parsed(file, mnist.unpacked(file))


@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 3, 4)])
def test_idx_comes_back(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "raw").write_bytes(idx(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read(tmp_path / "raw"), array)
    np.testing.assert_array_equal(read(tmp_path / "packed.gz"), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x08\x03\x00\x00\x00\x02",
        b"\x00\x00\x08\xff",
        b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00",
        b"\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        idx(np.zeros((2, 3), dtype=np.uint8))[:-1],
        idx(np.zeros((2, 3), dtype=np.uint8)) + b"\x00",
    ],
)
def test_a_file_that_is_no_idx_file_is_named(tmp_path, content):
    (tmp_path / "bad-idx").write_bytes(content)
    with pytest.raises(DataFault, match="E-DATA: bad-idx cannot be read"):
        read(tmp_path / "bad-idx")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_gz_is_named(tmp_path, keep):
    packed = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)))
    (tmp_path / "cut.gz").write_bytes(packed[:keep])
    with pytest.raises(DataFault, match=r"E-DATA: cut\.gz cannot be read"):
        read(tmp_path / "cut.gz")


@settings(deadline=None)
@given(damaged(idx(np.arange(60, dtype=np.uint8).reshape(5, 3, 4))))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("damaged") / "bad-idx"
    file.write_bytes(content)
    with contextlib.suppress(DataFault):
        assert read(file).size == len(content) - 4 - 4 * content[3]


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    source = small(tmp_path)
    write_folder(source.path, {"train-labels-idx1-ubyte.gz": gzip.compress(idx(np.zeros(59, dtype=np.uint8)))})
    with pytest.raises(DataFault, match="E-DATA"), source.open():
        pass


def test_the_packed_file_wins_and_an_absent_one_is_named_before_anything_is_fetched(tmp_path):
    source = small(tmp_path)
    write_folder(source.path, mnist_files(packed=False))
    found = mnist.find("mnist", tmp_path)
    assert found == source
    assert all(file.suffix == ".gz" for file in source.files)
    for name in ("t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte"):
        (source.path / name).unlink()
    with pytest.raises(DataFault, match="E-DATA: 3 of 4 files are there; absent: t10k-labels-idx1-ubyte"):
        mnist.find("mnist", tmp_path)
    assert mnist.find("fashion-mnist", tmp_path) is None


@pytest.mark.parametrize("packed", [True, False])
def test_dots_for_dashes_and_a_root_one_level_too_deep_are_found(tmp_path, packed):
    files = mnist_files(packed=packed)
    folder = write_folder(tmp_path / "raw", {name.replace("-idx", ".idx"): files[name] for name in files})
    found = mnist.find("mnist", folder)
    assert found is not None
    with small(tmp_path / "official").open() as official, found.open() as mirrored:
        np.testing.assert_array_equal(mirrored.read(np.arange(90)), official.read(np.arange(90)))


def test_the_other_data_set_under_the_same_names_is_named(tmp_path, monkeypatch):
    files = {name: content for name, content in mnist_files().items() if name.startswith("t10k-labels")}
    (labels,) = files.values()
    pinned = ("t10k-labels-idx1-ubyte", len(labels), hashlib.sha256(labels).hexdigest())
    monkeypatch.setitem(mnist._FILES, "fashion-mnist", (*mnist._FILES["fashion-mnist"][:3], pinned))
    write_folder(tmp_path, mnist_files())
    with pytest.raises(DataFault, match="E-DATA: these are the files of fashion-mnist"):
        mnist.find("mnist", tmp_path)


def test_as_many_other_images_are_no_mnist(tmp_path, monkeypatch):
    """Blobs in idx files say in every table that they are not the official ones."""
    monkeypatch.setattr(mnist, "_ROWS", (60, 30))
    with small(tmp_path).open() as contents:
        assert contents.deviation == "not the official files"


def test_says_that_rows_are_missing(tmp_path):
    with small(tmp_path, train=60, test=30).open() as contents:
        assert contents.deviation == "60 of 60,000 train images, 30 of 10,000 test images"
        assert contents.read(np.array([0, 89])).shape == (2, 1, 28, 28)


def test_the_real_files_have_the_known_class_counts():
    found = mnist.find("mnist", real_data("MNIST/raw"))
    assert found is not None
    with found.open() as contents:
        assert contents.labels is not None
        assert np.bincount(contents.labels[: contents.n_train]).tolist() == TRAIN_COUNTS
        assert np.bincount(contents.labels[contents.n_train :]).tolist() == TEST_COUNTS
        assert contents.deviation is None
