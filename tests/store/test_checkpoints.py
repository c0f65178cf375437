"""Checkpoints: the last good one, of this stage alone, and none once the stage is done."""

import numpy as np
import pytest

from certvae.errors import DeterminismFault, DiskFault
from certvae.store.artifact import ARRAYS, Content
from certvae.store.checkpoints import Checkpoints, forget_finished
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints

KEY, OTHER = "1" * 64, "2" * 64


def progress(step: int) -> Content:
    return Content({"x": np.full(3, float(step))}, {"step": step})


def count(disk: Disk) -> int:
    return len(list((disk.root / "ckpt").iterdir()))


def test_there_is_none_at_the_start(disk: Disk) -> None:
    assert Checkpoints(disk, KEY).latest() is None


def test_only_the_last_one_is_kept(disk: Disk) -> None:
    checkpoints = Checkpoints(disk, KEY)
    for step in (1, 2, 10):
        checkpoints.save(step, progress(step))
        assert count(disk) == 1
        found = checkpoints.latest()
        assert found is not None
        assert found[0] == found[1].facts["step"] == step
        np.testing.assert_array_equal(found[1].arrays["x"], np.full(3, float(step)))


def test_stages_do_not_see_each_other(disk: Disk) -> None:
    Checkpoints(disk, KEY).save(1, progress(1))
    Checkpoints(disk, OTHER).save(2, progress(2))
    assert count(disk) == 2
    Checkpoints(disk, OTHER).forget()
    assert Checkpoints(disk, OTHER).latest() is None
    assert Checkpoints(disk, KEY).latest() is not None


def test_f05_a_corrupt_one_is_passed_over(disk: Disk) -> None:
    """Two are there when the process died between publishing the second and removing the first."""
    keep = disk.root / "keep"
    checkpoints = Checkpoints(disk, KEY)
    checkpoints.save(1, progress(1))
    (first,) = (disk.root / "ckpt").iterdir()
    first.rename(keep)
    checkpoints.save(2, progress(2))
    keep.rename(first)
    (second,) = {*(disk.root / "ckpt").iterdir()} - {first}
    data = bytearray((second / ARRAYS).read_bytes())
    data[-1] ^= 1
    (second / ARRAYS).write_bytes(data)
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == 1
    assert not second.exists()
    (first / ARRAYS).unlink()
    assert checkpoints.latest() is None


def test_f26_one_step_has_one_content(disk: Disk) -> None:
    checkpoints = Checkpoints(disk, KEY)
    checkpoints.save(1, progress(1))
    checkpoints.save(1, progress(1))
    with pytest.raises(DeterminismFault):
        checkpoints.save(1, progress(2))


def test_f19_a_full_disk_keeps_the_one_before(disk: Disk) -> None:
    Checkpoints(disk, KEY).save(1, progress(1))
    full = Disk(disk.root, Failpoints(fail_at="3+:ENOSPC"))
    with pytest.raises(DiskFault, match=r"disk full .* checkpoint 2 of stage walk .*what was published before is kept"):
        Checkpoints(full, KEY, "stage walk").save(2, progress(2))
    found = Checkpoints(disk, KEY).latest()
    assert found is not None
    assert found[0] == 1


def test_those_of_finished_stages_are_forgotten(disk: Disk) -> None:
    Checkpoints(disk, KEY).save(1, progress(1))
    Checkpoints(disk, OTHER).save(1, progress(1))
    (disk.root / "obj" / OTHER).mkdir()
    forget_finished(disk)
    assert Checkpoints(disk, KEY).latest() is not None
    assert Checkpoints(disk, OTHER).latest() is None
