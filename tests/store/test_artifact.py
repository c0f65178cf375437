"""Contents and artifacts: same values, same bytes; what is read was verified."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from certvae.errors import ConfigFault, NumberFault
from certvae.store.artifact import ARRAYS, FACTS, Artifact, Content, read_content, refuse_non_finite
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt, publish

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAY = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CONTENT = Content({"x": np.arange(6.0).reshape(2, 3), "n": np.array(3)}, {"curve": [1, 2.5, None], "name": "é"})


def made(disk: Disk, content: Content = CONTENT) -> Artifact:
    folder = publish(disk, "obj", {"stage": "s"}, content.files())
    return Artifact("s", folder.path.name, folder.digest, folder.path)


class TestContent:
    @given(st.dictionaries(st.text(max_size=8), ARRAY, max_size=4))
    def test_arrays_come_back_bit_for_bit(self, arrays: dict[str, np.ndarray]) -> None:
        found = safetensors.numpy.load(Content(arrays, {}).files()[ARRAYS])
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()

    @given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
    def test_facts_have_one_text(self, facts: dict[str, Any]) -> None:
        shuffled = dict(reversed(facts.items()))
        assert Content({}, facts).files() == Content({}, shuffled).files()

    def test_neither_order_nor_memory_layout_nor_byte_order_matters(self) -> None:
        x = np.arange(12.0).reshape(3, 4)
        wanted = Content({"a": x, "b": x.T.copy()}, {}).files()
        assert Content({"b": np.asfortranarray(x.T), "a": x.astype(">f8")}, {}).files() == wanted

    def test_bytes_do_not_differ_between_processes(self) -> None:
        """Safetensors metadata with two entries would: its map is ordered by a random hash."""
        program = (
            "import numpy as np; from certvae.store.artifact import Content; import sys;"
            "c = Content({n: np.arange(3.0) for n in 'dcba'}, {n: 1 for n in 'dcba'});"
            "sys.stdout.buffer.write(b''.join(c.files().values()))"
        )
        texts = {
            subprocess.run(
                [sys.executable, "-c", program],
                check=True,
                capture_output=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
            for seed in ("1", "2")
        }
        assert len(texts) == 1

    @pytest.mark.parametrize("array", [[1.0], np.array(["text"]), np.array([None]), np.zeros(2, "complex128")])
    def test_refuses_what_is_no_plain_array(self, array: Any) -> None:
        with pytest.raises(TypeError, match="array 'x' must be a numpy array of"):
            Content({"x": array}, {}).files()

    @pytest.mark.parametrize("fact", [math.nan, math.inf, np.float64("nan"), {1: 2}, Path("x")])
    def test_refuses_what_is_no_plain_fact(self, fact: Any) -> None:
        with pytest.raises(ConfigFault):
            Content({}, {"fact": fact}).files()

    def test_a_result_that_is_not_finite_is_refused_by_name(self) -> None:
        refuse_non_finite("s", {"ok": np.ones(3), "whole": np.arange(3)})
        with pytest.raises(NumberFault, match="2 of 3 values of 'bad' are NaN or infinite"):
            refuse_non_finite("s", {"ok": np.ones(3), "bad": np.array([np.nan, 1.0, -np.inf])})


class TestArtifact:
    def test_gives_back_arrays_and_facts(self, disk: Disk) -> None:
        artifact = made(disk)
        assert artifact.facts == CONTENT.facts
        assert artifact.arrays.keys() == CONTENT.arrays.keys()
        for name, array in artifact.arrays.items():
            np.testing.assert_array_equal(array, CONTENT.arrays[name], strict=True)

    def test_arrays_belong_to_the_caller(self, disk: Disk) -> None:
        artifact = made(disk)
        artifact.arrays["x"][:] = 0
        assert artifact.arrays["x"].sum() == 15

    def test_is_small_and_crosses_process_borders(self, disk: Disk) -> None:
        data = pickle.dumps(made(disk))
        assert len(data) < 1000
        assert pickle.loads(data) == made(disk)  # noqa: S301 - Ray pickles what tasks return

    def test_is_named_by_what_it_holds(self, disk: Disk) -> None:
        assert made(disk).identity() == {"artifact": made(disk).digest}

    def test_facts_are_read_without_arrays(self, disk: Disk) -> None:
        artifact = made(disk)
        data = bytearray((artifact.path / ARRAYS).read_bytes())
        data[-1] ^= 1
        (artifact.path / ARRAYS).write_bytes(data)
        assert artifact.facts == CONTENT.facts
        with pytest.raises(Corrupt, match="another SHA-256"):
            _ = artifact.arrays

    @pytest.mark.parametrize("name", [ARRAYS, FACTS])
    def test_f23_a_changed_bit_is_noticed_and_moved_away(self, disk: Disk, name: str) -> None:
        artifact = made(disk)
        data = bytearray((artifact.path / name).read_bytes())
        data[len(data) // 2] ^= 64
        (artifact.path / name).write_bytes(data)
        with pytest.raises(Corrupt, match=name):
            _ = artifact.facts if name == FACTS else artifact.arrays
        assert not artifact.path.exists()
        assert len(list((disk.root / "quarantine").iterdir())) == 1
        with pytest.raises(Corrupt, match="it is gone"):
            _ = artifact.facts

    def test_an_object_replaced_by_another_good_one_is_noticed(self, disk: Disk) -> None:
        artifact = made(disk)
        (disk.root / "obj" / artifact.key).rename(disk.root / "away")
        made(disk, Content({}, {"other": 1}))
        with pytest.raises(Corrupt, match="content digest"):
            _ = artifact.facts

    @pytest.mark.parametrize(
        "files", [{FACTS: b"{}", ARRAYS: b"no such format"}, {FACTS: b"{}", ARRAYS: b"\xff" * 40}, {FACTS: b"{}"}]
    )
    def test_well_sealed_nonsense_is_corrupt(self, disk: Disk, files: dict[str, bytes]) -> None:
        folder = publish(disk, "obj", {}, files)
        with pytest.raises(Corrupt, match=ARRAYS):
            read_content(folder)
