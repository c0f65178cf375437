"""A study of thousands of runs must be in MLflow in minutes, and hearing of an epoch must cost the driver nothing."""

import time
from pathlib import Path

import pytest

from certvae.tracking.ledger import Ledger
from tests.small_ledgers import STUDY, hear, ready_store
from tests.small_rows import cell, fill

EPOCHS = 20


@pytest.mark.slow
def test_two_thousand_runs_in_minutes(tmp_path: Path) -> None:
    """Each network with 51 parameters, 20 tags, four files and 284 numbers, through MLflow's client.

    Measured on a busy machine: 59 ms of processor a run, so 2,000 runs in two minutes; 5 ms a run to find all of them
    right, and nothing at all where the database is as it was left.
    """
    store = ready_store(tmp_path / "store")
    fill(store, [cell(seed) for seed in range(20)], ("guard", "certify"), EPOCHS)
    book, rows = Ledger(store, STUDY), store.rows(STUDY)
    with book.writing():
        began = time.process_time()
    done = book.sync(rows)
    assert done.behind == 0
    assert (time.process_time() - began) / done.created < 2 * 0.06
    (store.path / "views" / STUDY / "ledger.json").unlink()
    began = time.process_time()
    assert book.sync(rows).unchanged == done.created
    assert (time.process_time() - began) / done.created < 2 * 0.006
    began = time.process_time()
    book.sync(rows)
    assert (time.process_time() - began) / done.created < 2 * 0.001


def test_an_epoch_is_heard_in_a_millisecond(tmp_path: Path) -> None:
    """Measured: 0.1 ms, most of it the line in the journal."""
    store = ready_store(tmp_path / "store")
    book = Ledger(store, STUDY)
    with book.writing():
        live = book.live(lambda _: None)
    began = time.thread_time()
    hear(live, store, cell(0), epochs=500)
    assert time.thread_time() - began < 0.5 * 2
    live.close(0.0)
