"""MLflow's own UI on the runs of a store, for this machine alone."""

import os
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from certvae.terminal import certvae, python

PORT = 5000
HTTP = ("http:", "https:")


def command(uri: str, store: Path) -> str:
    """The shell command that opens the UI. It holds no URI of a database: that may hold a password."""
    if uri.startswith(HTTP):
        return python("-m", "webbrowser", _without_user(uri))
    return certvae("ui", "--store", str(store.absolute()))


def page(uri: str, experiment: str | None, port: int = PORT) -> str:
    """Where the UI shows all networks of an experiment, the largest margin first; of no experiment, its first page."""
    root = _without_user(uri).rstrip("/") if uri.startswith(HTTP) else f"http://127.0.0.1:{port}"
    if experiment is None:
        return root
    view = {"workflowType": "machine_learning", "compareRunsMode": "CHART", "searchFilter": "tags.kind = 'cell'"}
    order = {"orderByKey": "metrics.`margin`", "orderByAsc": "false"}  # an order by name would hide them in configs
    return f"{root}/#/experiments/{experiment}/runs?{urlencode(view | order, quote_via=quote)}"


def serve(uri: str, port: int = PORT) -> NoReturn:
    """Becomes MLflow's server of a database, which listens on this machine alone, until it is interrupted."""
    os.environ |= {
        "MLFLOW_BACKEND_STORE_URI": uri,  # on the command line everybody could read it
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # More workers have a supervisor, which ends those that need more than 5 s to start, as on a busy machine.
    serving = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    allowed = ("--allowed-hosts", "localhost:*,127.0.0.1:*")
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *serving, *allowed])  # noqa: S606 - no shell is wanted


def _without_user(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
