"""While Ray ends, a run can be asked to stop."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray

from certvae.cluster import join, local, shutdown
from certvae.cluster.slots import Slots
from certvae.errors import RayFault
from certvae.terminal import handled

ENDED = """
import signal, time
from certvae.cluster.local import own_ray
from certvae.cluster.slots import Slots
import ray

def catches():
    "Whether this process, and not the system, handles SIGTERM."
    status = open("/proc/self/status").read()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> 14 & 1)

def ends():
    real()
    print(any(catches() or time.sleep(0.01) for _ in range(1000)))  # put back before this returns

signal.signal(signal.SIGTERM, signal.default_int_handler)
with own_ray(Slots(1, 1.0, 0.0, "one CPU core")):
    print(catches())
    real, ray.shutdown = ray.shutdown, ends
"""


@pytest.mark.skipif(not psutil.LINUX, reason="the handlers of a process stand in /proc")
def test_the_handler_of_sigterm_is_put_back_before_ray_has_ended():
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"True"}


class TestAskedToStop:
    """By Ctrl-C, or SIGTERM, while an end of Ray goes on that is not Ray's own here."""

    @pytest.fixture(autouse=True)
    def heard(self) -> Iterator[None]:
        with handled(signal.SIGINT, signal.default_int_handler), handled(signal.SIGTERM, signal.default_int_handler):
            yield
        for thread in threading.enumerate():
            if thread.name == "end of Ray":
                thread.join()

    def ends(self, monkeypatch: pytest.MonkeyPatch, how: Callable[[], object]) -> list[int]:
        """Lets Ray end so, and counts how often it is asked to."""
        asked: list[int] = []
        monkeypatch.setattr(ray, "shutdown", lambda: asked.append(1) or how())
        return asked

    @pytest.mark.skipif(not psutil.LINUX, reason="the handlers of a process stand in /proc")
    def test_once_the_handler_is_put_back_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        caught: list[bool] = []

        def how() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.2)
            ctypes.CDLL(None).signal(signal.SIGTERM, 0)
            caught.append(any(catches() or threading.Event().wait(0.01) for _ in range(200)))

        self.ends(monkeypatch, how)
        with pytest.raises(KeyboardInterrupt):
            shutdown.end_ray()
        assert caught == [True]

    def test_twice_an_end_that_hangs_is_left_and_not_asked_for_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        over = threading.Event()

        def how() -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                over.wait(0.2)
            over.wait(60)

        asked = self.ends(monkeypatch, how)
        with pytest.raises(KeyboardInterrupt):
            shutdown.end_ray()
        assert not shutdown.end_ray()
        over.set()
        assert asked == [1]

    @pytest.mark.parametrize("begun", [False, True])
    def test_while_its_thread_starts_it_ends_all_the_same_and_once(
        self, monkeypatch: pytest.MonkeyPatch, begun: bool
    ) -> None:
        """It waited for the whole time, for an end that nobody had begun."""
        begin = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            monkeypatch.setattr(threading.Thread, "start", begin)
            if begun:
                begin(thread)
            raise KeyboardInterrupt

        over = threading.Event()
        asked = self.ends(monkeypatch, lambda: over.wait(0.2))
        monkeypatch.setattr(shutdown, "MOST_SECONDS", 5.0)
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            shutdown.end_ray()
        assert asked == [1]

    def test_not_where_no_thread_can_be_started_and_nothing_hangs_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                shutdown.end_ray()
        assert not shutdown.hangs()

    def test_never_and_it_hangs_no_ray_starts_before_it_has_ended(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        over = threading.Event()
        monkeypatch.setattr(shutdown, "MOST_SECONDS", 0.05)
        self.ends(monkeypatch, lambda: over.wait(60))
        assert not shutdown.end_ray()
        assert "the next run on Ray needs a new Python" in caplog.text
        with pytest.raises(RayFault, match="run the same again in a new Python"):
            join.check_free()
        over.set()
        assert comes_true(lambda: not shutdown.hangs())
        join.check_free()
        assert shutdown.end_ray()

    def test_a_ray_that_neither_starts_nor_ends_is_not_started_again(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The one that still ended might have ended the next one."""
        over, started = threading.Event(), []
        monkeypatch.setattr(shutdown, "MOST_SECONDS", 0.05)
        monkeypatch.setattr(ray, "init", lambda **_: started.append(1) or 1 / 0)
        self.ends(monkeypatch, lambda: over.wait(60))
        with pytest.raises(RayFault, match="run the same command again; then run it in a new Python; nothing is lost"):
            local.start(Slots(1, 1.0, 0.0, "one CPU core"), tmp_path)
        over.set()
        assert started == [1]

    def test_what_ray_raises_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends(monkeypatch, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shutdown.end_ray()


AT_THE_END = """
import atexit, sys, threading
import ray
atexit.unregister(ray.shutdown)
over = threading.Event()

def end():
    print("asked", flush=True)
    over.wait(60)

ray.shutdown = end
atexit.register(end)
from certvae.cluster import shutdown
shutdown.MOST_SECONDS = 0.05
shutdown.end_ray()
if sys.argv[1:] == ["ended"]:
    over.set()
    [thread.join() for thread in threading.enumerate() if thread.name == "end of Ray"]
"""


@pytest.mark.parametrize(("then", "asked"), [((), 1), (("ended",), 2)])
def test_an_end_that_hangs_holds_up_no_process_and_later_ones_are_ended_with_it(
    then: tuple[str, ...], asked: int
) -> None:
    command = [sys.executable, "-c", AT_THE_END, *then]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.split() == ["asked"] * asked


def comes_true(how: Callable[[], bool]) -> bool:
    """Within seconds."""
    return any(how() or threading.Event().wait(0.01) for _ in range(500))


def catches() -> bool:
    """Whether this process, and not the system, handles SIGTERM."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1)
