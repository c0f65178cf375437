"""Rows by column: the same numbers as the rows, made again whenever they are not, and nothing lost by any kill."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from certvae.__main__ import main
from certvae.canonical import digest
from certvae.errors import DiskFault, StoreFault
from certvae.looks.view import RESTATED
from certvae.store import audit, records, segments
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints
from certvae.store.folders import Corrupt
from certvae.store.locks import hold
from certvae.store.selftest import ended, forked
from certvae.store.store import Store

STUDY = "tiny-digits"
KINDS = {"mode": "full", "margin": 0.1 + 0.2, "dead": True, "spec": {"b": [1, 2], "a": None}, "bound": None}


def row(seed: int, **more: object) -> dict:
    return {"study": STUDY, "seed": seed, **KINDS, **more}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Store(tmp_path / "store").disk
    for seed in range(5):
        records.put_row(disk, row(seed))
    return disk


def told(disk: Disk) -> list[dict]:
    """The lines of the segments as rows, by name."""
    return sorted(segments.columns(disk, STUDY).to_pylist(), key=lambda line: line["digest"])


def as_rows(disk: Disk) -> list[dict]:
    """What `told` must be."""
    rows = sorted(({**one, "digest": digest(one)} for one in records.rows(disk, STUDY)), key=lambda one: one["digest"])
    plain = [{**one, "spec": json.dumps(one["spec"], separators=(",", ":"), sort_keys=True)} for one in rows]
    filled = {name for one in plain for name, value in one.items() if value is not None}
    return [{name: one.get(name) for name in filled} for one in plain]


def test_every_number_is_that_of_its_row(disk):
    assert segments.compact(disk, STUDY) == (5, 5)
    assert told(disk) == as_rows(disk)
    assert segments.columns(disk, STUDY, ["seed", "margin", "unheard of"]).column_names == ["seed", "margin"]


def test_without_file_locks_nothing_is_written_and_a_copy_elsewhere_is_compacted(disk, monkeypatch, tmp_path):
    """Two at once would not take turns, and every row would be there twice."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", unsupported)
        with pytest.raises(StoreFault, match="found a file system that has none"):
            segments.compact(disk, STUDY)
    assert segments.segments(disk, STUDY) == []
    shutil.copytree(disk.root, tmp_path / "copy")
    assert segments.compact(Disk(tmp_path / "copy"), STUDY) == (5, 5)


def test_a_text_that_every_row_repeats_is_held_once(disk):
    segments.compact(disk, STUDY)
    records.put_row(disk, row(5))
    segments.compact(disk, STUDY)
    read = segments.columns(disk, STUDY)
    assert len(segments.segments(disk, STUDY)) == 2
    assert [name for name in ("study", "spec", "digest") if pa.types.is_dictionary(read[name].type)] == [
        "study",
        "spec",
    ]
    assert set(read["study"].to_pylist()) == {STUDY}


def test_what_is_there_is_not_made_again_and_what_is_new_comes_beside_it(disk):
    segments.compact(disk, STUDY)
    [first] = segments.segments(disk, STUDY)
    assert segments.compact(disk, STUDY) == (5, 0)
    records.put_row(disk, row(5, bound=7, note="a column that no other row has"))
    assert segments.compact(disk, STUDY) == (6, 1)
    assert first in segments.segments(disk, STUDY)
    assert told(disk) == as_rows(disk)


def test_whole_numbers_and_others_meet_over_segments(disk):
    for seed, value in enumerate((1, 0.5, None, 2**40)):
        records.put_row(disk, {"study": "other", "seed": seed, "value": value})
        segments.compact(disk, "other")
    found = segments.columns(disk, "other", ["seed", "value"]).to_pylist()
    assert {line["seed"]: line["value"] for line in found} == {0: 1.0, 1: 0.5, 2: None, 3: 2.0**40}


def test_rows_are_cut_into_segments(disk, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 2)
    assert segments.compact(disk, STUDY) == (5, 5)
    assert len(segments.segments(disk, STUDY)) == 3
    assert told(disk) == as_rows(disk)


def test_a_row_that_was_replaced_takes_its_segment_away(disk):
    segments.compact(disk, STUDY)
    records.replace_row(disk, row(3), row(3, margin=0.75))
    assert segments.compact(disk, STUDY) == (5, 5)
    assert told(disk) == as_rows(disk)
    assert 0.75 in segments.columns(disk, STUDY, ["margin"])["margin"].to_pylist()


def test_a_column_that_is_left_out_goes_from_older_segments_too(disk):
    segments.compact(disk, STUDY)
    before = segments.segments(disk, STUDY)
    assert segments.compact(disk, STUDY, ["margin", "unheard of"]) == (5, 5)
    assert "margin" not in segments.columns(disk, STUDY).column_names
    assert not set(before) & set(segments.segments(disk, STUDY))
    assert segments.compact(disk, STUDY, ["margin", "unheard of"]) == (5, 0)


def test_the_command_leaves_out_bounds_that_did_not_pay_for_other_claims(disk, capsys):
    records.put_row(disk, row(5, population_bound=0.5, certified_population=True, spread_lower_bound=1.0))
    assert main(["store", "compact", "--store", str(disk.root)]) == 0
    there = segments.columns(disk, STUDY).column_names
    assert "spread_lower_bound" in there
    assert not set(there) & set(RESTATED)


