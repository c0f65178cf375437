"""Owners: the dead are told from the living, and other hosts are never judged."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from certvae.store import process as module
from certvae.store.process import is_dead, owner, running
from certvae.store.selftest import ended, forked


def owner_of_child(tmp_path: Path) -> str:
    assert ended(forked(lambda: (tmp_path / "owner").write_text(owner()))) == 0
    return (tmp_path / "owner").read_text()


def test_this_process_lives() -> None:
    assert not is_dead(owner())
    assert running(owner()) == psutil.Process()
    assert set(owner()) <= set("0123456789abcdefghijklmnopqrstuvwxyz-")


def test_an_ended_process_is_dead(tmp_path: Path) -> None:
    name = owner_of_child(tmp_path)
    assert name.split("-")[0] == owner().split("-")[0]
    assert is_dead(name)
    assert running(name) is None


def test_a_used_again_process_id_is_not_mistaken_for_its_first_owner() -> None:
    host, pid, start = owner().split("-")
    assert is_dead(f"{host}-{pid}-{int(start) - 1}")
    assert running(f"{host}-{pid}-{int(start) - 1}") is None


def test_f63_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux keeps starts as ticks since boot; psutil adds a boot time that moves with the clock."""
    name, boot_time = owner(), psutil._psplatform.boot_time
    for jump in (-86_400, 31_536_000):
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda jump=jump: boot_time() + jump)
        assert psutil.boot_time() == boot_time() + jump
        assert not is_dead(name)
        assert owner() == name


def test_a_zombie_is_dead() -> None:
    reading, writing = os.pipe()

    def say_and_wait() -> None:
        os.write(writing, owner().encode())
        signal.pause()

    pid = forked(say_and_wait)
    name = os.read(reading, 100).decode()
    assert not is_dead(name)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(name)
    assert ended(pid) == -signal.SIGKILL


@pytest.mark.parametrize("name", ["", "otherhost-1-5", "nonsense", f"{owner().split('-')[0]}-x-1"])
def test_strangers_are_left_alone(name: str) -> None:
    assert not is_dead(name)
    assert running(name) is None


def test_the_start_of_a_process_is_that_of_the_clock_tick_it_began_in() -> None:
    """Two processes with one id cannot have begun within a hundredth of a second of each other."""
    if psutil.LINUX:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        assert abs(int(owner().split("-")[2]) - 100 * ticks / os.sysconf("SC_CLK_TCK")) <= 1


class TestWithoutProc:
    """Where the system hides its processes, one knows only whether a process id is in use."""

    @pytest.fixture(autouse=True)
    def no_proc(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        exists, is_link = Path.exists, Path.is_symlink
        monkeypatch.setattr(Path, "exists", lambda path: "/proc/" not in str(path) and exists(path))
        monkeypatch.setattr(Path, "is_symlink", lambda path: "/proc/" not in str(path) and is_link(path))
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "absent"))
        module._host.cache_clear()
        yield
        module._host.cache_clear()

    def test_living_and_dead(self, tmp_path: Path) -> None:
        assert owner().endswith("-0")
        assert not is_dead(owner())
        name = owner_of_child(tmp_path)
        assert is_dead(name)

    def test_a_process_of_another_user_lives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(pid: int, number: int) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "kill", forbidden)
        assert not is_dead(f"{module._host()}-1-0")
