"""A pickle is read as data: whatever it asks to run is refused, and does not run."""

import os
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.data.pickled import plain_dict
from tests.small_data import Evil, batch, damaged, real_data

# How Python 2 wrote the official batches: byte strings, and arrays whose bytes are one.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
    b"U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\xfd\xfe\xfftbU\x06labelsq\x08]q\x09(K\x03K\x07eu."
)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 300])
def test_reads_what_numpy_and_pickle_wrote(protocol, n):
    content = batch(n, 10, "labels", seed=5, protocol=protocol)
    read = plain_dict(content)
    np.testing.assert_array_equal(read["data"], np.random.default_rng(5).integers(0, 256, (n, 3072), dtype=np.uint8))
    assert read["filenames"] == [f"image_{number}.png" for number in range(n)]
    assert len(read["labels"]) == n


def test_reads_what_python_2_wrote():
    read = plain_dict(PYTHON_2)
    assert read["data"].tolist() == [[0, 1, 2], [253, 254, 255]]
    assert read["labels"] == [3, 7]


def test_reads_fortran_order():
    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    np.testing.assert_array_equal(plain_dict(pickle.dumps({"data": array}, protocol=2))["data"], array)


@given(st.dictionaries(st.text(max_size=5), st.lists(st.integers(-(2**31), 2**31 - 1) | st.text() | st.none())))
def test_plain_dicts_come_back(value):
    assert plain_dict(pickle.dumps(value, protocol=4)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_malicious_pickle_leaves_no_marker(tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps({"data": Evil(os.mkdir, str(marker))}, protocol=protocol)
    with pytest.raises(ValueError, match=r"asks to run 'posix\.mkdir'"):
        plain_dict(content)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({"data": Evil(int, "3")}, protocol=0),
        b"(iposix\nmkdir\n.",
        b"\x80\x02cnumpy\nndarray\n).",
        b"",
        b"not a pickle",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + bytes([255] * 7) + b"\x7f.",
    ],
)
def test_refuses_what_is_not_plain(content):
    with pytest.raises(ValueError):
        plain_dict(content)


@given(damaged(batch(3, 10, "labels", seed=1)))
def test_a_damaged_pickle_is_read_or_refused(content):
    try:
        read = plain_dict(content)
    except ValueError:
        return
    assert isinstance(read, dict)


def test_the_official_files_hold_three_names_only():
    content = (real_data("cifar-100-python.subset") / "cifar-100-python.subset" / "test").read_bytes()
    names = {argument for opcode, argument, _ in pickletools.genops(content) if opcode.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert plain_dict(content)["data"].shape == (916, 3072)
