"""Locks: one holder per key, freed by any death, and never needed for a right result."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from certvae.errors import DiskFault
from certvae.store import locks as module
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints
from certvae.store.locks import Held, KeyLocks, hold
from certvae.store.selftest import ended, forked
from tests.lock_files import busy

KEY = "1" * 64


def holder(locks: KeyLocks) -> int:
    """A child that holds the key until it is killed; it holds it when this returns."""
    reading, writing = os.pipe()

    def hold() -> None:
        with locks.hold(KEY):
            os.write(writing, b"x")
            signal.pause()

    pid = forked(hold)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    return pid


def test_f27_the_kernel_frees_the_lock_of_a_killed_holder(disk: Disk) -> None:
    locks = KeyLocks(disk)
    pid = holder(locks)
    assert busy(disk.root, KEY)
    os.kill(pid, signal.SIGKILL)
    with locks.hold(KEY):  # would wait for ever if the lock outlived its holder
        assert busy(disk.root, KEY)
    assert not busy(disk.root, KEY)
    assert ended(pid) == -signal.SIGKILL


def test_holders_take_turns(disk: Disk) -> None:
    """As long as nobody succeeds: after a success the published object, not the lock, stops the next one."""
    counter = disk.root / "counter"
    counter.write_text("0")

    def add() -> None:
        for _ in range(50):
            with contextlib.suppress(KeyError), KeyLocks(disk).hold(KEY):
                counter.write_text(str(int(counter.read_text()) + 1))
                raise KeyError

    children = [forked(add) for _ in range(4)]
    assert [ended(pid) for pid in children] == [0] * 4
    assert counter.read_text() == "200"


def test_the_file_goes_with_success_and_stays_with_failure(disk: Disk) -> None:
    locks = KeyLocks(disk)
    with locks.hold(KEY):
        pass
    assert list((disk.root / "lock").iterdir()) == []
    with pytest.raises(KeyError), locks.hold(KEY):
        raise KeyError
    assert not busy(disk.root, KEY)
    with locks.hold(KEY):
        pass
    assert list((disk.root / "lock").iterdir()) == []


def test_switched_off_nobody_waits(disk: Disk) -> None:
    locks = KeyLocks(disk, enabled=False)
    with locks.hold(KEY), locks.hold(KEY):
        assert not busy(disk.root, KEY)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_f28_a_file_system_without_locks_gets_one_warning(
    disk: Disk, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    locks = KeyLocks(disk)
    with caplog.at_level(logging.WARNING), locks.hold(KEY), locks.hold(KEY):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "results stay right" in caplog.text


def test_other_refusals_are_faults(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = re.escape(str(disk.root / "lock" / KEY))
    full = Disk(disk.root, Failpoints(fail_at="1:ENOSPC"))
    with pytest.raises(DiskFault, match=f"{path} .*ENOSPC"), KeyLocks(full).hold(KEY):
        pass
    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(DiskFault, match=f"{path} .*EIO"), KeyLocks(disk).hold(KEY):
        pass


class TestPatience:
    """Every wait has an owner and a limit."""

    @pytest.fixture
    def stopped(self, disk: Disk) -> Iterator[int]:
        """A holder that the user stopped with Ctrl-Z, or whose container was frozen."""
        pid = holder(KeyLocks(disk))
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        yield pid
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL

    def test_one_that_gives_up_names_the_holder(self, disk: Disk, stopped: int) -> None:
        path = disk.root / "lock" / KEY
        told = rf"for the ledger: process {stopped} \(stopped\) has held it for \d+ s"
        with pytest.raises(Held, match=told), hold(path, 0.05, what="the ledger"):
            pass
        with pytest.raises(TimeoutError), hold(path, idle=0.05):
            pass

    def test_a_stopped_holder_is_passed(
        self, disk: Disk, stopped: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "IDLE", 0.2)
        monkeypatch.setattr(module, "TOLD", 0.1)
        with KeyLocks(disk).hold(KEY, "stage warm_up"):
            assert busy(disk.root, KEY)
        told, passed = caplog.messages
        assert told.startswith(f"waiting for stage warm_up: process {stopped} (stopped) has held it for ")
        assert passed.endswith("it is computed here as well, which is safe")
        with hold(disk.root / "lock" / KEY, 0.05):  # what was published needs no lock, so nobody waits again
            pass

    def test_waiters_go_on_when_another_one_has_passed(self, disk: Disk, stopped: int) -> None:
        path = disk.root / "lock" / KEY
        reading, writing = os.pipe()

        def wait() -> None:
            os.write(writing, b"x")
            with hold(path):
                pass

        waiting = forked(wait)
        os.read(reading, 1)
        time.sleep(0.05)  # most likely it has opened the file; if not, it opens the next one
        path.unlink()
        assert ended(waiting) == 0

    def test_one_that_works_is_waited_for(self, disk: Disk) -> None:
        path = disk.root / "lock" / KEY
        reading, writing = os.pipe()

        def work() -> None:
            with hold(path):
                os.write(writing, b"x")
                began = time.process_time()
                while time.process_time() - began < 1.0:
                    pass

        pid = forked(work)
        os.read(reading, 1)
        with hold(path, idle=0.5):  # less than the work takes
            assert ended(pid) == 0

    @pytest.mark.parametrize("name", ["0123456789ab-4711-5", "nonsense", ""])
    def test_one_that_cannot_be_seen_is_passed_too(
        self, disk: Disk, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "UNSEEN", 0.1)
        monkeypatch.setattr(module, "owner", lambda: name)
        with hold(disk.root / "lock" / KEY), KeyLocks(disk).hold(KEY):
            pass
        assert ("process 4711" if "-" in name else "a process without a name") in caplog.text
        assert "cannot be seen from this host" in caplog.text

    def test_a_lock_without_a_name_is_a_lock(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int, data: bytes, offset: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with hold(disk.root / "lock" / KEY) as supported:
            assert supported
            assert busy(disk.root, KEY)
