"""The promise tried through the real command; and that this trial would notice if it were broken."""

import shutil

import pytest

from certvae.cluster.strikes import CODES
from certvae.engine import selftest as trial
from certvae.store.store import Store
from tests import small_rows


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    small_rows.fill(store, [small_rows.cell()])
    return store


@pytest.mark.slow
def test_a_study_that_is_struck_ends_as_if_nothing_had_happened():
    tally = trial.selftest(2, seed=0)
    assert tally.violations == []
    assert tally.landed == 2
    assert {name: set(one.codes) <= CODES[name] for name, one in tally.strikes.items()} == {
        "worker": True,
        "driver": True,
    }


@pytest.mark.slow
def test_a_study_whose_mlflow_server_is_dropped_ends_as_if_it_were_there_and_tells_it_afterwards(monkeypatch):
    monkeypatch.setattr(trial, "STRIKES", ("mlflow",))
    tally = trial.selftest(1, seed=0)
    assert tally.violations == []
    assert tally.strikes["mlflow"].codes == {0: 1}


@pytest.mark.parametrize(
    ("code", "said", "left", "complaint"),
    [
        (1, "", 0, "exit code 1, not 0"),
        (None, "", 0, "it hung"),
        (0, "Traceback (most recent call last):", 0, "a traceback"),
        (0, "", 2, "2 processes outlived it"),
    ],
)
def test_what_a_run_must_not_do_is_noticed(code, said, left, complaint):
    (found,) = trial._complaints(code, said, left, trial.CALM)
    assert found.startswith(complaint)


def test_a_run_as_it_should_be_is_no_complaint():
    assert trial._complaints(0, "table digest", 0, trial.CALM) == []
    assert trial._complaints(-9, "", 0, CODES["driver"]) == []


def test_the_same_store_is_no_complaint(store):
    assert trial._compared(store.path, trial.results(store.path)) == []


def test_a_row_that_is_missing_another_or_damaged_is_noticed(store, tmp_path):
    wanted = trial.results(store.path)
    name = next(iter(wanted))
    for number, change in enumerate((lambda path: path.unlink(), lambda path: path.write_bytes(b"{}"))):
        copy = tmp_path / str(number)
        shutil.copytree(store.path, copy)
        change(copy / name)
        assert name in trial._compared(copy, wanted)[0]


def test_a_strike_falls_after_so_many_stages_have_begun_however_long_that_takes(store):
    begun = len(trial.starts(store.path))
    assert trial._Moment(store.path, begun, 0.0)()
    assert not trial._Moment(store.path, begun + 1, 0.0)()
    assert not trial._Moment(store.path, begun, 60.0)()
