"""Where studies stand, from the store alone: finished, stopped, killed, running, and several in one store."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from certvae.canonical import digest
from certvae.engine import runs, standing
from certvae.engine.dispatch import Cell
from certvae.errors import ConfigFault
from certvae.fingerprint import expected
from certvae.protocols import judging
from certvae.store.log import note
from certvae.store.process import owner
from certvae.store.store import STARTS, Store
from tests import analysis_rows, small_rows

GUARD = ("guard",)


def said(store: Store, study: str | None = None) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(standing.shown(store, study))
    return console.export_text()


def finish(store: Store, *cells: Cell) -> None:
    for cell in cells:
        for mode in small_rows.MODES:
            store.put_row(small_rows.row(store, cell.spec, mode))


def cells(*seeds: int) -> list[Cell]:
    return [Cell(small_rows.cell(seed=seed), GUARD) for seed in seeds]


def test_what_was_asked_for_and_is_not_there_is_still_to_do(store):
    with runs.noted(store, "small", 0) as done:
        runs.ask(store, "small", cells(0, 1, 2))
        finish(store, *cells(0, 1))
        done.append(False)
    text = said(store)
    assert "2 of 3 cells done" in text
    assert text.count("to do") == 1
    assert "stopped before its end" in text
    with runs.noted(store, "small", 0) as done:
        runs.ask(store, "small", cells(2))
        finish(store, *cells(2))
        done.append(True)
    text = said(store)
    assert "3 of 3 cells done" in text
    assert "nothing left" in text
    assert text == said(store, "small")


def test_rows_of_a_store_without_the_log_are_cells_that_are_done(store):
    finish(store, *cells(0, 1))
    assert "2 of 2 cells done" in said(store)


def test_a_run_that_goes_on_names_its_process_and_what_it_computes(store):
    with runs.noted(store, "small", 0):
        runs.ask(store, "small", cells(0))
        note(store.disk, STARTS, {"stage": "aligned", "key": "k", "owner": owner()})
        text = said(store)
    assert "running since" in text
    assert f"process {owner().split('-')[1]} of this host; at work: aligned" in text
    assert "0 of 1 cells done" in text


def test_a_run_that_was_killed_is_told_from_one_elsewhere(store):
    host, pid, _ = owner().split("-")
    for name, word in ((f"{host}-{pid}-1", "was killed"), (f"elsewhere-{pid}-1", "on another host, or killed there")):
        event = {"of": "small", "owner": name, "what": "began", "time": "2026-01-01T12:00:00+00:00", "search": 0}
        note(store.disk, runs.LOG, event)
        assert word in said(store)


def test_several_studies_are_told_in_short_and_one_of_them_whole(store):
    finish(store, *cells(0))
    other = Cell(small_rows.cell(study="other"), GUARD)
    finish(store, other)
    text = said(store)
    assert text.count("1 of 1 cells done") == 2
    assert "--study NAME" in text
    assert other.spec.cell[:12] not in text
    assert other.spec.cell[:12] in said(store, "other")
    with pytest.raises(ConfigFault, match="it holds other, small"):
        standing.shown(store, "smal")
    assert said(Store(store.path.parent / "empty")).strip() == "no study in this store yet"


def test_rows_of_other_code_are_done_and_said_to_be_made_again_here(store):
    for mode in small_rows.MODES:
        store.put_row({**small_rows.row(store, cells(0)[0].spec, mode), "environment": "f" * 64})
    assert "1 of 1 cells done; 3 rows were made by other code or in another environment" in said(store)


def test_rows_of_another_process_and_stage_say_what_was_other(store):
    notebook = {**expected(), "threads": 2, "deterministic": False}
    judged = Store(store.path, fingerprint=notebook).call(analysis_rows.teacher, 0)
    for mode in small_rows.MODES:
        made = {"environment": digest(notebook), "key_judged": judged.key}
        store.put_row({**small_rows.row(store, cells(0)[0].spec, mode), **made})
    wanted = f"stages.judge 1, not {judging.judge.version}, threads 2, not 1, deterministic False, not True"
    assert f"in another environment ({wanted}), and a run here makes them again" in said(store)


def test_rows_of_a_chain_in_python_say_that_nothing_is_noted(store):
    judged = Store(store.path).call(analysis_rows.teacher, 0)
    now = {"environment": "f" * 64, "key_judged": judged.key, "stage_version_judge": judging.judge.version}
    for mode in small_rows.MODES:
        store.put_row({**small_rows.row(store, cells(0)[0].spec, mode), **now})
    assert "in another environment (which one is not noted, as of a chain in Python), and" in said(store)


@pytest.mark.parametrize("named", [{}, {"key_judged": "0" * 64}])
def test_rows_without_an_object_are_no_rows_of_a_chain_in_python(store, named):
    """Of a judging that failed, or whose object was removed: the folder of all objects was opened for it."""
    now = {"environment": "f" * 64, "stage_version_judge": judging.judge.version}
    for mode in small_rows.MODES:
        row = small_rows.row(store, cells(0)[0].spec, mode)
        store.put_row({name: value for name, value in row.items() if name != "key_judged"} | now | named)
    assert "in another environment, and a run here makes them again" in said(store)


def test_a_spec_of_another_version_is_left_out(store):
    runs.ask(store, "small", cells(0))
    (event,) = runs.told(store)
    event["configs"][0]["spec"]["study_of_tomorrow"] = 1
    note(store.disk, runs.LOG, event)
    assert len(runs.cells(runs.told(store), "small")) == 1
    assert runs.cells([event], "small") == []


def test_a_cell_that_is_asked_for_twice_counts_once_as_it_was_asked_last(store):
    lean = replace(cells(0)[0], only=("full", "no_align"))
    runs.ask(store, "small", [lean])
    runs.ask(store, "small", cells(0))
    assert runs.cells(runs.told(store), "small") == cells(0)
