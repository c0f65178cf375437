"""A study from Python: options by keyword are those of the command line, and a result is frames, words and figures."""

import os
import sys
import threading
import types
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from certvae.engine import launch, result
from certvae.engine.command import parse
from certvae.engine.main import main
from certvae.errors import ConfigFault, ExitCode
from certvae.spec.goal import Goal
from certvae.tracking.ledger import QUIET
from certvae.training import environment
from sweeps import search_margin_psnr, tiny_fixed_q
from tests.engine.test_run import SEARCH, Pool, simulated

STUDY = search_margin_psnr.STUDY
FEW = {"data": "digits", "search": 2, "search_seeds": (100,), "confirmation_seeds": (200,)}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Runs of MLflow go nowhere: results do not depend on it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A search that has ended, with rows as this code would have written them."""
    path = tmp_path_factory.mktemp("result") / "store"
    assert simulated(path).winner is not None
    return path


@pytest.fixture(scope="module")
def found(store):
    """Its result, for which nothing was printed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        return STUDY.run(store=store, progress=False, **FEW)


def test_keywords_mean_what_options_of_a_command_mean():
    options = {"data": "digits", "seeds": range(3, 5), "limit": 400, "every_mode": True, "goal": Goal(psnr_drop=0.5)}
    options |= {"store": "here", "ranges": [("lambda_ts", 0.1, 10, "log")]}
    fields = {"training.epochs": 5, "lambda_ts": 2, "warm_up.training.epochs": 4}
    asked, base, goal = result._asked(STUDY, fields, options)
    line = ["--data", "digits", "--seeds", "3", "4", "--limit", "400", "--every-mode", "--goal.psnr-drop", "0.5"]
    line += ["--store", "here", "--range", "lambda_ts", "0.1", "10", "log"]
    line += ["--training.epochs", "5", "--objective.lambda-ts", "2", "--warm-up.training.epochs", "4"]
    assert parse(STUDY, line) == (asked, base, goal)


@pytest.mark.parametrize(
    ("fields", "options", "said"),
    [
        ({}, {"sed": 1}, "a field of Run"),
        ({}, {"data": "mnits"}, "did you mean 'mnist'"),
        ({}, {"seeds": (0, 0)}, "distinct"),
        ({}, {"goal": 3}, "goal must be a Goal"),
        ({"trainig.epochs": 3}, {}, "training.epochs"),
        ({"training.epochs": 0}, {}, "epochs must be >= 1"),
    ],
)
def test_what_is_wrong_is_a_fault_before_anything_starts(tmp_path, fields, options, said):
    with pytest.raises(ConfigFault, match=said):
        tiny_fixed_q.STUDY.run(store=tmp_path / "store", fields=fields, **{"data": "digits", **options})
    assert not (tmp_path / "store").exists()


def test_the_result_of_a_finished_search(found):
    assert found.code == ExitCode.DONE
    assert found.winner is not None
    assert found.winner.config in set(found.frame["config"])
    assert found.winner.config[:12] in str(found)
    assert "confirmed on 1 fresh seed (" in str(found)
    assert found.table.index.names == ["seed", "mode"]
    assert list(found.table.loc[200].index) == list(dict.fromkeys(row["mode"] for row in found.final))
    shown = found._repr_html_()
    assert "<table" in shown
    assert f"{found.final[0]['n']:,} certify rows" in shown.partition("<table")[0]
    assert repr(found) == str(found)


def test_a_frame_shows_the_bounds_of_now_as_the_table_does(found):
    frame = found.frame[found.frame["split"] == "certify"].set_index(["cell", "mode"])
    assert len(found.final)
    for row in found.final:
        for name in ("look", "looks", "claims"):
            assert frame.loc[(row["cell"], row["mode"]), name] == row[name]


@pytest.mark.parametrize("name", ["margins", "tau", "psnr", "search", "slices"])
def test_a_figure_is_asked_for_by_name_and_shows_itself_in_a_notebook(found, name):
    figure = found.figure(name)
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_of_another_name_is_told(found):
    with pytest.raises(ConfigFault, match="did you mean 'margins'"):
        found.figure("margin")


def test_a_run_prints_what_a_command_prints_or_nothing(store, capsys):
    said = str(STUDY.run(store=store, progress=False, **FEW))
    assert capsys.readouterr().out == ""
    STUDY.run(store=store, **FEW)
    assert said.splitlines()[0] in capsys.readouterr().out


