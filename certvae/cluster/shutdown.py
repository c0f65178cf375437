"""The end of Ray, in which a run can still be asked to stop.

`ray.shutdown` takes a second or two, and early in it SIGTERM gets the handler of the system, which ends a process at
once. Python is not told (`UninstallSignalAction` in `src/ray/util/logging.cc`).
"""

import atexit
import logging
import signal
import threading
import time

import ray

LOOK_SECONDS = 0.005
"""Between two times that the handler is put back."""
MOST_SECONDS = 30.0
"""As long as Ray is waited for."""
_log = logging.getLogger(__name__)


class _Ending(threading.Thread):
    """`ray.shutdown` beside: a daemon, for an end that hangs must not hold up that of the process."""

    def __init__(self) -> None:
        super().__init__(name="end of Ray", daemon=True)
        self.begun, self.over = False, threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            ray.shutdown()
        except BaseException as error:
            self.error = error
        self.over.set()


def end_ray() -> None:
    """Ends the Ray of this process; whoever is stopped meanwhile waits until it has ended, or is stopped once more.

    An end that hangs is waited for once, and left to the end of the process then.
    """
    if any(isinstance(thread, _Ending) and not thread.over.is_set() for thread in threading.enumerate()):
        return
    ending, until, stopped = _Ending(), time.monotonic() + MOST_SECONDS, None
    try:
        while True:
            try:
                _wait(ending, until)
                break
            except BaseException as error:
                if stopped is not None:
                    raise
                stopped = error
    finally:
        _put_back()
        if not ending.over.is_set():
            atexit.unregister(ray.shutdown)  # it would wait for the one that hangs
    if not ending.over.is_set():
        _log.warning("Ray has not ended within %.0f s: its processes end with this one", MOST_SECONDS)
    if error := stopped or ending.error:
        raise error


def _wait(ending: _Ending, until: float) -> None:
    if not ending.begun:
        ending.begun = True  # first: whoever is stopped while it starts must not start it again
        ending.start()
    while not ending.over.wait(LOOK_SECONDS) and time.monotonic() < until:
        _put_back()


def _put_back() -> None:
    """SIGTERM has the handler that Python knows of; only the main thread may see to it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
