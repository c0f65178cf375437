"""Which stored rows a run may use, how large its pool is, and what a search says whose cells have all ended before."""

import csv
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from certvae import fingerprint
from certvae.__main__ import main as certvae
from certvae.canonical import digest, plain
from certvae.data import loading
from certvae.engine import executor
from certvae.engine.command import parse
from certvae.engine.context import made_here, slots_of
from certvae.engine.dispatch import Cell, Ended
from certvae.engine.gate import opened_for
from certvae.engine.main import main
from certvae.engine.rows import RowIndex
from certvae.engine.rule import settle_rule
from certvae.engine.run import rule_of
from certvae.engine.search import SearchCells
from certvae.errors import ConfigFault
from certvae.looks.register import declare, recorded
from certvae.protocols import chain, judging, stages
from certvae.spec.parts import Data
from certvae.store.store import Store
from certvae.training import environment
from sweeps import search_margin_psnr, tiny_fixed_q
from tests import simulated_pool
from tests.small_data import mnist_files, write_folder
from tests.sweep_runs import REPOSITORY

STUDY = search_margin_psnr.STUDY
HEAVY = {"torch", "sklearn", "ray", "mlflow"}
SEARCH = ("--data", "digits", "--search", "2", "--search-seeds", "100", "--confirmation-seeds", "200")


@pytest.fixture(scope="module", autouse=True)
def settled():
    environment.settle()


def row(**changed):
    made_in = environment.fingerprint("cpu") | changed
    versions = {f"stage_version_{stage.name}": stage.version for stage in (stages.warm_up, judging.judge)}
    return {**versions, "environment": digest(made_in), "device": made_in["device"]}


def test_a_row_of_this_code_and_machine_is_used():
    assert made_here()(row())


def test_a_row_of_another_stage_version_is_not():
    assert not made_here()(row() | {"stage_version_judge": judging.judge.version + 1})


@pytest.mark.parametrize("changed", [{"device": "another GPU"}, {"python": "2.7"}, {"threads": 64}])
def test_a_row_of_another_machine_is_not(changed):
    assert not made_here()(row(**changed))


def test_on_a_cluster_a_row_of_any_device_is_used():
    """The driver often runs on a head without a GPU."""
    assert made_here(on_cluster=True)(row(device="another GPU"))
    assert made_here(on_cluster=True)(row())


def test_on_a_cluster_other_packages_still_count():
    packages = {**environment.fingerprint("cpu")["packages"], "torch": "0.1"}
    assert not made_here(on_cluster=True)(row(device="another GPU", packages=packages))


def test_a_row_that_does_not_say_its_device_was_made_here_or_nowhere():
    old = {name: value for name, value in row().items() if name != "device"}
    assert made_here(on_cluster=True)(old)
    assert made_here()(old)


def test_slots_of_a_cluster_are_not_those_of_this_machine():
    def slots(*arguments):
        return slots_of(parse(tiny_fixed_q.STUDY, ["--data", "digits", *arguments])[0])

    assert slots().on == "one CPU core each"
    assert slots("--workers", "64", "--address", "head:6390").count == 64
    assert "of the cluster at head:6390" in slots("--address", "head:6390").on


def simulated(store: Path, *arguments: str, diverged: Sequence[str] = ()) -> SearchCells:
    """A search that has ended, with rows as this code on this machine would have written them.

    Args:
        diverged: configs that left no numbers.
    """
    environment.settle()  # or the rows are those of another environment
    run, base, goal = parse(STUDY, [*SEARCH, *arguments])
    search = rule_of(STUDY, run, base, goal)
    made = {**row(), "data_digest": "d" * 64, "data": "digits", "substitute": "", "info": 2.0, "loss": 0.1}
    made |= {"population_bound": 1.0, "delta": 0.05, "looks": 1, "student_info": 1.0, "active_units": 3}
    made["environment"] = digest(environment.fingerprint(fingerprint.device()))

    def work(cell: Cell) -> Ended:
        lost = {"outcome": "diverged", "reason": "loss became nan"} if cell.spec.config in diverged else {}
        return Ended(
            "ok", rows=[{**one, **made, **lost, "spec": plain(cell.spec)} for one in simulated_pool.rows_of(cell)]
        )

    opened = Store(store)
    settle_rule(search, opened)
    cells = SearchCells(search, opened, RowIndex([], lambda _: True, chain.modes))
    simulated_pool.run(cells, 1, 0, put=opened.put_row, work=work)
    return cells


