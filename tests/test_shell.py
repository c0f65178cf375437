"""What a user is told to type works where it is typed."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from certvae import terminal


def test_python_is_called_by_its_name_where_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert terminal.python("-m", "certvae", "ui") == "python -m certvae ui"


@pytest.mark.parametrize("first", ["empty", "another"])
def test_python_is_called_by_its_path_where_the_shell_finds_another_or_none(
    first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "python").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / first))
    called = shlex.split(terminal.python("-c", "print('a b')"))
    assert subprocess.run(called, capture_output=True, text=True, check=True).stdout == "a b\n"


def test_an_environment_in_the_working_directory_is_named_from_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))
    assert terminal.python("x.py") == "'my env/bin/python' x.py"
    assert terminal.near(tmp_path / "store") == "store"
    assert terminal.near(tmp_path.parent) == str(tmp_path.parent)
