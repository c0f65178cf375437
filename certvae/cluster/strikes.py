"""What can befall a running study: a process of it is killed or stopped, all are killed, somebody ends it, its disk is
full, or the MLflow server that it writes to is killed.

Processes are found below the driver that was started here, by their place and not by their names alone, so nothing
else on the machine is touched.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, Self, get_args

import psutil

from certvae.cluster.served import Served
from certvae.terminal import handled

Strike = Literal["worker", "driver", "raylet", "gcs", "group", "stop", "ctrl-c", "sigterm", "disk", "mlflow"]
STRIKES: tuple[Strike, ...] = tuple(one for one in get_args(Strike) if psutil.LINUX or one != "disk")
"""Those that this system knows: only Linux lets one process limit the files of another."""
CODES: Mapping[Strike, frozenset[int]] = {
    "worker": frozenset({0}),
    "driver": frozenset({-9}),
    "raylet": frozenset({0, 4}),
    "gcs": frozenset({0, 4}),
    "group": frozenset({-9}),
    "stop": frozenset({0}),
    "ctrl-c": frozenset({0, 4}),
    "sigterm": frozenset({0, 4}),
    "disk": frozenset({0, 3, 4}),
    "mlflow": frozenset({0}),
}
"""How a study may end that was struck; 0 for what was struck before or after Ray was needed."""
QUOTA = 512
"""Bytes that a file may have once the disk is full: less than any result."""
STOPPED_SECONDS = (1.0, 5.0)
LOOK_SECONDS = 0.1
LONGEST_SECONDS = 300.0
LEAVE_SECONDS = 180.0
"""Processes of a study that has ended must be gone by then: they notice within seconds, on a busy machine later."""


class Running:
    """A study in a process of its own, and every process below it that was ever seen.

    Args:
        command: a command line.
        environment: variables in addition to those of this process.
        server: the MLflow server that it writes to, where that may be struck.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], server: Served | None = None):
        self._server = server
        with handled(signal.SIGINT, signal.default_int_handler):  # a shell lets what runs behind it ignore Ctrl-C
            self._child = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        self._driver = psutil.Process(self._child.pid)
        self.seen = {self._driver}
        """The driver and all that was ever found below it."""
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Whatever still runs of it is ended, as when somebody presses Ctrl-C."""
        self._each(self.seen, psutil.Process.kill)
        self._child.wait()

    def struck(self, strike: Strike, due: Callable[[], bool], chance: random.Random) -> bool:
        """Waits until it is due and there is what to strike; False when the study ended before."""
        waiting = True
        while self._child.poll() is None:
            self.look()
            waiting = waiting and not due()
            if not waiting and self._strike(strike, chance):
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def end(self) -> tuple[int | None, str]:
        """Waits for the end: the exit code, minus the signal that killed it or None when it hung, and all it said."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while self._child.poll() is None and time.monotonic() < deadline:
            self.look()
            time.sleep(LOOK_SECONDS)
        code = self._child.poll()
        if code is None:
            self._each(self.seen, psutil.Process.kill)
        self._child.wait()
        self._reader.join(1.0)
        return code, "".join(self._said)

    def left(self) -> tuple[int, float]:
        """How many processes outlived the study for too long, and are ended; seconds until the others were gone."""
        began = time.monotonic()
        _, alive = psutil.wait_procs(self.seen - {self._driver}, LEAVE_SECONDS)
        self._each(alive, psutil.Process.kill)
        return len(alive), time.monotonic() - began

    def _strike(self, strike: Strike, chance: random.Random) -> bool:
        match strike:
            case "stop":
                found = [process for role in ("driver", "worker", "raylet", "gcs") for process in self._role(role)]
                hit = [chance.choice(found)]
                done = self._each(hit, psutil.Process.suspend)
                time.sleep(chance.uniform(*STOPPED_SECONDS))
                self._each(hit, psutil.Process.resume)
                return done
            case "disk":
                workers = self._role("worker")
                return bool(workers) and self._each([*self._role("driver"), *workers], _fill)
            case "group":
                return self._each([self._driver, *self.seen], psutil.Process.kill)
            case "ctrl-c" | "sigterm":
                sent = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}[strike]
                begun = len(self.seen) > 1  # before, the interpreter answers, and nothing was done
                return begun and self._each([self._driver], lambda driver: driver.send_signal(sent))
            case "mlflow":
                return self._server is not None and self._server.kill()
            case "driver":
                return self._each([self._driver], psutil.Process.kill)
            case role:
                found = self._role(role)
                return bool(found) and self._each([chance.choice(found)], psutil.Process.kill)

    def _role(self, role: str) -> list[psutil.Process]:
        """Living processes of one kind, in a fixed order; a worker is one that holds a cell."""
        if role == "driver":
            return [self._driver]
        named = {"raylet": ("raylet",), "gcs": ("gcs_server",), "worker": ("ray::ImplicitFunc",)}[role]
        found = []
        for process in sorted(self.seen, key=lambda one: one.pid):
            with suppress(psutil.Error):
                if process.is_running() and process.name().startswith(named):
                    found.append(process)
        return found

    def look(self) -> None:
        """Takes in whoever is below the driver now: once that is dead, nobody is."""
        with suppress(psutil.Error):
            self.seen |= set(self._driver.children(recursive=True))

    def _each(self, processes: Sequence[psutil.Process] | set[psutil.Process], what: Callable) -> bool:
        """Does something to each that still is the process that was seen; whether it was done to any."""
        done = False
        for process in processes:
            with suppress(psutil.Error):
                what(process)
                done = True
        return done

    def _listen(self) -> None:
        if self._child.stdout is not None:
            self._said.extend(self._child.stdout)


def _fill(process: psutil.Process) -> None:
    """Any write beyond the first bytes of a file is refused from now on, as a full disk refuses it."""
    _, most = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (QUOTA, most))
