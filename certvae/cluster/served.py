"""An MLflow server of its own, on this machine alone, that may be killed while a study writes to it."""

import os
import socket
import subprocess
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

import psutil

from certvae.tracking import ui
from certvae.tracking.uri import spelled

START_SECONDS = 180.0
"""Within which it answers; on a machine that does nothing else, five."""
STARTS = 3
"""On a new port each: another process may take one before the server does."""


class Served:
    """A server for as long as a block lasts, or until it is killed.

    Args:
        folder: keeps its database, and so what it was told by the one before.
    """

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def __enter__(self) -> Self:
        """Raises RuntimeError where it does not come up."""
        for _ in range(STARTS):
            self._start()
            if self._comes_up():
                return self
            self.kill()
        raise RuntimeError(f"an MLflow server must answer on port {self.port}, and it does not")

    def _start(self) -> None:
        with socket.create_server((ui.HOST, 0)) as free:
            self.port: int = free.getsockname()[1]
        command, variables = ui.server(spelled(self._folder / "mlflow.db"), self.port)
        silent = subprocess.DEVNULL
        self._child = subprocess.Popen(
            command, cwd=self._folder, env={**os.environ, **variables}, stdout=silent, stderr=silent
        )

    def _comes_up(self) -> bool:
        """False where it ended, as it does where somebody else took the port meanwhile."""
        deadline = time.monotonic() + START_SECONDS
        while self._child.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.2)
        return False

    def __exit__(self, *raised: object) -> None:
        self.kill()

    @property
    def uri(self) -> str:
        """The tracking URI of this server, for MLFLOW_TRACKING_URI."""
        return f"http://{ui.HOST}:{self.port}"

    def kill(self) -> bool:
        """Ends it and its workers at once; False where it had ended before."""
        if self._child.poll() is not None:
            return False
        server = psutil.Process(self._child.pid)
        for process in (*server.children(recursive=True), server):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.wait()
        return True

    def _answers(self) -> bool:
        with suppress(OSError, HTTPException), closing(HTTPConnection(ui.HOST, self.port, timeout=5)) as asked:
            asked.request("GET", "/health")
            return asked.getresponse().status == HTTPStatus.OK
        return False
