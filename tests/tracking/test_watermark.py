"""A finished study is not compared with MLflow again, and whatever changes is."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from certvae.store.store import Store
from certvae.tracking.ledger import Synced, Watermark
from tests.small_ledgers import STUDY, database, ready_store, sync, text
from tests.small_rows import cell, fill

AGAIN = """
import sys
from certvae.tracking.ledger import Ledger
from certvae.store.store import Store

store = Store(sys.argv[1])
print(Ledger(store, sys.argv[2]).sync(store.rows(sys.argv[2])), "mlflow" in sys.modules)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One cell, shown."""
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    sync(store)
    return store


def runs(store: Store) -> int | None:
    return Watermark(store, STUDY, database(store), store.rows(STUDY)).runs()


def test_a_finished_study_does_not_import_mlflow(store: Store):
    told = subprocess.run(
        [sys.executable, "-c", AGAIN, str(store.path), STUDY],
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.split() == f"{Synced(unchanged=runs(store))} False".split()


def test_rows_in_another_order_are_the_same_rows(store: Store):
    assert Watermark(store, STUDY, database(store), reversed(store.rows(STUDY))).runs() == runs(store) != 0


def test_a_new_row_is_shown(store: Store):
    fill(store, [cell(1)])
    assert runs(store) is None
    assert sync(store).created
    assert runs(store)


def test_what_somebody_else_wrote_is_mended(store: Store):
    told = text(store)
    with sqlite3.connect(database(store)) as connection:
        connection.execute("UPDATE metrics SET value = 7 WHERE key = 'margin'")
        connection.execute("DELETE FROM tags WHERE key = 'certvae.digest'")
    assert runs(store) is None
    sync(store)
    assert text(store) == told


@pytest.mark.parametrize("content", ["", "[]", '{"runs": 3}', '{"runs": null, "state": {}}'])
def test_a_mark_that_says_nothing_is_no_mark(store: Store, content: str):
    (store.path / "views" / STUDY / "ledger.json").write_text(content)
    assert runs(store) is None


def test_a_server_is_always_asked(store: Store):
    asked = Watermark(store, STUDY, None, store.rows(STUDY))
    asked.put(5)
    assert asked.runs() is None
