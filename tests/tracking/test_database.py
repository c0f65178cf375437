"""The file behind MLflow: nobody meets half of one, and what lies in it says when training took place."""

import sqlite3
from pathlib import Path

import pytest

from certvae.errors import ConfigFault
from certvae.tracking import database
from certvae.tracking.uri import chosen, spelled, sqlite_file
from certvae.tracking.uri import database as path_of
from tests.small_ledgers import ready_store, sync
from tests.small_rows import cell, fill


def test_a_database_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "views" / "mlflow.db"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            database.make(path)
    assert not path.exists()
    path.with_name("mlflow.db-journal").write_bytes(b"of a writer that was killed")
    database.make(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["mlflow.db"]


def test_times_are_labels_and_durations_are_those_of_training(tmp_path: Path) -> None:
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    sync(store)
    with sqlite3.connect(path_of(store)) as connection:
        stamps = connection.execute("SELECT DISTINCT timestamp - 1000 * step FROM metrics").fetchall()
    assert stamps == [(0,)]


@pytest.mark.parametrize("name", ["a b", "100%41", "?x=1", "#y", "数é", "a+b&c"])
def test_any_path_survives_its_spelling(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mlflow.db"
    assert sqlite_file(spelled(path)) == path


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        *((one, "the folder") for one in ("./mlruns", "mlruns", "/me/mlruns", "file:///me/mlruns", "file:mlruns")),
        *((one, "a workspace of Databricks,") for one in ("databricks", "databricks://profile")),
    ],
)
def test_what_cannot_serve_is_refused_by_its_name_and_both_remedies_work(
    uri: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace of Databricks was a folder, or an error at the end of a run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigFault, match=f"must be a database or a server, got {said} {uri}") as found:
        chosen()
    remedy = found.value.remedy
    assert remedy.startswith("unset MLFLOW_TRACKING_URI")
    monkeypatch.setenv(*remedy.rpartition(" ")[2].split("="))
    assert chosen() == "sqlite:////absolute/path/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert chosen() is None
