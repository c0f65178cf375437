"""Owners: the dead are told from the living, and other hosts are never judged."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from certvae.store import process as module
from certvae.store.process import is_dead, owner
from certvae.store.selftest import ended, forked


def owner_of_child(tmp_path: Path) -> str:
    assert ended(forked(lambda: (tmp_path / "owner").write_text(owner()))) == 0
    return (tmp_path / "owner").read_text()


def test_this_process_lives() -> None:
    assert not is_dead(owner())
    assert set(owner()) <= set("0123456789abcdefghijklmnopqrstuvwxyz-")


def test_an_ended_process_is_dead(tmp_path: Path) -> None:
    name = owner_of_child(tmp_path)
    assert name.split("-")[0] == owner().split("-")[0]
    assert is_dead(name)


def test_a_used_again_process_id_is_not_mistaken_for_its_first_owner() -> None:
    host, pid, start = owner().split("-")
    assert is_dead(f"{host}-{pid}-{int(start) - 1}")


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


class TestWithoutProc:
    """Systems without /proc know only whether a process id is in use."""

    @pytest.fixture(autouse=True)
    def no_proc(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        exists, is_link = Path.exists, Path.is_symlink
        monkeypatch.setattr(Path, "exists", lambda path: "/proc/" not in str(path) and exists(path))
        monkeypatch.setattr(Path, "is_symlink", lambda path: "/proc/" not in str(path) and is_link(path))
        module._host.cache_clear()
        yield
        module._host.cache_clear()

    def test_living_and_dead(self, tmp_path: Path) -> None:
        assert owner().endswith("-0")
        assert not is_dead(owner())
        assert is_dead(owner_of_child(tmp_path))

    def test_a_process_of_another_user_lives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(pid: int, number: int) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "kill", forbidden)
        assert not is_dead(f"{module._host()}-1-0")
