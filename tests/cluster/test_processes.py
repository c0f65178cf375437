"""Ending what was started under a mark, and nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

from certvae.cluster.processes import VARIABLE, marked

FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def started():
    """Starts Python under a mark, or none; whatever is left is ended."""
    running = []

    def start(mark, code=FOREVER):
        environment = {**os.environ, **({VARIABLE: mark} if mark else {})}
        running.append(subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def ended(mark, *more):
    """How many the command ended: a process of its own, or it would bury our children and take how they ended."""
    command = [sys.executable, "-m", "certvae.cluster.processes", str(mark), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout.split()[1])


def pids(mark):
    return {process.pid for process in marked(mark)}


def eventually(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_only_what_carries_the_mark_is_ended(started, tmp_path):
    ours, others, nobodys = started(str(tmp_path)), started(f"{tmp_path}-2"), started(None)
    eventually(lambda: ours.pid in pids(str(tmp_path)))
    assert ended(tmp_path) == 1
    assert ours.wait(5) == -signal.SIGTERM
    assert others.poll() is None
    assert nobodys.poll() is None


def test_what_another_user_started_under_the_same_mark_is_left_alone(started, tmp_path, monkeypatch):
    """Root may end it, and may share a folder with others."""
    theirs = started(str(tmp_path))
    eventually(lambda: theirs.pid in pids(str(tmp_path)))
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert marked(str(tmp_path)) == set()


def test_children_that_forgot_the_mark_are_ended_too(started, tmp_path):
    forgetful = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{FOREVER}'], env={{}}); {FOREVER}"
    started(str(tmp_path), forgetful)
    eventually(lambda: len(marked(str(tmp_path))) == 2)
    assert ended(tmp_path) == 2
    assert marked(str(tmp_path)) == set()


def test_who_does_not_listen_is_ended_after_a_grace(started, tmp_path):
    ready = tmp_path / "ready"
    deaf = started(
        str(tmp_path), f"import signal; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); {FOREVER}"
    )
    eventually(ready.exists)
    assert ended(tmp_path, "--grace-seconds", "0.5") == 1
    assert deaf.wait(5) == -signal.SIGKILL


def test_the_caller_and_those_who_called_it_stay(tmp_path):
    """The shell that ends a cluster carries the mark as well."""
    code = f"import sys; from certvae.cluster.processes import end; print(end({str(tmp_path)!r}))"
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0"; echo alive', code],
        env={**os.environ, VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["0", "alive"]


def test_nothing_to_end_is_fine(tmp_path):
    assert ended(tmp_path) == 0


def test_a_question_for_help_is_no_mark():
    """`--help` was once taken for a scratch folder."""
    command = [sys.executable, "-m", "certvae.cluster.processes", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "SCRATCH" in done.stdout
    assert "ended" not in done.stdout
