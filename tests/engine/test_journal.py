"""The journal of a search: it grows while the search runs, keeps times over runs, and its winner can be run again."""

import errno
import json
import os
import shlex
from datetime import datetime
from itertools import pairwise

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from analysis.opening import command
from certvae.engine import summary
from certvae.engine.command import parse
from certvae.engine.journal import Journal
from certvae.engine.main import main
from certvae.engine.rows import RowIndex
from certvae.engine.search import SearchCells
from certvae.protocols import chain
from certvae.spec.goal import Goal
from certvae.spec.noise import Noise
from certvae.store.store import Store
from sweeps import search_margin_psnr
from tests import simulated_pool
from tests.engine.test_run import SEARCH, simulated
from tests.engine.test_search import search

PARETO = Goal(psnr_floor=10.0, pareto=True)


def shown(folder) -> optuna.Study:
    """What a dashboard would read now."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    return optuna.load_study(study_name="searched", storage=storage)


def searched(store: Store, folder, total: int, goal: Goal = PARETO, watch=None) -> SearchCells:
    """A search with a journal; `watch` sees what a dashboard would, whenever a config was judged."""
    rows = RowIndex(store.rows(), lambda _: True, chain.modes)
    journal = Journal(folder, store, "searched", goal)
    cells = SearchCells(search(total=total, goal=goal, lag=2), store, rows, journal)
    judge = cells._judge

    def judged(number):
        judge(number)
        if watch is not None and number in cells.judged:
            watch(shown(folder))

    cells._judge = judged
    simulated_pool.run(cells, 1, 0, put=store.put_row)
    return cells


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "views").mkdir()
    return tmp_path / "views"


def test_it_grows_while_the_search_runs(tmp_path, folder):
    states = []
    cells = searched(Store(tmp_path / "s"), folder, 5, watch=lambda now: states.append([t.state for t in now.trials]))
    ended = [sum(state.is_finished() for state in now) for now in states]
    assert ended == [1, 2, 3, 4, 5]
    assert any(TrialState.RUNNING in now for now in states)
    study = shown(folder)
    assert [trial.params for trial in study.trials] == [proposal.params for proposal in cells.proposals]
    assert study.metric_names == ["mean margin of full, nats", "mean PSNR of full, dB"]
    first, judged = study.trials[0], cells.judged[0]
    told = Noise.of([judged]).shortfalls(judged, PARETO.certainty)
    assert (first.values, first.constraints) == (list(judged.values(PARETO)), told)
    assert first.user_attrs["config"] == judged.config


def test_a_search_that_goes_on_keeps_the_times_of_what_has_ended(tmp_path, folder):
    began = datetime.now()  # Optuna shows local time without a zone
    store = Store(tmp_path / "s")
    searched(store, folder, 3)
    before = shown(folder).trials
    (folder / "optuna.log.lock").touch()  # as a killed run leaves it
    searched(Store(tmp_path / "s"), folder, 5)
    after = shown(folder).trials
    assert [one.number for one in after] == list(range(5))
    for one, two in zip(before, after, strict=False):
        assert abs(one.datetime_complete - two.datetime_complete).total_seconds() < 1
        assert (one.values, one.params, one.constraints) == (two.values, two.params, two.constraints)
    starts = [one.datetime_start for one in after]
    assert all(one <= two for one, two in pairwise(starts))
    assert all(began <= one.datetime_start <= one.datetime_complete <= datetime.now() for one in after)


def test_what_has_no_value_is_told_as_a_failure(tmp_path, folder):
    def work(cell):
        return simulated_pool.Ended("error", "lost")

    store = Store(tmp_path / "s")
    cells = SearchCells(
        search(total=2), store, RowIndex([], lambda _: True, chain.modes), Journal(folder, store, "searched", Goal())
    )
    simulated_pool.run(cells, 1, 0, put=store.put_row, work=work)
    assert {trial.state for trial in shown(folder).trials} == {TrialState.FAIL}


def test_the_winner_of_a_search_is_run_again_from_its_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    study, store = search_margin_psnr.STUDY, tmp_path / "store"
    cells = simulated(store)
    assert main(study, [*SEARCH, "--store", str(store)]) == 0
    path = store / "views" / "search_margin_psnr-digits" / "best.json"
    assert f"--config {path}" in capsys.readouterr().out
    body = json.loads(path.read_text())
    assert (body["config"], body["score"]) == (cells.winner.config, cells.winner.score)
    assert body["drawn"] == cells.drawn(cells.winner.config)
    assert "--search 2" in body["command"]
    assert "confirmed on 1 fresh seed (" in body["confirmation"]
    run, base, _ = parse(study, ["--config", str(path), "--training.epochs", "7"])
    assert (run.data, run.study, base.training.epochs) == ("digits", "search_margin_psnr-digits", 7)
    assert parse(study, ["--config", str(path)])[1].config == cells.winner.config
    assert main(study, ["--config", str(path), "--seeds", "200", "--store", str(store)]) == 0
    assert "1 cell, 1 done before" in capsys.readouterr().out
    looks = sorted((store / "plan" / "looks").iterdir())
    monkeypatch.chdir(tmp_path)
    _, _, _, *words = shlex.split(command({"study": "a.py", "arguments": []}, store, run.study, [200]))
    assert main(study, words) == 0
    said = capsys.readouterr().out
    assert "1 cell, 1 done before" in said
    assert "certify rows: look 1 of 1, opened before" in said
    assert sorted((store / "plan" / "looks").iterdir()) == looks
    assert main(study, ["--config", str(path), "--data", "mnist", "--store", str(store)]) == 2
    assert "leave --data away" in capsys.readouterr().err
    assert (summary.best(cells, "digits", "") or {})["spec"] == body["spec"]


def test_a_search_goes_on_whatever_becomes_of_its_journal(tmp_path, folder, monkeypatch):
    """A full disk cuts a line, as a second run of the search may: Optuna reads it back, and its error was ours."""
    store = Store(tmp_path / "s")
    put = store.put_row

    def cut(row):
        with (folder / "optuna.log").open("a") as file:
            file.write('{"op_code"\n')
        return put(row)

    monkeypatch.setattr(store, "put_row", cut)
    assert len(searched(store, folder, 5).judged) == 5


def test_it_needs_no_links_which_some_file_systems_lack(tmp_path, folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    searched(Store(tmp_path / "s"), folder, 3)
    assert len(shown(folder).trials) == 3
