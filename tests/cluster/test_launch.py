"""A study on a cluster from a laptop: the parts that need no cluster. `test_cluster_up` has the rest."""

import os
import subprocess
import time

import pytest
from ray.autoscaler import sdk

from certvae.__main__ import main
from certvae.cluster import launch
from tests.cluster_files import FOLDER
from tests.cluster_files import NODE as NODE_SCRIPT

NODE = str(NODE_SCRIPT)


class Node:
    """Commands of a node, in a home of its own."""

    def __init__(self, home):
        self.environment = {**os.environ, "HOME": str(home), "CERTVAE_TMP": str(home)}
        self.started = []

    def __call__(self, *arguments):
        return subprocess.run(
            [NODE, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, *arguments):
        self.started.append(
            subprocess.Popen([NODE, *arguments], env=self.environment, stdout=subprocess.PIPE, text=True)
        )
        return self.started[-1]


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def test_a_token_is_made_once_and_is_private(node, tmp_path):
    path = tmp_path / ".certvae" / "token"
    assert node("token").returncode == 0
    first = path.read_text()
    assert len(first) == 64
    path.chmod(0o644)
    assert node("token").returncode == 0
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_token_nothing_is_started(node):
    done = node("ray", "start", "--head")
    assert done.returncode == 2
    assert "a cluster without one is open to anybody" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing on this machine is somebody else's")
def test_a_scratch_folder_of_somebody_else_is_refused(node, tmp_path):
    node("token")
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f"certvae-{name}").symlink_to("/proc/1")
    done = node("ray", "start", "--head")
    assert done.returncode == 2
    assert "belongs to somebody else" in done.stderr


def test_a_study_wants_a_cluster(node):
    done = node("study", "abc", "sweeps/tiny_fixed_q.py")
    assert done.returncode == 2
    assert "bring it up" in done.stderr


def test_an_unknown_command_is_refused(node):
    assert node("restart").returncode == 2
    assert node().returncode == 2


class TestRun:
    def test_what_it_prints_and_how_it_ends_is_told(self, node):
        done = node("run", "name", "bash", "-c", "echo hello; exit 3")
        assert (done.returncode, done.stdout) == (3, "hello\n")
        assert node("code", "name").stdout == "exit=3\n"

    def test_it_goes_on_when_nobody_watches_and_can_be_watched_again(self, node, tmp_path):
        """The laptop is closed: its ssh, and all that it started on the head, gets a hang-up."""
        waits = f"echo began; while [ ! -f {tmp_path}/go ]; do sleep 0.1; done; echo ended"
        watching = node.start("run", "name", "bash", "-c", waits)
        assert watching.stdout.readline() == "began\n"
        watching.terminate()
        watching.wait(10)
        assert node("code", "name").stdout == "exit=\n"
        again = node.start("run", "name", "bash", "-c", waits)
        assert again.stdout.readline() == "began\n"
        (tmp_path / "go").touch()
        assert again.stdout.readline() == "ended\n"
        assert again.wait(20) == 0

    def test_two_at_once_are_one(self, node, tmp_path):
        counts = f"echo x >> {tmp_path}/count; sleep 2"
        both = [node.start("run", "name", "bash", "-c", counts)]
        time.sleep(0.7)
        both.append(node.start("run", "name", "bash", "-c", counts))
        assert [process.wait(20) for process in both] == [0, 0]
        assert (tmp_path / "count").read_text() == "x\n"

    def test_one_that_was_killed_may_be_resumed(self, node, tmp_path):
        watching = node.start("run", "name", "bash", "-c", "echo began; sleep 100")
        watching.stdout.readline()
        os.kill(int((tmp_path / ".certvae" / "runs" / "name.pid").read_text()), 9)
        assert watching.wait(20) == 4


@pytest.mark.parametrize(
    ("arguments", "store"),
    [
        ([], "certvae-store"),
        (["--data", "digits", "--store", "/shared/one"], "/shared/one"),
        (["--store=/shared/two", "--plan"], "/shared/two"),
        (["--store=/shared/two", "--store", "/shared/one"], "/shared/one"),
    ],
)
def test_the_store_that_is_brought_back(arguments, store, monkeypatch):
    brought = []
    monkeypatch.setattr(launch, "fetch", lambda _, asked: brought.append(asked))
    monkeypatch.setattr(sdk, "run_on_cluster", lambda *_, **__: b"exit=0")
    assert launch.run("cluster.yaml", "sweeps/triad.py", arguments) == 0
    assert brought == [store]


def test_a_command_line_that_makes_no_sense_is_explained(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["cluster", "run", "cluster.yaml"])
    assert ended.value.code == 2
    assert "certvae cluster run" in capsys.readouterr().err


def test_a_head_that_is_not_reached_is_a_resumable_fault(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "cluster.yaml"
    config.write_text((FOLDER.parents[1] / "cluster.yaml").read_text())
    assert main(["cluster", "run", str(config), "sweeps/tiny_fixed_q.py"]) == 4
    assert "E-RAY" in capsys.readouterr().err
