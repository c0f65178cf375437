"""Decoding: the right pixels and moments, whole or absent, the same with any number of processes."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from certvae.canonical import digest
from certvae.data.dataset import BLOCK, Dataset, open_dataset
from certvae.data.decoding import View, publish, resized
from certvae.data.loading import view
from certvae.data.source import Contents, Unreadable
from certvae.errors import DataFault, DiskFault
from certvae.spec.parts import Data
from tests.small_data import jpeg, tiny_files, write_zip

N_TRAIN = 3 * BLOCK + 5
N = N_TRAIN + 100
ABOUT = {"name": "mnist", "source": "here", "files": digest("files"), "substitute": None}

LOAD = """
import sys
from pathlib import Path
from certvae.data.loading import load
from certvae.spec.parts import Data
print(load(Data(name="tiny-imagenet-200"), Path(sys.argv[1]), cache=Path(sys.argv[2]), progress=False).digest)
"""


def contents() -> Contents:
    images = np.random.default_rng(4).integers(0, 256, (N, 3, 8, 8), dtype=np.uint8)
    return Contents.of_arrays(images, np.arange(N) % 10, n_train=N_TRAIN, classes=10)


def written(path: Path, chosen: View) -> Dataset:
    publish(path, chosen, ABOUT, label=None)
    return open_dataset(path, verify=True)


def test_pixels_labels_and_order_are_those_of_the_source(tmp_path):
    chosen = view(Data(name="mnist"), contents())
    dataset = written(tmp_path / "copy", chosen)
    np.testing.assert_array_equal(dataset.images, contents().read(np.arange(N)))
    np.testing.assert_array_equal(dataset.labels, contents().labels)
    assert isinstance(dataset.images, np.memmap)
    assert not dataset.images.flags.writeable


def test_moments_are_those_of_the_train_rows(tmp_path):
    dataset = written(tmp_path / "copy", view(Data(name="mnist", limit=500), contents()))
    train = dataset.images[dataset.rows("train")] * dataset.scale
    np.testing.assert_allclose(dataset.mean, train.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(dataset.std, train.std(axis=(0, 2, 3)), rtol=1e-12)


def test_the_same_view_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        written(tmp_path / name, view(Data(name="mnist", limit=600), contents()))
    for name in ("images.npy", "labels.npy", "splits.npy", "facts.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_every_visible_choice_changes_the_digest(tmp_path):
    specs = [
        Data(name="mnist"),
        Data(name="mnist", limit=600),
        Data(name="mnist", limit=600, guard_fraction=0.2),
        Data(name="mnist", certify_limit=50),
        Data(name="mnist", classes=9),
        Data(name="mnist", size=16),
    ]
    digests = {written(tmp_path / str(number), view(spec, contents())).digest for number, spec in enumerate(specs)}
    assert len(digests) == len(specs)
    changed = Contents.of_arrays(contents().read(np.arange(N)) ^ 1, contents().labels, n_train=N_TRAIN, classes=10)
    assert written(tmp_path / "changed", view(specs[0], changed)).digest not in digests


@pytest.mark.parametrize(("size", "method"), [(4, "mean"), (8, "same"), (16, "bilinear")])
def test_resizing(size, method):
    images = contents().read(np.arange(5))
    scaled = resized(images, size)
    assert scaled.shape == (5, 3, size, size)
    if method == "mean":
        mean = images.reshape(5, 3, 4, 2, 4, 2).mean(axis=(3, 5))
        assert np.abs(scaled - mean).max() <= 1  # Pillow rounds twice: along rows, then along columns
    elif method == "same":
        np.testing.assert_array_equal(scaled, images)
    else:
        np.testing.assert_array_equal(resized(np.full_like(images, 77), size), np.full_like(scaled, 77))


def test_unreadable_images_are_counted_and_leave_nothing(tmp_path):
    def read(rows):
        bad = [f"image {row}" for row in rows if row % 300 == 7]
        if bad:
            raise Unreadable(bad)
        return np.zeros((len(rows), 1, 8, 8), dtype=np.uint8)

    broken = Contents(labels=contents().labels, n=N, n_train=N_TRAIN, shape=(1, 8, 8), classes=10, read=read)
    with pytest.raises(DataFault, match="E-DATA: 3 of 873 images are unreadable; first: image 7"):
        publish(tmp_path / "copy", view(Data(name="mnist"), broken), ABOUT, label=None)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_changes_nothing(tmp_path):
    chosen = view(Data(name="mnist"), contents())
    first = written(tmp_path / "copy", chosen)
    before = (tmp_path / "copy" / "images.npy").stat().st_ino
    assert written(tmp_path / "copy", chosen) == first
    assert (tmp_path / "copy" / "images.npy").stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_full_disk_is_a_fault_of_the_disk_and_leaves_nothing(tmp_path):
    """The limit on the size of files fails a write exactly as a full disk does, and needs no root."""
    chosen = view(Data(name="mnist"), contents())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskFault, match="E-DISK"):
            publish(tmp_path / "copy", chosen, ABOUT, label=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def large_zip(root: Path) -> None:
    """Enough images that a process can be caught in the middle of decoding them."""
    files = tiny_files(classes=2, train=1, val=2)
    content = jpeg(1)
    for number in range(2000):
        files[f"train/n10000000/images/n10000000_{number}.JPEG"] = content
    write_zip(root / "tiny-imagenet-200.zip", files)


def loader(root: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LOAD, str(root), str(cache)], stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_decode_one_data_set(tmp_path):
    large_zip(tmp_path)
    processes = [loader(tmp_path, tmp_path / "cache") for _ in range(2)]
    digests = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_killed_process_leaves_nothing_that_counts(tmp_path):
    large_zip(tmp_path)
    cache = tmp_path / "cache"
    process = loader(tmp_path, cache)
    deadline = time.monotonic() + 30
    while not list(cache.glob(".tiny*/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (draft,) = cache.iterdir()
    assert draft.name.startswith(".")
    again = loader(tmp_path, cache)
    assert len(again.communicate(timeout=60)[0].strip()) == 64
    (whole,) = cache.iterdir()
    assert not whole.name.startswith(".")
