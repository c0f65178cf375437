"""Logs: what can be read is read, and what a dying process cut is left out."""

import pytest

from certvae.errors import DiskFault
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints
from certvae.store.log import events, note


def test_events_come_back_in_order(disk: Disk) -> None:
    assert events(disk, "runs") == []
    for number in range(3):
        note(disk, "runs", {"number": number})
    note(disk, "others", {"number": 9})
    assert events(disk, "runs") == [{"number": number} for number in range(3)]


@pytest.mark.parametrize("torn", [b'{"number":', b"\xff\xfe", b"[]", b""])
def test_a_torn_line_is_left_out(disk: Disk, torn: bytes) -> None:
    note(disk, "runs", {"number": 1})
    with (disk.root / "log" / "runs.jsonl").open("ab") as log:
        log.write(torn + b"\n")
    note(disk, "runs", {"number": 2})
    assert events(disk, "runs") == [{"number": 1}, {"number": 2}]


def test_f19_a_full_disk_is_told(disk: Disk) -> None:
    with pytest.raises(DiskFault, match=r"ENOSPC.*free space"):
        note(Disk(disk.root, Failpoints(fail_at="1:ENOSPC")), "runs", {})
