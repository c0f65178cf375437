"""A data set before it is decoded: the rows that a run will have, the faults that a run would meet, and no file."""

import numpy as np
import pytest

from certvae.data.dataset import SPLITS, Dataset
from certvae.data.loading import foreseen, load
from certvae.data.undecoded import Undecoded
from certvae.errors import DataFault
from certvae.spec.parts import Data
from tests.small_data import cifar_files, mnist_files, tiny_files, write_folder, write_tar, write_zip

FORMS = {
    "digits": ("digits", lambda _: None),
    "zip": ("tiny-imagenet-200", lambda root: write_zip(root / "tiny-imagenet-200.zip", tiny_files())),
    "folder": ("tiny-imagenet-200", lambda root: write_folder(root / "tiny-imagenet-200", tiny_files())),
    "idx": ("mnist", lambda root: write_folder(root / "MNIST/raw", mnist_files())),
    "tar": (
        "cifar10",
        lambda root: write_tar(root / "cifar-10-python.tar.gz", cifar_files("cifar10")),
    ),
}


def entries(root) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.mark.parametrize("choices", [{}, {"limit": 12, "certify_limit": 5}, {"classes": 2}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_rows_labels_and_words_are_those_of_the_decoded_copy_and_nothing_is_left(form, choices, tmp_path):
    name, write = FORMS[form]
    write(tmp_path)
    before, data, cache = entries(tmp_path), Data(name=name, **choices), tmp_path / "cache"
    ahead = foreseen(data, tmp_path, cache=cache)
    assert entries(tmp_path) == before
    assert isinstance(ahead, Undecoded)
    decoded = load(data, tmp_path, cache=cache, progress=False)
    for split in SPLITS:
        np.testing.assert_array_equal(ahead.rows(split), decoded.rows(split))
    np.testing.assert_array_equal(ahead.labels, decoded.labels)
    shown = [(one.name, one.shape, one.classes, one.scale, one.substitute) for one in (ahead, decoded)]
    assert shown[0] == shown[1]
    assert ahead.decoded == decoded.images.nbytes
    again = foreseen(data, tmp_path, cache=cache)
    assert (type(again), again.digest) == (Dataset, decoded.digest)


def test_what_is_not_there_is_counted_as_published_and_named_with_its_size(tmp_path):
    ahead = foreseen(Data(name="cifar10"), cache=tmp_path / "cache")
    assert [len(ahead.rows(split)) for split in SPLITS] == [45_000, 5_000, 10_000]
    assert str(ahead).startswith("not on this machine: a run downloads 170 MB from www.cs.toronto.edu. Rows as")
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "root", "choices"),
    [("mnist", "absent", {}), ("mnist", ".", {"limit": 10**6}), ("tiny-imagenet-200", "tiny-imagenet-200/train", {})],
)
def test_a_fault_is_that_of_a_run(name, root, choices, tmp_path):
    for _, write in FORMS.values():
        write(tmp_path)
    data, told = Data(name=name, **choices), []
    for asked in (foreseen, load):
        with pytest.raises(DataFault) as fault:
            asked(data, tmp_path / root, cache=tmp_path / "cache")
        told.append(str(fault.value))
    assert told[0] == told[1]


def test_a_damaged_copy_is_left_to_the_run_that_decodes_it_again(tmp_path):
    cache = tmp_path / "cache"
    decoded = load(Data(name="digits"), cache=cache, progress=False)
    (decoded.path / "labels.npy").write_bytes(b"")
    before = entries(tmp_path)
    assert not foreseen(Data(name="digits"), cache=cache).is_decoded
    assert entries(tmp_path) == before