def test_a_search_without_a_feasible_config_ends_with_code_3_and_says_that_mlflow_is_behind(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    floor = ("--goal.psnr-floor", "99")
    assert simulated(tmp_path / "store", *floor).winner is None
    assert main(STUDY, [*SEARCH, *floor, "--store", str(tmp_path / "store")]) == 3
    said = capsys.readouterr().out
    assert "nothing feasible." in said
    assert "behind by" in said


def test_a_config_that_diverged_is_a_result_of_the_search_and_no_failure_of_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    first = simulated(tmp_path / "first").specs[0].config
    cells = simulated(tmp_path / "store", diverged=[first])
    assert cells.winner is not None
    assert cells.winner.config != first
    assert main(STUDY, [*SEARCH, "--store", str(tmp_path / "store")]) == 0
    assert "1 incomplete" in capsys.readouterr().out


def test_a_plan_settles_nothing_for_the_search_that_may_follow(tmp_path, capsys):
    store = Store(tmp_path / "store")
    assert main(STUDY, [*SEARCH, "--store", str(store.path), "--sampler", "gp", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "makespan on" in said
    assert "search: maximise the mean margin of full, nats; PSNR at most 1.5 dB below no_align" in said
    assert "  draws lambda_ts 0.3 to 30, log scale" in said
    assert not list((store.path / "plan").rglob("*.json"))
    simulated(store.path)
    assert main(STUDY, [*SEARCH, "--store", str(store.path), "--sampler", "gp", "--plan"]) == 2
    assert "differs in sampler (auto there, gp here)" in capsys.readouterr().err


@pytest.mark.parametrize("options", [SEARCH, ("--data", "digits"), ("--data", "cifar100", "--search", "2")])
def test_a_plan_leaves_nothing_and_asks_nobody(tmp_path, capsys, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "download", lambda *_: pytest.fail("it was downloaded"))
    assert main(STUDY, [*options, "--store", "deep/store", "--plan"]) == 0
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "--plan --decode" in said
    assert ("a run downloads 169 MB" in said) == ("cifar100" in options)


def test_a_plan_beside_data_that_a_teacher_was_made_of_makes_no_store_either(tmp_path, capsys):
    """As the example of a teacher of one's own decodes them, before there is a store."""
    loading.load(Data(name="digits"), cache=tmp_path / "store" / "data", progress=False)
    assert main(STUDY, ["--data", "digits", "--store", str(tmp_path / "store"), "--plan", "--workers", "0"]) == 0
    assert "makespan on" in capsys.readouterr().out
    assert [entry.name for entry in (tmp_path / "store").iterdir()] == ["data"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--data-root", "absent"),
        ("--data.limit", "10000000"),
        ("--range", "no_such_field", "0", "1"),
        ("--store", "a-file"),
        ("--store", "holds-something"),
        ("--looks", "1", "--seeds", "-1"),
    ],
)
def test_a_plan_refuses_what_the_run_refuses_in_the_same_words(tmp_path, capsys, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data/MNIST/raw", mnist_files())
    (tmp_path / "a-file").touch()
    (tmp_path / "holds-something").mkdir()
    (tmp_path / "holds-something" / "of-mine").touch()
    told = []
    for asked in (["--plan"], []):
        assert main(STUDY, ["--data", "mnist", "--search", "2", "--store", "s", *wrong, *asked]) in (2, 4, 5)
        told.append(capsys.readouterr().err)
    assert told[0] == told[1] != ""


def test_decoding_first_shows_the_forecast(tmp_path, capsys):
    plan = [*SEARCH, "--store", str(tmp_path / "store"), "--plan"]
    for more in (["--decode"], []):
        assert main(STUDY, [*plan, *more]) == 0
        (ahead,) = re.findall(r"forecast without alignment: (.+)", capsys.readouterr().out)
        assert "units expected" in ahead


def test_the_status_of_a_finished_search_is_read_off_the_store_alone(tmp_path, capsys):
    winner = simulated(tmp_path / "store").winner
    assert winner is not None
    asked = (["status", "--store", str(tmp_path / "store")], ["--data", "digits", "--store", str(tmp_path / "store")])
    assert certvae(asked[0]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 cells of 2 configs done" in said
    assert "2 of 2 configs judged, 0 incomplete" in said
    assert f"winner {winner.config[:12]}  alpha_kl " in said
    assert "confirmed on 1 fresh seed (" in said
    assert [winner.config[:12], "200"] in [line.split()[:2] for line in said.splitlines()]
    assert main(STUDY, [*asked[1], "--status"]) == 0
    assert capsys.readouterr().out == said


def test_a_question_to_no_store_makes_none(tmp_path, capsys):
    for asked in (["--status"], ["--explain", "12"]):
        main(STUDY, ["--data", "digits", "--store", str(tmp_path / "store"), *asked])
    assert "holds nothing of search_margin_psnr-digits: it holds no study" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_goes_on_says_beforehand_that_certify_was_opened(tmp_path, capsys):
    simulated(tmp_path / "store")
    (opened,) = opened_for(Store(tmp_path / "store"), f"{STUDY.name}-digits")
    more = ["--search", "3", "--store", str(tmp_path / "store"), "--plan"]
    assert main(STUDY, [*SEARCH, *more]) == 0
    assert f"certify rows: opened before, for {opened[:12]}: another winner is another look" in capsys.readouterr().out


class TestPlanOfASmallerSearch:
    """It said that nothing was left, and ran the winner of fewer configs on seeds that it had not seen."""

    @pytest.fixture
    def planned(self, tmp_path, capsys):
        def ask(*asked):
            assert main(STUDY, [*SEARCH, *asked, "--store", str(tmp_path / "store"), "--plan"]) == 0
            (found,) = re.findall(r"(\d+) done before, (\d+) to run", capsys.readouterr().out)
            return tuple(map(int, found))

        return ask

    @pytest.mark.parametrize(("seed", "left"), [("2", 1), ("1", 0)], ids=["another winner", "no winner"])
    def test_it_says_what_will_run(self, tmp_path, planned, seed, left):
        more, fewer = ("--search", "4", "--search-seed", seed), ("--search", "1", "--search-seed", seed)
        cells = simulated(tmp_path / "store", *more)
        assert cells.winner is not None
        assert cells.winner.config != cells.specs[0].config
        assert planned(*more) == (5, 0)
        assert planned(*fewer) == (1, left)
        simulated(tmp_path / "store", *fewer)
        assert planned(*fewer) == (1 + left, 0)

    def test_a_winner_that_may_not_look_at_certify_rows_needs_no_rows_of_them(self, tmp_path, planned):
        simulated(tmp_path / "store", "--search", "4", "--search-seed", "2")
        disk = Store(tmp_path / "store").disk
        declare(disk, recorded(disk)[0], 1)
        fewer = ("--search", "1", "--search-seed", "2")
        assert simulated(tmp_path / "store", *fewer).refused
        assert planned(*fewer) == (2, 0)
        assert planned(*fewer, "--looks", "2") == (1, 1)


class Pool:
    """What stands for the pool: it keeps what it was asked for, and every cell ends in the same way."""

    def __init__(self, monkeypatch, ended: Ended | None):
        self.ended, self.cells, self.place, self.how = ended, [], None, {}
        monkeypatch.setattr(executor, "run", self)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")

    def __call__(self, dispatcher, place, slots, **how):
        self.place, self.how = place, how
        while self.ended is not None and (cell := dispatcher.next(str(len(self.cells)))) is not None:
            dispatcher.over(str(len(self.cells)), self.ended)
            self.cells.append(cell)


TWO = replace(STUDY, configs=lambda base: (base, replace(base, training=replace(base.training, epochs=7))))
DIGITS = ("--data", "digits", "--seeds", "0")


def test_what_a_command_line_says_arrives_at_the_pool(tmp_path, monkeypatch):
    pool = Pool(monkeypatch, Ended("error", "a test said so"))
    asked = ("--budget", "90s", "--deadline", "2m", "--address", "head:6390", "--workers", "3", "--recompute")
    main(TWO, [*DIGITS, *asked, "--per-gpu", "4", "--store", str(tmp_path / "store")])
    assert pool.how == {"address": "head:6390", "most": 3, "budget_seconds": 90.0}
    assert pool.place is not None
    assert (pool.place.deadline_seconds, pool.place.gpu_share, pool.place.recompute) == (120.0, 0.25, True)
    assert {cell.looks for cell in pool.cells} == {2}  # two configs may open certify
    assert len({cell.spec.config for cell in pool.cells}) == 2


def test_what_a_command_line_says_of_a_search_arrives_at_its_rule():
    asked = ("--lag", "3", "--early-stop", "0.8", "--search-seed", "5", "--sampler", "gp", "--every-mode")
    run, base, goal = parse(STUDY, [*SEARCH, *asked, "--race", "0.7", "--search-seeds", "100", "101"])
    rule = rule_of(STUDY, run, base, goal)
    assert (rule.lag, rule.early_stop, rule.study_seed, rule.sampler, rule.every_mode) == (3, 0.8, 5, "gp", True)
    assert (rule.total, rule.seeds, rule.confirmation_seeds, rule.race) == (2, (100, 101), (200,), 0.7)


def test_a_run_with_failed_cells_ends_with_3_and_says_why(tmp_path, monkeypatch, capsys):
    Pool(monkeypatch, Ended("error", "a test said so"))
    assert main(STUDY, [*DIGITS, "--store", str(tmp_path / "store")]) == 3
    assert "failed: error, a test said so" in capsys.readouterr().out


def test_a_run_that_was_stopped_ends_with_4_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    Pool(monkeypatch, None)
    assert main(STUDY, [*DIGITS, "--store", str(tmp_path / "store")]) == 4
    assert "To go on:" in capsys.readouterr().out


def test_the_final_table_has_certified_rows_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert simulated(tmp_path / "store").winner is not None
    assert main(STUDY, [*SEARCH, "--store", str(tmp_path / "store")]) == 0
    (written,) = (tmp_path / "store" / "views").glob("*/table.csv")
    with written.open() as file:
        assert {line["split"] for line in csv.DictReader(file)} == {"certify"}


def test_a_budget_that_is_no_duration_is_refused_before_anything_starts(tmp_path, capsys):
    assert main(STUDY, [*SEARCH, "--store", str(tmp_path / "store"), "--budget", "6"]) == 2
    assert "a duration such as" in capsys.readouterr().err
    assert not (tmp_path / "store" / "plan" / "search").exists()


@pytest.mark.parametrize("asked", ["--status", "--plan"])
def test_a_question_to_a_finished_store_loads_neither_torch_nor_ray(tmp_path, asked):
    """Half a gigabyte and seconds, for a line that a store can answer."""
    assert simulated(tmp_path / "store").winner is not None
    assert main(STUDY, [*SEARCH, "--store", str(tmp_path / "store"), "--plan", "--decode"]) == 0
    code = (
        "import sys; from certvae.engine.main import main; from sweeps.search_margin_psnr import STUDY;"
        f"code = main(STUDY, sys.argv[1:]); print(sorted({HEAVY} & set(sys.modules)), code)"
    )
    command = [sys.executable, "-c", code, *SEARCH, "--store", str(tmp_path / "store"), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stdout + done.stderr


@pytest.mark.skipif(fingerprint.device() != "cpu", reason="a GPU may have it")
def test_a_precision_that_this_machine_lacks_is_refused_by_name_before_anything_starts(tmp_path, capsys):
    given = ["--data", "digits", "--store", str(tmp_path / "store"), "--plan"]
    lacking = ("--training.precision", "tf32", "--warm-up.training.precision", "tf32")
    assert main(tiny_fixed_q.STUDY, [*given, *lacking]) == ConfigFault.exit_code
    said = capsys.readouterr().err
    assert "a CPU does not multiply in tf32" in said
    assert not (tmp_path / "store" / "obj").exists() or not list((tmp_path / "store" / "obj").iterdir())
    remedy = ("--training.precision", "fp32", "--warm-up.training.precision", "fp32")
    assert all(option in said for option in remedy)
    assert main(tiny_fixed_q.STUDY, [*given, *lacking, *remedy]) == 0
