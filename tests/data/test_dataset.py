"""A data set on disk: small to send, and every change of it is noticed."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from certvae.canonical import canonical_json
from certvae.data.dataset import BLOCK, SAMPLED, Dataset, open_dataset, sealed
from certvae.data.decoding import publish
from certvae.data.loading import view
from certvae.data.source import Contents
from certvae.errors import DataFault
from certvae.spec.parts import Data

FILES = ("images.npy", "labels.npy", "splits.npy", "facts.json")
N = 30 * BLOCK


@pytest.fixture
def path(tmp_path) -> Path:
    images = np.random.default_rng(2).integers(0, 256, (N, 1, 8, 8), dtype=np.uint8)
    contents = Contents.of_arrays(images, np.arange(N) % 10, n_train=N - 500, classes=10)
    about = {"name": "mnist", "source": "here", "files": "f", "substitute": "a test"}
    publish(tmp_path / "copy", view(Data(name="mnist"), contents), about, label=None)
    return tmp_path / "copy"


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 64
    file.write_bytes(content)


def image_byte(path: Path, row: int) -> int:
    return (path / "images.npy").stat().st_size - (N - row) * 64


def test_splits_share_no_row_and_cover_all(path):
    dataset = open_dataset(path)
    rows = [dataset.rows(split) for split in ("train", "guard", "certify")]
    assert [len(part) for part in rows] == [6462, 718, 500]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(N))
    assert rows[2].tolist() == list(range(N - 500, N))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in rows)


def measured(dataset: Dataset) -> tuple[str, int]:
    return type(dataset.images).__name__, int(dataset.images[dataset.rows("guard")].sum())


def test_a_worker_gets_a_kilobyte_and_maps_the_arrays_again(path):
    dataset = open_dataset(path)
    here = measured(dataset)
    assert len(pickle.dumps(dataset)) < 2000  # though its arrays are in use
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(measured, (dataset,)) == here
    assert here[0] == "memmap"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_a_truncated_file_is_noticed(path, name, keep):
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataFault, match="E-DATA"):
        open_dataset(path)


@pytest.mark.parametrize("name", FILES)
def test_an_absent_file_is_noticed(path, name):
    (path / name).unlink()
    with pytest.raises(DataFault, match="E-DATA: the decoded copy copy is not what was written: a file is gone"):
        open_dataset(path)


@pytest.mark.parametrize("name", ["labels.npy", "splits.npy", "facts.json"])
def test_a_flipped_bit_in_a_small_file_is_always_noticed(path, name):
    size = (path / name).stat().st_size
    for at in np.linspace(0, size - 1, 40).astype(int).tolist():
        flip(path / name, at)
        with pytest.raises(DataFault, match="E-DATA"):
            open_dataset(path)
        flip(path / name, at)
    assert open_dataset(path).classes == 10


def test_a_flipped_bit_in_the_pixels_is_noticed_by_verify_and_in_samples_at_once(path):
    noticed = 0
    for block in range(N // BLOCK):
        at = image_byte(path, block * BLOCK + 17)
        flip(path / "images.npy", at)
        with pytest.raises(DataFault, match=f"rows {block * BLOCK} to"):
            open_dataset(path, verify=True)
        try:
            open_dataset(path)
        except DataFault:
            noticed += 1
        flip(path / "images.npy", at)
    assert SAMPLED - 2 <= noticed <= SAMPLED


def test_first_and_last_rows_are_always_sampled(path):
    for row in (0, N - 1):
        flip(path / "images.npy", image_byte(path, row))
        with pytest.raises(DataFault, match="E-DATA"):
            open_dataset(path)
        flip(path / "images.npy", image_byte(path, row))


def test_a_worker_notices_that_another_data_set_took_the_place(path):
    dataset = open_dataset(path)
    facts = json.loads((path / "facts.json").read_bytes())["facts"]
    (path / "facts.json").write_bytes(canonical_json(sealed(facts | {"digest": "0" * 64})))
    with pytest.raises(DataFault, match="it holds data set 000000000000, not"):
        dataset.rows("train")


def test_a_layout_of_another_version_is_named(path):
    facts = json.loads((path / "facts.json").read_bytes())["facts"]
    (path / "facts.json").write_bytes(canonical_json(sealed(facts | {"layout": 99})))
    with pytest.raises(DataFault, match="layout 99 was written by another version"):
        open_dataset(path)


def test_pixels_cannot_be_changed_through_the_data_set(path):
    images = open_dataset(path).images
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_identity_is_content_not_place(path, tmp_path):
    dataset = open_dataset(path)
    path.rename(tmp_path / "elsewhere")
    moved = open_dataset(tmp_path / "elsewhere")
    assert moved.identity() == dataset.identity() == {"name": "mnist", "digest": dataset.digest}
    with pytest.raises(DataFault, match="E-DATA"):
        dataset.images.sum()