def test_a_plan_says_what_the_command_says_and_starts_nothing(tmp_path, capsys):
    plan = STUDY.plan(store=tmp_path / "store", **FEW)
    assert (plan.cells, plan.left) == (3, 3)
    assert capsys.readouterr().out == ""
    assert main(STUDY, [*SEARCH, "--store", str(tmp_path / "store"), "--plan"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == str(plan).splitlines()[:3]


def test_the_process_computes_afterwards_as_it_did_before(store):
    before = environment.fingerprint("cpu")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    try:
        with environment.restored():
            environment.settle()
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        environment.settle()
    assert environment.fingerprint("cpu") == before


def test_the_variables_of_the_process_are_afterwards_what_they_were(store, monkeypatch):
    """A user's own calls of MLflow gave up after five seconds, and tried once."""
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before, path = dict(os.environ), list(sys.path)
    STUDY.run(store=store, progress=False, **FEW)
    assert dict(os.environ) == before
    assert sys.path == path


@pytest.mark.parametrize("name", ["store", "data_root", "config"])
def test_an_empty_path_is_not_the_current_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigFault, match=f"{name} must be a path, got ''"):
        STUDY.run(**{"store": tmp_path / "store", **FEW, name: ""})
    assert not list(tmp_path.iterdir())


def test_a_study_of_a_module_is_named_for_the_command_that_goes_on(tmp_path):
    asked, *_ = result._asked(STUDY, {}, {"data": "digits"})
    command = result._command(STUDY, asked, {"training.epochs": 3}, {"data": "digits", "seeds": (1, 2)})
    assert launch.find(command.target) is STUDY
    run, base, _ = parse(STUDY, command.arguments)
    assert (run.seeds, base.training.epochs) == ((1, 2), 3)
    assert result._command(replace(STUDY, name="mine"), asked, {}, {}) is None
    assert result._command(STUDY, asked, {}, {"goal": Goal()}) is None


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("{}\nif __name__ == '__main__':\n    STUDY.run()\n", True),
        ("from sweeps import tiny_fixed_q\n{}\nother = tiny_fixed_q.STUDY\n", True),
        ("if True:\n    from sweeps.search_margin_psnr import *\n", True),
        ("def main():\n    STUDY.run()\nif __name__ == '__main__':\n    {}\n    main()\n", False),
        ("{}\nif __name__ == '__main__':\n    STUDY = STUDY.changed()\n    STUDY.run()\n", False),
        ("print('typed beside it, as in Spyder')\n", False),
        ("changed since (\n", False),
    ],
)
def test_a_script_is_named_where_the_command_finds_the_study_in_it(text, is_found, tmp_path, monkeypatch):
    (script := tmp_path / "mine.py").write_text(text.format("from sweeps.search_margin_psnr import STUDY"))
    main = types.ModuleType("__main__")
    vars(main).update(STUDY=(mine := replace(STUDY)), __file__=str(script))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = result._command(mine, result._asked(STUDY, {}, {"data": "digits"})[0], {}, {})
    assert (command is not None) == is_found
    assert command is None or launch.find(str(command.target)) == STUDY


def test_a_run_that_no_command_can_name_says_how_it_goes_on(tmp_path, monkeypatch, capsys):
    Pool(monkeypatch, None)
    mine = replace(tiny_fixed_q.STUDY, name="typed")
    assert mine.run(data="digits", seeds=(0,), store=tmp_path / "store").code == ExitCode.RESUMABLE
    assert "To go on: call run of this study with the same arguments again" in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_runs_in_a_thread_and_opens_what_it_trained(tmp_path):
    """Signals belong to the main thread, so none may be handled in another one."""
    fields = {"training.epochs": 3, "warm_up.training.epochs": 3, "teacher.initialisations": 1}
    fields |= {"teacher.covariance": ("diag",), "teacher.whitening": (0,), "controls": ()}
    given = {"data": "digits", "seeds": (0,), "limit": 400, "workers": 1, "store": tmp_path / "store"}
    ended = []
    thread = threading.Thread(target=lambda: ended.append(tiny_fixed_q.STUDY.run(fields=fields, **given)))
    thread.start()
    thread.join()
    (found,) = ended
    assert found.code == ExitCode.DONE
    assert len(found.table) == 3
    assert isinstance(found.figure("curves"), Figure)
    assert isinstance(found.figure("reconstructions"), Figure)
    again = tiny_fixed_q.STUDY.run(fields=fields, progress=False, **given)
    assert again.table.equals(found.table)
