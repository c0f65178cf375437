"""The fast way into a SQL database says what MLflow's own client says, and nobody meets half a database."""

import json
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from certvae.store.store import Store
from certvae.tracking import database
from certvae.tracking.client import Outage, Tracker, experiment_id
from certvae.tracking.evidence import Evidence
from certvae.tracking.ledger import Ledger
from certvae.tracking.projection import entries, show
from certvae.tracking.runs import Point, begun
from tests.small_ledgers import STUDY, ready_store, text
from tests.small_ledgers import database as path_of
from tests.small_rows import cell, failed, fill


def test_fast_and_slow_text_say_the_same(tmp_path: Path) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0), cell(1)], ("guard", "certify"))
    store.put_row(failed(store, cell(2), "full", "loss became nan"))
    evidence = Evidence(store)
    runs = [show(entry, evidence) for entry in entries(store.rows(STUDY), evidence)]
    fast, slow = (ready_store(tmp_path / name) for name in ("fast", "slow"))
    with Ledger(fast, STUDY).writing() as tracker:
        assert isinstance(tracker, database.SqlTracker)
        tracker.create(runs, {})
    client = MlflowClient(tracking_uri=database.spelled(path_of(slow)))
    tracker = Tracker(client, experiment_id(client, STUDY, (slow.path / "views" / "artifacts" / STUDY).as_uri()))
    tracker.create(runs, {})
    assert text(fast) == text(slow)
    assert json.dumps({STUDY: tracker.dump()}, indent=1, sort_keys=True) == text(slow)


def test_a_run_begun_live_ends_under_its_id_as_if_it_had_not_begun(tmp_path: Path) -> None:
    """Whatever was logged of it meanwhile: an epoch that ran again, with another loss, leaves nothing behind."""
    live, late = (ready_store(tmp_path / name) for name in ("live", "late"))
    with Ledger(live, STUDY).writing() as tracker:
        parent = tracker.begin(begun(cell(0), "full", "aligned")[0], None)
        child = tracker.begin(begun(cell(0), "full", "aligned")[1], parent)
        tracker.log(child.run_id, [Point("curve/total", 1, 77.0), Point("curve/other", 9, 1.0)])
    for store in (live, late):
        fill(store, [cell(0)], ("guard", "certify"))
        Ledger(store, STUDY).sync(store.rows(STUDY))
    assert text(live) == text(late)
    with Ledger(live, STUDY).writing() as tracker:
        ids = {shown.run_id for key, shown in tracker.index().items() if "/full/" in key or shown.parent == ""}
    assert ids == {parent.run_id, child.run_id}


def test_a_database_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, artifacts = tmp_path / "views" / "mlflow.db", tmp_path / "artifacts"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(database.os, "link", die)
        with pytest.raises(KeyboardInterrupt):
            database.make(path, artifacts)
    assert not path.exists()
    database.make(path, artifacts)
    made = path.read_bytes()
    database.make(path, artifacts)
    assert path.read_bytes() == made
    assert [entry.name for entry in path.parent.iterdir()] == ["mlflow.db"]


def test_a_database_made_anew_has_a_spelling_of_its_own(tmp_path: Path) -> None:
    path, other = tmp_path / "mlflow.db", tmp_path / "kept"
    path.write_bytes(b"")
    first = database.spelled(path)
    assert database.spelled(path) == first
    path.rename(other)
    path.write_bytes(b"")
    assert database.spelled(path) != first
    assert Path(database.spelled(path).removeprefix("sqlite:///")).samefile(path)


def test_a_file_that_is_no_database_is_an_outage(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path_of(store).write_bytes(b"certainly no SQLite file" * 100)
    with pytest.raises(Outage, match="not a database"), Ledger(store, STUDY).writing():
        pass


def test_times_are_labels_and_durations_are_those_of_training(tmp_path: Path) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    Ledger(store, STUDY).sync(store.rows(STUDY))
    with sqlite3.connect(path_of(store)) as connection:
        found = connection.execute("SELECT end_time - start_time FROM runs WHERE name LIKE 'full%'").fetchone()[0]
        stamps = connection.execute("SELECT DISTINCT timestamp - 1000 * step FROM metrics").fetchall()
    assert stamps == [(0,)]
    took = [event["seconds"] for event in store.executions("aligned")]
    assert found in {round(1000 * seconds) for seconds in took}
