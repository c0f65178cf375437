"""What readers share: names of files, and notes for table titles."""

import os

import numpy as np

from certvae.data.source import Contents, Unreadable, counted, file_digest, files_digest, joined


def test_a_full_count_says_nothing():
    assert counted(50_000, 50_000, "train images") is None
    assert counted(1117, 50_000, "train images") == "1,117 of 50,000 train images"


def test_notes_are_joined_and_empty_ones_left_out():
    assert joined(None, None) is None
    assert joined(None, "a", None, "b") == "a, b"
    assert joined(os.fsdecode(b"caf\xe9")) == r"caf\udce9"  # a name in another encoding, which UTF-8 cannot write


def test_file_digests_see_names_and_bytes(tmp_path):
    """The SHA-256 of nothing is the well-known one."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"")
    two.write_bytes(b"")
    assert file_digest(one) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files_digest([one]) != files_digest([two])
    assert files_digest([one, two]) == files_digest([two, one])
    before = files_digest([one, two])
    two.write_bytes(b"2")
    assert files_digest([one, two]) != before


def test_arrays_are_read_by_official_row():
    images = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    contents = Contents.of_arrays(images, np.arange(6, dtype=np.uint8), n_train=4, classes=6)
    np.testing.assert_array_equal(contents.read(np.array([5, 0])), images[[5, 0]])
    assert contents.labels.dtype == np.int64
    assert contents.shape == (1, 2, 2)


def test_unreadable_files_are_counted():
    assert str(Unreadable(["a.JPEG (cut off)", "b.JPEG"])) == "2 unreadable images, first: a.JPEG (cut off)"
