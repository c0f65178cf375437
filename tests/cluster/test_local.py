"""A Ray of one run alone: it comes up or says why not, its token is private, and nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from certvae.cluster import local
from certvae.cluster.slots import Slots
from certvae.errors import RayFault
from certvae.store.process import owner

SLOTS = Slots(2, 1.0, 0.0, "one CPU core each")


class TestStart:
    def start(self, monkeypatch, tmp_path, failures):
        """A Ray that does not come up so many times: half a minute each on a machine that is too busy."""
        tried = []

        def init(**_):
            tried.append(1)
            if len(tried) <= failures:
                raise Exception("The current node timed out during startup.\nmore")  # a bare one, as Ray does

        monkeypatch.setattr(local.ray, "init", init)
        local.start(SLOTS, tmp_path / "ray")
        return len(tried)

    def test_a_busy_machine_gets_a_second_try(self, monkeypatch, tmp_path):
        assert self.start(monkeypatch, tmp_path, 1) == 2

    def test_then_it_is_said_what_to_do(self, monkeypatch, tmp_path):
        with pytest.raises(RayFault, match=r"timed out during startup\. \|.*overloaded.*run the same command again"):
            self.start(monkeypatch, tmp_path, 2)


def test_the_token_of_a_run_is_private_and_gone_afterwards(tmp_path):
    with local.private_token(tmp_path):
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_text()) == 64
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_process_has_one_token_for_all_that_it_starts(tmp_path):
    """Ray reads it once: with another one, the second run of a process was turned away by its own Ray."""
    told = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with local.private_token(tmp_path / name):
            told.append((tmp_path / name / "token").read_text())
    assert told[0] == told[1]


class TestAbandoned:
    def folder(self, parent, name, said):
        folder = parent / f"certvae-{name}"
        (folder / "ray").mkdir(parents=True)
        if said is not None:
            (folder / "owner").write_text(said)
        return folder

    def test_the_folder_of_a_killed_driver_is_removed_by_whoever_comes_next(self, tmp_path):
        code = "from certvae.store.process import owner; print(owner(), end='')"
        dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        killed = self.folder(tmp_path, "killed", dead)
        local.remove_abandoned(tmp_path)
        assert not killed.exists()

    def test_others_are_left_alone(self, tmp_path):
        kept = [
            self.folder(tmp_path, "mine", owner()),
            self.folder(tmp_path, "elsewhere", "0123456789ab-1-1"),
            self.folder(tmp_path, "nobody", None),
        ]
        local.remove_abandoned(tmp_path)
        assert all(folder.exists() for folder in kept)
