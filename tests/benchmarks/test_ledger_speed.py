"""A study of thousands of rows must be in MLflow in seconds, and hearing of an epoch must cost the driver nothing."""

import time
from pathlib import Path

import pytest

from certvae.tracking.ledger import Ledger
from tests.small_ledgers import STUDY, hear, ready_store
from tests.small_rows import cell, fill

EPOCHS = 20


@pytest.mark.slow
def test_a_hundred_rows_a_second(tmp_path: Path) -> None:
    """240 rows of 120 networks, each with 46 parameters, 20 tags, four files and a curve of 20 epochs x 7 numbers.

    Measured on one busy core: 230 rows per processor second; 100 with curves of 60 epochs x 13 numbers. Two dozen calls
    of MLflow's client per network, instead of one transaction per 32 networks, give 20.
    """
    store = ready_store(tmp_path / "store")
    fill(store, [cell(seed) for seed in range(40)], ("guard", "certify"), EPOCHS)
    book, rows = Ledger(store, STUDY), store.rows(STUDY)
    with book.writing():
        began = time.process_time()
    done = book.sync(rows)
    assert len(rows) / (time.process_time() - began) > 100
    assert done.behind == 0
    began = time.process_time()
    book.sync(rows)
    assert len(rows) / (time.process_time() - began) > 500


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
