"""The end of Ray, in which a run can still be asked to stop.

`ray.shutdown` takes a second or two, and early in it SIGTERM gets the handler of the system, which ends a process at
once. Python is not told (`UninstallSignalAction` in `src/ray/util/logging.cc`).
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import ray

LOOK_SECONDS = 0.005
"""Between two times that the handler is put back."""


def end_ray() -> None:
    """Ends the Ray of this process; whoever is stopped meanwhile waits until it has ended."""
    with ThreadPoolExecutor(1) as aside:
        ending = aside.submit(ray.shutdown)
        while wait([ending], LOOK_SECONDS).not_done:
            _put_back()
        _put_back()
        ending.result()


def _put_back() -> None:
    """SIGTERM has the handler that Python knows of; only the main thread may see to it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
