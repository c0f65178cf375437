"""Through MLflow's client, and through a real MLflow server."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certvae.tracking import client
from certvae.tracking.client import Outage, Patience, Tracker, outages
from certvae.tracking.ledger import Ledger, Synced
from tests.small_ledgers import STUDY, dump, hear, ready_store, sync, text, wait_until
from tests.small_rows import cell, fill


def test_every_failure_is_an_outage_and_says_what_it_was() -> None:
    with pytest.raises(Outage, match="ZeroDivisionError: no"), outages():
        raise ZeroDivisionError("no\nand a long story")


def test_an_outage_hides_users_and_passwords() -> None:
    with pytest.raises(Outage) as found, outages():
        raise OSError("cannot reach http://me:pa55word@host:1/api")
    assert str(found.value) == "OSError: cannot reach http://host:1/api"


def test_an_outage_inside_stays_what_it_is() -> None:
    with pytest.raises(Outage, match=r"^away$"), outages():
        raise Outage("away")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real tracking server with a database and artifacts of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = [f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/files"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *places], cwd=tmp_path, env=os.environ | quiet, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_what_was_written_before_an_outage_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    create, calls = Tracker.create, itertools.count()

    def create_three(*given: Any) -> Any:
        with outages():
            if next(calls) >= 3:
                raise OSError("away")
            return create(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "create", create_three)
        done = sync(store)
    assert (done.created, done.behind, done.reason) == (3, 2, "OSError: away. Run the same command again.")
    assert sync(store) == Synced(created=2, unchanged=3)


def test_a_call_that_does_not_end_is_left_alone_and_no_other_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALL_SECONDS", 0.05)
    within, end = Patience(), threading.Event()
    with pytest.raises(Outage, match="has not answered in 0 s"):
        within(end.wait)
    with pytest.raises(Outage, match="has still not answered"):
        within(lambda: 1)
    end.set()
    wait_until(lambda: not any(thread.name == "mlflow" for thread in threading.enumerate()))
    assert within(lambda: 2, 5.0) == 2


def test_a_slow_server_is_left_when_the_time_of_all_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    monkeypatch.setattr("certvae.tracking.ledger.SYNC_SECONDS", -100.0)
    done = sync(store)
    assert (done.created, done.behind, done.reason) == (1, 4, "MLflow is too slow. Run the same command again.")


@pytest.mark.slow
def test_a_server_shows_what_the_database_shows(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)], ("guard", "certify"))
    sync(store)
    book = Ledger(store, STUDY, uri=server)
    live = book.live(lambda _: None)
    hear(live, store, cell(0))
    live.close(30)
    assert live.behind == 0
    done = [book.sync(store.rows(STUDY)) for _ in range(3)]
    assert done == [Synced(created=3, updated=2), Synced(unchanged=5), Synced(unchanged=5)]
    assert json.loads(dump(server)) == json.loads(text(store))
    assert capsys.readouterr().out == ""


def _wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=1):  # noqa: S310  (loopback)
            return
        time.sleep(0.2)
    raise AssertionError("the server did not start")
