"""What a killed driver started is gone with it, and nothing else is."""

import io
import json
import signal
import subprocess
import sys

import psutil
import pytest

from certvae.cluster import guard
from certvae.store.process import start

LOOP = "import time\nwhile True: time.sleep(0.05)"
DRIVER = f"""
import subprocess, sys
from certvae.cluster.guard import nobody_left
child = subprocess.Popen([sys.executable, "-c", {LOOP!r}])
with nobody_left():
    later = subprocess.Popen([sys.executable, "-c", {LOOP!r}])
    print(child.pid, later.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def driver():
    """A driver with a child that it guards and one that it does not."""
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        guarded, later = map(psutil.Process, map(int, process.stdout.readline().split()))
        yield process, guarded, later
    for one in (guarded, later):
        if one.is_running():
            one.kill()


@pytest.mark.parametrize("end", [subprocess.Popen.kill, lambda driver: driver.stdin.close()])
def test_whom_it_guards_ends_with_a_driver_that_is_killed_or_leaves_and_no_others(driver, end):
    process, guarded, later = driver
    end(process)
    process.wait()
    psutil.wait_procs([guarded], timeout=60)
    assert not guarded.is_running()
    assert later.is_running()


def test_they_are_known_again_after_the_clock_was_set(monkeypatch):
    """On Linux psutil adds the time of the boot, which moves with the clock: they were taken for strangers."""
    boot_time, create_time = psutil.boot_time, psutil.Process.create_time
    with subprocess.Popen([sys.executable, "-c", LOOP]) as child:
        try:
            began = guard.began(psutil.Process(child.pid))
            assert str(began) == start(child.pid), "the rule of the store, which it does not import"
            below = json.dumps({child.pid: began})
            monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + 3600)
            monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
            monkeypatch.setattr(sys, "stdin", io.StringIO())
            guard.main(below)
            assert child.wait(60) == -signal.SIGKILL
        finally:
            child.kill()
