"""How MLflow's server is started: for this machine alone, on the database that was asked for."""

import itertools
import os
import sys

import pytest

from certvae.tracking import ui


class Became(BaseException):
    """The process is another program now."""


def test_the_server_listens_here_alone_answers_no_foreign_page_and_names_no_database(monkeypatch):
    started = []

    def execv(path: str, arguments: list[str]) -> None:
        started.append((path, arguments))
        raise Became

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Became):
        ui.serve("sqlite:///runs.db?secret", 5123)
    ((path, arguments),) = started
    assert path == arguments[0] == sys.executable
    given = dict(itertools.pairwise(arguments))
    assert given["--host"] == "127.0.0.1"
    assert given["--port"] == "5123"
    assert given["--allowed-hosts"] == "localhost:*,127.0.0.1:*"
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "sqlite:///runs.db?secret"
    assert "secret" not in " ".join(arguments)
