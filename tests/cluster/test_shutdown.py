"""While Ray ends, a run can be asked to stop."""

import subprocess
import sys

import psutil
import pytest

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