def test_one_of_two_at_once_waits_so_that_no_row_is_there_twice(disk, monkeypatch):
    began, go_on, read = threading.Event(), threading.Event(), segments.get_record

    def slow(disk, path):
        began.set()
        go_on.wait(60)
        return read(disk, path)

    monkeypatch.setattr(segments, "get_record", slow)
    first, second = (threading.Thread(target=segments.compact, args=(disk, STUDY)) for _ in range(2))
    first.start()
    assert began.wait(60)
    monkeypatch.setattr(segments, "get_record", read)
    records.put_row(disk, row(5))
    second.start()
    second.join(0.3)
    go_on.set()
    first.join()
    second.join()
    assert told(disk) == as_rows(disk)


def test_who_stops_in_the_middle_is_named_and_ended_lets_the_next_one_go_on(disk, monkeypatch):
    monkeypatch.setattr(segments, "IDLE", 0.2)
    lock = disk.root / "lock" / f"segments.{STUDY}"

    def stuck():
        with hold(lock):
            signal.pause()

    holder = forked(stuck)
    while not (lock.exists() and lock.read_text()):
        time.sleep(0.01)
    with pytest.raises(StoreFault, match=rf"waited .* for the segments of {STUDY}: process {holder}.*end that process"):
        segments.compact(disk, STUDY)
    os.kill(holder, signal.SIGKILL)
    ended(holder)
    assert segments.compact(disk, STUDY) == (5, 5)


class TestDamage:
    def test_is_noticed_by_a_reader_and_by_verify_and_mended_by_repair_and_compact(self, disk):
        segments.compact(disk, STUDY)
        [path] = segments.segments(disk, STUDY)
        data = path.read_bytes()
        path.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
        with pytest.raises(Corrupt, match=r"another SHA-256.*store compact"):
            segments.columns(disk, STUDY, ["seed"])
        [finding] = audit.verify(disk.root).findings
        assert (finding.path, finding.bit) == (path, audit.CORRUPT)
        assert audit.repair(disk.root).exit_code == 0
        assert segments.compact(disk, STUDY) == (5, 5)
        assert told(disk) == as_rows(disk)

    def test_is_mended_by_compact_alone(self, disk):
        segments.compact(disk, STUDY)
        segments.segments(disk, STUDY)[0].write_bytes(b"")
        assert segments.compact(disk, STUDY) == (5, 5)
        assert audit.verify(disk.root).exit_code == 0

    def test_rows_are_the_truth_whatever_becomes_of_segments(self, disk):
        before = records.rows(disk)
        segments.compact(disk, STUDY)
        segments.segments(disk, STUDY)[0].unlink()
        assert records.rows(disk) == before
        assert audit.verify(disk.root).exit_code == 0


def every_step(disk: Disk, act: Callable[[Failpoints, int], None]) -> int:
    counting = Disk(disk.root, Failpoints())
    segments.compact(counting, STUDY)
    steps = counting.failpoints.steps
    for step in range(1, steps + 1):
        shutil.rmtree(disk.root / segments.VIEWS / STUDY)
        act(Failpoints(kill_at=str(step)), step)
        before = records.rows(disk, STUDY)
        assert len(before) == 5
        segments.compact(disk, STUDY)
        assert told(disk) == as_rows(disk)
        Store(disk.root)  # sweeps what the dead left
        assert audit.verify(disk.root).exit_code == 0
    return steps


def test_mixed_kinds_and_what_has_parts_are_json(disk):
    for seed, value in enumerate((1, "text", [2, None], 2**70)):
        records.put_row(disk, {"study": "other", "seed": seed, "value": value})
    segments.compact(disk, "other")
    found = segments.columns(disk, "other", ["seed", "value"]).to_pylist()
    assert {line["seed"]: line["value"] for line in found} == {0: "1", 1: '"text"', 2: "[2,null]", 3: str(2**70)}


def test_killed_at_any_step_it_loses_nothing_and_goes_on(disk):
    def killed(failpoints: Failpoints, _: int) -> None:
        child = forked(lambda: segments.compact(Disk(disk.root, failpoints), STUDY))
        assert ended(child) == -signal.SIGKILL

    assert every_step(disk, killed) >= 5


def test_a_full_disk_at_any_step_is_said_and_loses_nothing(disk):
    def full(_: Failpoints, step: int) -> None:
        with contextlib.suppress(DiskFault):  # what cannot be cleared away is no fault
            segments.compact(Disk(disk.root, Failpoints(fail_at=f"{step}:ENOSPC")), STUDY)

    every_step(disk, full)


def test_the_command_says_what_it_wrote_and_refuses_what_is_no_store(disk, tmp_path, capsys):
    assert main(["store", "compact", "--store", str(disk.root)]) == 0
    assert "5 rows, 5 of them new, in " in capsys.readouterr().out
    assert main(["store", "compact", "--store", str(tmp_path)]) != 0
    assert "found no STORE.json" in capsys.readouterr().err
