"""Failpoints: the chosen step dies or fails, and no other."""

import errno
import os
import signal
from pathlib import Path

import pytest

from certvae.errors import ConfigFault
from certvae.store.failpoints import FAIL_AT, KILL_AT, Failpoints
from certvae.store.selftest import ended, forked
from certvae.store.store import Store


def passes(failpoints: Failpoints, names: str) -> list[str]:
    """Walks over the steps a, b, c, ... and returns those that were refused."""
    refused = []
    for name in names:
        try:
            failpoints.step(name)
        except OSError as error:
            refused.append(f"{name}:{errno.errorcode[error.errno or 0]}")
    return refused


@pytest.mark.parametrize(
    ("fail_at", "refused"),
    [
        ("", []),
        ("2:ENOSPC", ["b:ENOSPC"]),
        ("3+:EROFS", ["c:EROFS", "d:EROFS"]),
        ("b:EIO", ["b:EIO"]),
        ("9:EIO", []),
        ("x+:EIO", []),
    ],
)
def test_refuses_the_chosen_steps(fail_at: str, refused: list[str]) -> None:
    failpoints = Failpoints(fail_at=fail_at)
    assert passes(failpoints, "abcd") == refused
    assert failpoints.steps == 4


@pytest.mark.parametrize("fail_at", ["ENOSPC", "3:", "3:NOSUCH", ":EIO"])
def test_refuses_a_text_that_names_no_errno(fail_at: str) -> None:
    with pytest.raises(ConfigFault, match="CERTVAE_FAIL_AT=17:ENOSPC"):
        Failpoints(fail_at=fail_at)


@pytest.mark.parametrize(("kill_at", "reached"), [("2", 1), ("c", 2), ("", 4)])
def test_kills_before_the_chosen_step(tmp_path: Path, kill_at: str, reached: int) -> None:
    def walk() -> None:
        failpoints = Failpoints(kill_at=kill_at)
        for name in "abcd":
            failpoints.step(name)
            (tmp_path / name).touch()

    assert ended(forked(walk)) == (0 if reached == 4 else -signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == reached


def test_a_place_is_named_but_not_counted() -> None:
    failpoints = Failpoints(fail_at="here:EIO")
    failpoints.place("there")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        failpoints.place("here")
    assert failpoints.steps == 0


def test_acts_in_test_stores_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "results")
    Store(tmp_path / "test", test_store=True)
    monkeypatch.setenv(KILL_AT, "start:draw")
    monkeypatch.setenv(FAIL_AT, "before:row:EIO")
    Store(tmp_path / "results").put_row({"study": "s"})
    Store(tmp_path / "new").put_row({"study": "s"})
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        Store(tmp_path / "test").put_row({"study": "s"})
