"""Loading: the same rows for every seed, official files found, fetched or missed, and every refusal in words."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from certvae.data import loading
from certvae.data.dataset import SPLITS, Dataset
from certvae.data.loading import SOURCES, found, load, named, view
from certvae.data.source import Contents
from certvae.errors import DataFault
from certvae.spec.parts import Data
from tests.small_data import (
    batch,
    cifar_files,
    jpeg,
    mnist_files,
    real_data,
    tiny_files,
    write_folder,
    write_tar,
    write_zip,
)

DIGITS_DIGEST = "ad44a2d3f025"
DOWNLOADED = [name for name, official in SOURCES.items() if official.pins]


def opened(root, name: str, **choices) -> Dataset:
    return load(Data(name=name, **choices), root, cache=root / "cache", progress=False)


@pytest.fixture
def no_network(monkeypatch):
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def labelled(n_train: int, n_test: int, classes: int = 10) -> Contents:
    """Contents with labels only: which rows are drawn does not depend on pixels."""
    labels = np.arange(n_train + n_test) % classes
    return Contents.of_arrays(np.zeros((len(labels), 1, 8, 8), np.uint8), labels, n_train=n_train, classes=classes)


def drawn(data: Data, contents: Contents) -> dict[str, set[int]]:
    chosen = view(data, contents)
    return {split: set(chosen.rows[chosen.splits == place].tolist()) for place, split in enumerate(SPLITS)}


@given(st.integers(20, 300), st.integers(10, 100), st.floats(0.1, 0.9), st.data())
@settings(deadline=None)
def test_draws(n_train, n_test, fraction, choice):
    limit = choice.draw(st.integers(20, n_train))
    certify_limit = choice.draw(st.integers(1, n_test))
    data = Data(name="mnist", limit=limit, certify_limit=certify_limit, guard_fraction=fraction)
    rows = drawn(data, labelled(n_train, n_test))
    assert rows == drawn(data, labelled(n_train, n_test))
    assert len(rows["guard"]) == round(limit * fraction)
    assert len(rows["train"]) + len(rows["guard"]) == len(rows["train"] | rows["guard"]) == limit
    assert rows["train"] | rows["guard"] <= set(range(n_train))
    assert len(rows["certify"]) == certify_limit
    assert rows["certify"] <= set(range(n_train, n_train + n_test))


def test_a_smaller_limit_keeps_rows_of_a_larger_one():
    few, many = (drawn(Data(name="mnist", limit=limit), labelled(500, 50)) for limit in (100, 300))
    assert few["train"] | few["guard"] < many["train"] | many["guard"]


def test_rows_are_drawn_from_everywhere():
    rows = drawn(Data(name="mnist", limit=1000), labelled(10_000, 100))
    for split in ("train", "guard"):
        assert 4000 < np.mean(list(rows[split])) < 6000


def test_classes_keeps_the_first_ones():
    contents = labelled(200, 100)
    chosen = view(Data(name="mnist", classes=3), contents)
    assert set(chosen.labels.tolist()) == {0, 1, 2}
    assert chosen.shape == (90, 1, 8, 8)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"limit": 201}, "limit must be <= 200, got 201"),
        ({"certify_limit": 101}, "certify_limit must be <= 100, got 101"),
        ({"classes": 5, "limit": 101}, "limit must be <= 100, got 101"),
        ({"classes": 11}, "classes must be <= 10, got 11"),
        ({"size": 33}, "size must be <= 32, got 33"),
        ({"limit": 4}, "4 train, 0 guard and 100 certify rows: each split needs one"),
        ({"limit": 4, "guard_fraction": 0.99}, "0 train, 4 guard"),
    ],
)
def test_what_a_data_set_cannot_give_is_refused(choices, words):
    with pytest.raises(DataFault, match="E-DATA") as raised:
        view(Data(name="mnist", **choices), labelled(200, 100))
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


def test_digits_are_those_of_scikit_learn(tmp_path):
    dataset = opened(tmp_path, "digits")
    images, labels = load_digits(return_X_y=True)
    scaled = dataset.images.reshape(-1, 64) * dataset.scale
    assert sorted(map(tuple, scaled)) == sorted(map(tuple, np.asarray(images) / 16))
    assert np.bincount(dataset.labels).tolist() == np.bincount(labels).tolist()
    assert [len(dataset.rows(split)) for split in SPLITS] == [1293, 144, 360]
    assert (dataset.shape, dataset.classes, dataset.substitute) == ((1, 8, 8), 10, None)


def test_the_digits_are_the_same_everywhere_and_always(tmp_path):
    """Rows, order and draws are part of every result: a change here changes every key."""
    assert opened(tmp_path, "digits").digest.startswith(DIGITS_DIGEST)


def test_what_is_decoded_in_a_moment_shows_no_bar(tmp_path, capfd):
    load(Data(name="digits", limit=100), cache=tmp_path, progress=True)
    assert capfd.readouterr() == ("", "")


def test_digits_are_not_resized(tmp_path):
    with pytest.raises(DataFault, match="size must be 8, got 16"):
        opened(tmp_path, "digits", size=16)
    assert opened(tmp_path, "digits", size=8).substitute is None


def write_small(root, name: str) -> None:
    match name:
        case "mnist":
            write_folder(root / "MNIST/raw", mnist_files())
        case "fashion-mnist":
            write_folder(root / "FashionMNIST/raw", mnist_files(packed=False))
        case "cifar10":
            write_tar(root / "cifar-10-python.tar.gz", cifar_files("cifar10"))
        case "cifar100":
            write_folder(root, cifar_files("cifar100"))
        case _:
            write_zip(root / "tiny-imagenet-200.zip", tiny_files())


@pytest.mark.parametrize("name", DOWNLOADED)
def test_every_data_set_is_decoded_once_and_then_opened(tmp_path, name):
    write_small(tmp_path, name)
    first = opened(tmp_path, name)
    (copy,) = (tmp_path / "cache").iterdir()
    before = copy.stat().st_mtime_ns
    second = opened(tmp_path, name)
    assert second == first
    assert copy.stat().st_mtime_ns == before
    assert len(first.labels) == len(first.images) == sum(len(first.rows(split)) for split in SPLITS)
    assert first.images.shape[1:] == first.shape
    assert first.scale * first.images.max() <= 1
    assert first.substitute is not None  # these are small ones


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "facts.json"])
def test_a_damaged_copy_is_decoded_again(tmp_path, file, damage):
    before = opened(tmp_path, "digits")
    damage(before.path / file)
    after = opened(tmp_path, "digits")
    assert (after.path, after.digest) == (before.path, before.digest)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [after.path.name]


def test_a_damaged_copy_without_its_files_says_where_they_belong(tmp_path, no_network):
    write_small(tmp_path, "mnist")
    before = opened(tmp_path, "mnist")
    shutil.rmtree(tmp_path / "MNIST")
    (before.path / "labels.npy").unlink()
    with pytest.raises(DataFault, match="E-DATA") as raised:
        opened(tmp_path, "mnist")
    assert SOURCES["mnist"].pins[0].place in raised.value.remedy


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_decoded_copy_serves_alone_where_the_official_files_are_gone(tmp_path, name):
    write_small(tmp_path / "root", name)
    first = load(Data(name=name), tmp_path / "root", cache=tmp_path / "cache", progress=False)
    assert load(Data(name=name), tmp_path / "empty", cache=tmp_path / "cache", progress=False) == first


def test_an_added_image_is_noticed_under_the_decoded_copy(tmp_path):
    folder = write_folder(tmp_path / "tiny-imagenet-200", tiny_files())
    first = opened(tmp_path, "tiny-imagenet-200")
    (folder / ".DS_Store").write_bytes(b"no image")
    assert opened(tmp_path, "tiny-imagenet-200") == first
    (folder / "train/n10000000/images/n10000000_8.JPEG").write_bytes(jpeg(8))
    with pytest.raises(DataFault, match="E-DATA") as raised:
        opened(tmp_path, "tiny-imagenet-200")
    assert f"rm -r {first.path}" in raised.value.remedy


def test_a_changed_archive_is_noticed_under_the_decoded_copy(tmp_path):
    write_small(tmp_path, "mnist")
    opened(tmp_path, "mnist")
    write_folder(tmp_path / "MNIST/raw", mnist_files(train=70))
    with pytest.raises(DataFault, match="E-DATA"):
        opened(tmp_path, "mnist")


def test_zip_and_folder_have_one_digest_and_the_source_says_which_was_read(tmp_path):
    write_folder(tmp_path / "a/tiny-imagenet-200", tiny_files())
    folder = opened(tmp_path / "a", "tiny-imagenet-200")
    write_folder(tmp_path / "b/tiny-imagenet-200", tiny_files())
    write_zip(tmp_path / "b/tiny-imagenet-200.zip", tiny_files())
    archive = opened(tmp_path / "b", "tiny-imagenet-200")
    assert folder.digest == archive.digest
    assert folder.source == str(tmp_path / "a/tiny-imagenet-200")
    assert archive.source == str(tmp_path / "b/tiny-imagenet-200.zip")


def test_unreadable_images_are_an_error(tmp_path):
    bad = "train/n10000000/images/n10000000_3.JPEG"
    write_folder(tmp_path / "tiny-imagenet-200", tiny_files() | {bad: b"no image"})
    with pytest.raises(DataFault, match=f"E-DATA: 1 of 33 images are unreadable; first: {bad}"):
        opened(tmp_path, "tiny-imagenet-200")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_bad_image_outside_the_draw_is_not_looked_at(tmp_path):
    files = tiny_files()
    contents_rows = view(Data(name="tiny-imagenet-200", limit=20), labelled(24, 9, classes=3)).rows
    left_out = sorted(set(range(24)) - set(contents_rows.tolist()))[0]
    name = sorted(name for name in files if name.startswith("train/"))[left_out]
    write_folder(tmp_path / "tiny-imagenet-200", files | {name: b"no image"})
    assert len(opened(tmp_path, "tiny-imagenet-200", limit=20).labels) == 29


def test_every_choice_is_reported_as_a_substitute(tmp_path):
    write_small(tmp_path, "tiny-imagenet-200")
    dataset = opened(tmp_path, "tiny-imagenet-200", classes=2, limit=12, certify_limit=5, size=32)
    assert dataset.substitute == (
        "3 of 200 classes, 8 of 500 train images per class, 9 of 10,000 val images, 2 of 3 classes, "
        "12 of 16 train images drawn, 5 of 6 test images drawn, resized from 64 to 32 pixels"
    )
    assert dataset.classes == 2
    assert dataset.shape == (3, 32, 32)


def test_labels_outside_the_classes_are_refused(tmp_path):
    wide = {"cifar-10-batches-py/test_batch": batch(100, 100, "labels", seed=9)}
    write_tar(tmp_path / "cifar-10-python.tar.gz", cifar_files("cifar10") | wide)
    with pytest.raises(DataFault, match="E-DATA: 200 train and 100 test images, labels 0 to 99 for 10 classes"):
        opened(tmp_path, "cifar10")


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_files_without_a_network_say_where_they_belong(tmp_path, name, no_network):
    with pytest.raises(DataFault, match="E-DATA") as raised:
        opened(tmp_path, name)
    pin = SOURCES[name].pins[0]
    assert pin.place in raised.value.remedy
    assert pin.url in raised.value.where
    assert list(tmp_path.iterdir()) == []


def test_root_is_the_argument_then_the_variable_then_data(tmp_path, monkeypatch):
    for place in ("argument", "variable", "data"):
        write_small(tmp_path / place, "mnist")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CERTVAE_DATA", str(tmp_path / "variable"))

    def source(number: int, root=None) -> str:
        return load(Data(name="mnist"), root, cache=tmp_path / f"cache-{number}", progress=False).source

    assert source(1, tmp_path / "argument") == str(tmp_path / "argument/MNIST/raw")
    assert source(2) == str(tmp_path / "variable/MNIST/raw")
    monkeypatch.delenv("CERTVAE_DATA")
    assert source(3) == str(tmp_path / "data/MNIST/raw")


def test_an_official_file_is_never_taken_for_another_data_set(tmp_path):
    write_small(tmp_path, "mnist")
    assert SOURCES["mnist"].find(tmp_path) is not None
    assert [SOURCES[name].find(tmp_path) for name in DOWNLOADED[1:]] == [None] * 4


class TestNearMisses:
    """Named, or found, before anything is fetched; and nothing is made in a folder of the user."""

    def refused(self, root, name: str = "tiny-imagenet-200") -> str:
        before = sorted(root.parent.rglob("*"))
        with pytest.raises(DataFault) as raised:
            load(Data(name=name), root, cache=root.parent / "cache", progress=False)
        assert sorted(root.parent.rglob("*")) == before
        assert "remove" not in str(raised.value)
        return str(raised.value)

    def test_where_the_files_lie_below_the_root_the_downloads_are_not_looked_at(self, tmp_path, monkeypatch):
        """A folder of caches that this user may not enter, as that of root in a container, ended the run."""

        def refused():
            raise PermissionError

        monkeypatch.setattr(loading, "downloads", refused)
        write_folder(tmp_path / "MNIST/raw", mnist_files())
        assert found(named("mnist"), tmp_path)

    def test_the_folder_of_the_data_set_itself_is_found(self, tmp_path):
        folder = write_folder(tmp_path / "tiny-imagenet-200", tiny_files())
        assert opened(folder, "tiny-imagenet-200").digest == opened(tmp_path, "tiny-imagenet-200").digest
        archive = write_zip(tmp_path / "b/tiny-imagenet-200.zip", tiny_files())
        dataset = load(Data(name="tiny-imagenet-200"), archive, cache=tmp_path / "c", progress=False)
        assert dataset.digest == opened(tmp_path, "tiny-imagenet-200").digest

    def test_one_level_too_deep_or_too_high_is_named(self, tmp_path):
        root = tmp_path / "data"
        write_folder(root / "tiny-imagenet-200", tiny_files())
        text = self.refused(root / "tiny-imagenet-200" / "train")
        assert f"E-DATA: tiny-imagenet-200 is not below {root}/tiny-imagenet-200/train, but" in text
        assert f"--data-root {root}/tiny-imagenet-200" in text
        assert f"--data-root {root}" in self.refused(tmp_path)

    def test_images_of_another_data_set_are_named(self, tmp_path):
        write_folder(tmp_path / "pets", {"cats/0.jpg": jpeg(0), "dogs/0.jpg": jpeg(1)})
        assert f"take them as they are: --data folder:{tmp_path}/pets" in self.refused(tmp_path / "pets")

    def test_a_root_that_is_not_there_is_named(self, tmp_path):
        assert f"not below {tmp_path}/typo, which is not there" in self.refused(tmp_path / "typo")

    def test_another_number_of_classes_is_named(self, tmp_path):
        folder = write_folder(tmp_path / "tiny-imagenet-200", tiny_files(classes=201, train=1, val=1))
        text = self.refused(tmp_path)
        assert "wnids.txt names 201 classes" in text
        assert f"--data folder:{folder}" in text

    def test_a_part_of_mnist_is_named(self, tmp_path):
        files = mnist_files()
        del files["t10k-labels-idx1-ubyte.gz"]
        assert "3 of 4 files are there; absent: t10k-labels-idx1-ubyte" in self.refused(
            write_folder(tmp_path / "raw", files), "mnist"
        )


@pytest.mark.parametrize("junk", ["Thumbs.db", "train/n10000000/images/desktop.ini", "val/images/@eaDir/val_0.JPEG"])
def test_what_a_system_leaves_beside_images_changes_nothing(tmp_path, junk):
    folder = write_folder(tmp_path / "tiny-imagenet-200", tiny_files())
    first = opened(tmp_path, "tiny-imagenet-200")
    write_folder(folder, {junk: b"x"})
    assert opened(tmp_path, "tiny-imagenet-200") == first


def test_names_with_spaces_and_letters_of_every_script_work(tmp_path):
    root = tmp_path / "dir é 数据 🧪"
    write_small(root, "tiny-imagenet-200")
    assert opened(root, "tiny-imagenet-200") == opened(root, "tiny-imagenet-200")


def test_real_mnist(tmp_path):
    root = real_data("MNIST/raw")
    dataset = load(Data(name="mnist"), root, cache=tmp_path, progress=False)
    assert [len(dataset.rows(split)) for split in SPLITS] == [54_000, 6_000, 10_000]
    # The whole train set has mean .1307 and standard deviation .3081, as every tutorial says.
    assert dataset.mean == pytest.approx([0.1307], abs=2e-4)
    assert dataset.std == pytest.approx([0.3081], abs=2e-4)
    assert dataset.substitute is None


def test_real_cifar100_subset(tmp_path):
    dataset = load(Data(name="cifar100"), real_data("cifar-100-python.subset"), cache=tmp_path, progress=False)
    assert [len(dataset.rows(split)) for split in SPLITS] == [1005, 112, 916]
    assert dataset.substitute == "1,117 of 50,000 train images, 916 of 10,000 test images"
    # The standard deviations of all 50,000 train images, behind the 11.48 dB between the two PSNR.
    assert dataset.std == pytest.approx([0.2673, 0.2564, 0.2762], abs=0.01)


def test_real_tiny_imagenet(tmp_path):
    spec = Data(name="tiny-imagenet-200", limit=500, certify_limit=100)
    dataset = load(spec, real_data("tiny-imagenet-200.zip"), cache=tmp_path, progress=False, verify=True)
    assert dataset.images.shape == (600, 3, 64, 64)
    assert dataset.substitute == (
        "300 of 500 train images per class, 500 of 60,000 train images drawn, 100 of 10,000 test images drawn"
    )
    assert dataset.std == pytest.approx([0.277, 0.269, 0.282], abs=0.02)
