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


class _End:
    """One `ray.shutdown` beside, in a daemon: an end that hangs must not hold up that of the process."""

    def __init__(self) -> None:
        self._begun, self.over = threading.Lock(), threading.Event()
        self.error: BaseException | None = None

    @property
    def begun(self) -> bool:
        """A process that may have no more threads never begins it."""
        return self._begun.locked()

    def wait(self, until: float) -> None:
        """Begins it unless it has begun, and waits for it until then."""
        threading.Thread(target=self._run, name="end of Ray", daemon=True).start()
        while not self.over.wait(LOOK_SECONDS) and time.monotonic() < until:
            _put_back()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):  # whoever is stopped while a thread starts cannot know if it did
            return
        try:
            ray.shutdown()
        except BaseException as error:
            self.error = error
        self.over.set()


_left: list[_End] = []
"""Ends that nobody waited for to the last."""


def hangs() -> bool:
    """Whether an earlier Ray of this process is still ending: it would take the next one along."""
    return not all(end.over.is_set() for end in _left)


def end_ray() -> bool:
    """Ends the Ray of this process; whoever is stopped meanwhile waits until it has ended, or is stopped once more.

    Returns:
        Whether it has ended. One that hangs is waited for once, and left.
    """
    if hangs():
        return False
    end, until = _End(), time.monotonic() + MOST_SECONDS
    try:
        end.wait(until)
    except BaseException:
        end.wait(until)
        raise
    finally:
        _put_back()
        if end.begun and not end.over.is_set():
            _left.append(end)
            atexit.unregister(ray.shutdown)  # it would wait for this end; done at exit, Python 3.14 would call it still
            atexit.register(_leave)
            _log.warning("Ray has not ended, and is waited for no longer: the next run on Ray needs a new Python")
    if end.error:
        raise end.error
    return end.over.is_set()


def _leave() -> None:
    """Ends a later Ray of a process that left an earlier one, if that has ended by now."""
    if not hangs():
        ray.shutdown()


def _put_back() -> None:
    """SIGTERM has the handler that Python knows of; only the main thread may see to it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
