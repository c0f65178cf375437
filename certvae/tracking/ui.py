"""Opens MLflow's UI on the runs of a store, for this machine alone."""

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlencode

from certvae.errors import ConfigFault
from certvae.terminal import UI_PORT, certvae, python
from certvae.tracking.uri import HTTP, without_user
from certvae.tracking.views import QUERY

PORT = UI_PORT
HOST = "127.0.0.1"


def command(uri: str | None, store: Path) -> str:
    """The shell command that opens the UI. It holds no URI of a database: that may hold a password."""
    if uri and uri.startswith(HTTP):
        return python("-m", "webbrowser", without_user(uri))
    return certvae("ui", "--store", str(store.absolute()))


def page(uri: str | None, experiment: str | None, port: int = PORT) -> str:
    """Where the UI shows all networks of an experiment, the largest margin first; of no experiment, its first page."""
    root = without_user(uri).rstrip("/") if uri and uri.startswith(HTTP) else f"http://{HOST}:{port}"
    return root if experiment is None else f"{root}/#/experiments/{experiment}/runs?{urlencode(QUERY)}"


def check_port(port: int) -> None:
    """Refuses a port that something else listens on: its page would not be ours.

    Raises:
        ConfigFault: something listens there already.
    """
    if _is_free(port):
        return
    with contextlib.closing(socket.create_server((HOST, 0))) as other:
        free = other.getsockname()[1]
    raise ConfigFault(
        f"port {port} must be free for the UI, and something listens there",
        f"choose another one, such as --port {free}",
        where="--port",
        cause="an MLflow UI that is still open, of yours or of another user, or AirPlay",
    )


def server(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """MLflow's server of a database, which listens on this machine alone: its command, and variables that it needs."""
    variables = {
        "MLFLOW_BACKEND_STORE_URI": uri,  # on the command line everybody could read it
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # a database made anew is shown without a new start
    }
    # More workers have a supervisor, which ends those that need more than 5 s to start, as on a busy machine.
    serving = ("--host", HOST, "--port", str(port), "--workers", "1")
    allowed = ("--allowed-hosts", "localhost:*,127.0.0.1:*")
    return [sys.executable, "-m", "mlflow", "ui", *serving, *allowed], variables


def serve(uri: str, port: int = PORT) -> NoReturn:
    """Replaces this process by that server, until it is interrupted."""
    command, variables = server(uri, port)
    os.environ |= variables
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _is_free(port: int) -> bool:
    try:
        with contextlib.closing(socket.create_server((HOST, port))):
            return True
    except OSError:
        return False
