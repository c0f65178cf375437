"""Strikes hit processes of the study that was started, and no others."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import get_args

import psutil
import pytest

from certvae.cluster.served import Served
from certvae.cluster.strikes import CODES, QUOTA, STRIKES, Running, Strike
from certvae.errors import ExitCode
from certvae.terminal import handled

LOOP = "import time\nwhile True: time.sleep(0.05)"
FAMILY = f"""
import subprocess, sys
children = [subprocess.Popen([name, "-c", {LOOP!r}]) for name in sys.argv[1:]]
print("ready", flush=True)
{LOOP}
"""
"""A driver with children that go by the names of Ray's."""
NAMES = ("raylet", "gcs_server", "ray::ImplicitFunc.train")


@pytest.fixture
def running(tmp_path):
    """A family, and a stranger of the same name beside it, which must live."""
    for name in NAMES:
        (tmp_path / name).symlink_to(Path(sys.executable).resolve())
    stranger = subprocess.Popen([tmp_path / "raylet", "-c", LOOP])
    with handled(signal.SIGINT, signal.SIG_IGN):
        family = Running([sys.executable, "-c", FAMILY, *(str(tmp_path / name) for name in NAMES)], {})
    deadline = time.monotonic() + 60
    while len(family.seen) < 4 and time.monotonic() < deadline:
        family.look()
        time.sleep(0.05)
    with family:
        yield family
    assert named(family) == set()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def at_once() -> bool:
    """It is due."""
    return True


def named(family: Running) -> set[str]:
    """Who of them lives."""
    time.sleep(0.3)
    alive = [one for one in family.seen if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return {one.name() for one in alive} & set(NAMES)


@pytest.mark.parametrize(
    ("strike", "gone"), [("raylet", "raylet"), ("gcs", "gcs_server"), ("worker", "ray::ImplicitFunc.train")]
)
def test_one_process_is_killed_and_the_others_live(running, strike, gone):
    before = named(running)
    assert running.struck(strike, at_once, random.Random(0))
    assert before - named(running) == {gone}


def test_the_driver_is_killed_and_says_so_and_whoever_is_left_is_counted_and_ended(running, monkeypatch):
    monkeypatch.setattr("certvae.cluster.strikes.LEAVE_SECONDS", 0.5)
    assert running.struck("driver", at_once, random.Random(0))
    assert running.end() == (-9, "ready\n")
    assert running.left()[0] == 3
    assert named(running) == set()


def test_all_are_killed_at_once(running):
    assert running.struck("group", at_once, random.Random(0))
    assert running.end()[0] == -9
    assert running.left()[0] == 0


def test_a_stopped_process_goes_on(running, monkeypatch):
    monkeypatch.setattr("certvae.cluster.strikes.STOPPED_SECONDS", (0.1, 0.2))
    before = named(running)
    assert running.struck("stop", at_once, random.Random(0))
    assert named(running) == before
    assert psutil.STATUS_STOPPED not in {one.status() for one in running.seen}


@pytest.mark.parametrize(("strike", "code"), [("ctrl-c", -signal.SIGINT), ("sigterm", -signal.SIGTERM)])
def test_the_driver_alone_is_asked_to_end(running, strike, code):
    """Also where this process ignores Ctrl-C, as one that a shell lets run behind it does."""
    before = named(running)
    assert running.struck(strike, at_once, random.Random(0))
    assert running.end()[0] == code
    assert named(running) == before


@pytest.mark.skipif(not psutil.LINUX, reason="no process limits the files of another")
def test_a_full_disk_is_a_limit_on_the_driver_and_its_workers(running):
    assert running.struck("disk", at_once, random.Random(0))
    limits = {one.name(): one.rlimit(psutil.RLIMIT_FSIZE)[0] for one in running.seen}
    assert {name for name, limit in limits.items() if limit != QUOTA} == {"raylet", "gcs_server"}


HEALTHY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Well(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Well).serve_forever()
"""
TAKEN = "raise SystemExit('the port is taken')"


def served(monkeypatch, *starts: str) -> None:
    """Servers that come up one after the other."""
    given = iter(starts)
    monkeypatch.setattr(
        "certvae.tracking.ui.server",
        lambda uri, port: ([sys.executable, "-c", next(given), str(port)], {}),  # noqa: ARG005
    )


def test_the_server_alone_is_killed_and_once(tmp_path, monkeypatch):
    served(monkeypatch, HEALTHY)
    with Served(tmp_path / "served") as server, Running([sys.executable, "-c", LOOP], {}, server) as study:
        assert study.struck("mlflow", at_once, random.Random(0))
        assert not server.kill()
        study.look()
        assert {one.is_running() for one in study.seen} == {True}


def in_another_language(listening: socket.socket) -> None:
    """Answers as a gRPC server does, until it is closed."""
    with suppress(OSError):
        while True:
            with listening.accept()[0] as caller:
                caller.sendall(b"\0\0\x18\4")


def test_a_port_that_somebody_takes_meanwhile_is_left_to_them(tmp_path, monkeypatch):
    """Who answers there in another language is no server of ours."""
    starts, strangers = iter(("import time; time.sleep(1)", HEALTHY)), []

    def start(uri, port):
        if not strangers:
            strangers.append(socket.create_server(("127.0.0.1", port)))
            threading.Thread(target=in_another_language, args=(strangers[0],), daemon=True).start()
        return [sys.executable, "-c", next(starts), str(port)], {}

    monkeypatch.setattr("certvae.tracking.ui.server", start)
    with Served(tmp_path / "served") as server:
        assert server.port != strangers[0].getsockname()[1]
        assert server.kill()
    strangers[0].close()


def test_a_server_that_does_not_come_up_is_said(tmp_path, monkeypatch):
    served(monkeypatch, TAKEN, TAKEN, TAKEN)
    with pytest.raises(RuntimeError, match="must answer on port"), Served(tmp_path / "served"):
        pass


def test_a_study_that_ended_before_was_not_struck():
    with Running([sys.executable, "-c", "print('done')"], {}) as family:
        assert not family.struck("worker", at_once, random.Random(0))
        assert family.end() == (0, "done\n")


def test_every_strike_has_documented_codes_or_the_signal_that_it_was():
    assert set(CODES) == set(get_args(Strike)) >= set(STRIKES)
    assert set().union(*CODES.values()) <= {-9, ExitCode.DONE, ExitCode.INCOMPLETE, ExitCode.RESUMABLE}
