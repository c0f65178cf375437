"""Ends what is left of a Ray whose driver has gone, from a process of its own. It is started by this file's path and
imports nothing of ours, so that it costs next to nothing while it waits.

Workers leave within two seconds. Ray's agents want to report first that they are alone, to a GCS that has died as well,
and try for a minute that no setting shortens (`ray/_private/utils.py`, `publish_error_to_driver`).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def nobody_left() -> Iterator[None]:
    """Ends the processes below this one with the block, also if this process is killed within it."""
    below = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a helper that has just ended
            below[child.pid] = began(child)
    command = [sys.executable, "-P", __file__, json.dumps(below)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True):
        yield


def main(below: str) -> None:
    """Waits for the end of the process that holds the other end of the pipe, then kills those that still live."""
    sys.stdin.read()
    for pid, started in json.loads(below).items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            if began(process) == started:  # and not a stranger that got the number later
                process.kill()


def began(process: psutil.Process) -> int:
    """When a process began, by the rule of `certvae.store.process.start`, which it would have to import."""
    return round(100 * (process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)))


if __name__ == "__main__":
    main(sys.argv[1])
