"""The ledger is a view: any number of syncs, in any order, shows the rows of the store and nothing else."""

import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certvae.canonical import digest
from certvae.errors import ConfigFault
from certvae.store.store import Store
from certvae.tracking import ledger, views
from certvae.tracking.ledger import Ledger, Synced, rebuild
from certvae.tracking.runs import begun
from certvae.tracking.uri import spelled
from tests.small_ledgers import STUDY, database, dump, line, locked, ready_store, seconds_of, shown, sync, text
from tests.small_rows import cell, failed, fill, row


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return ready_store(tmp_path / "store")


class TestIsAView:
    def test_three_syncs_give_one_dump(self, store: Store) -> None:
        fill(store, [cell(0), cell(1), cell(0, alpha_kl=0.7)], ("guard", "certify"))
        first, told = sync(store), text(store)
        assert (first.created, first.unchanged, first.behind) == (2 + 3 * 4, 0, 0)
        for _ in range(2):
            again = sync(store)
            assert again == Synced(unchanged=first.created)
            assert text(store) == told

    def test_a_deleted_database_is_made_anew_identical(self, store: Store) -> None:
        fill(store, [cell(0), cell(99), cell(0, study="other")])
        store.put_row(failed(store, cell(2), "full", "loss became nan at epoch 3"))
        for study in (STUDY, "other"):
            Ledger(store, study).sync(store.rows(study))
        told = text(store)
        assert set(json.loads(told)) == {STUDY, "other"}
        database(store).unlink()
        assert rebuild(store).behind == 0
        assert text(store) == told

    def test_rows_in_any_order_and_in_parts_give_one_dump(self, tmp_path: Path) -> None:
        whole, parts = (ready_store(tmp_path / name) for name in ("whole", "parts"))
        for store in (whole, parts):
            fill(store, [cell(0), cell(1)], ("guard", "certify"))
        rows = whole.rows(STUDY)
        Ledger(whole, STUDY).sync(rows)
        for end in (3, 7, len(rows)):
            Ledger(parts, STUDY).sync(rows[::-1][:end])
        assert text(parts) == text(whole)

    def test_a_new_seed_moves_the_children_below_the_new_parent(self, store: Store) -> None:
        for seed in (0, 1):
            fill(store, [cell(seed)])
            sync(store)
        runs = shown(store)
        assert runs["config"]["latest"]["guard/full/n"] == 2
        parents = {run["tags"].get("mlflow.parentRunId") for run in runs.values()} - {None}
        assert parents == {runs["config"]["tags"]["certvae.key"]}

    def test_rows_of_another_study_are_left_out(self, store: Store) -> None:
        fill(store, [cell(0), cell(0, study="other")])
        Ledger(store, STUDY).sync(store.rows())
        assert set(json.loads(text(store))) == {STUDY}

    def test_a_run_deleted_by_hand_comes_back(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        told = text(store)
        with Ledger(store, STUDY).writing() as tracker:
            tracker.client.delete_run(tracker.read()[f"{cell(0).cell}/full"].run_id)
        assert sync(store).created == 1
        assert text(store) == told

    def test_a_run_left_half_written_is_completed_or_written_anew(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        told = text(store)
        with Ledger(store, STUDY).writing() as tracker:
            there = tracker.read()
            half, wrong = (there[f"{cell(0).cell}/{mode}"] for mode in ("full", "rescue"))
            tracker.mark(half, "RUNNING")
            tracker.client.log_metric(wrong.run_id, "margin", 7.0)
            tracker.mark(wrong, "RUNNING")
        assert sync(store).updated == 2
        assert text(store) == told

    def test_a_run_made_twice_since_an_answer_was_lost_is_there_once(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        told = text(store)
        with Ledger(store, STUDY).writing() as tracker:
            for run in begun(cell(0), "full"):
                tracker.begin(run, None)
                tracker.begin(run, None)
        sync(store)
        assert text(store) == told

    @pytest.mark.parametrize("name", ["there é 数据", "100%41?x=#y", "a'b & c;d"])
    def test_a_store_that_was_copied_shows_its_own_files(self, store: Store, tmp_path: Path, name: str) -> None:
        fill(store, [cell(0)])
        sync(store)
        told = text(store)
        copied = Store(shutil.copytree(store.path, tmp_path / name))
        shutil.rmtree(store.path)
        assert sync(copied) == Synced(created=5)
        assert text(copied) == told
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]

    def test_a_view_that_an_older_projection_wrote_is_made_anew(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(store, [cell(0)])
        with monkeypatch.context() as patched:
            patched.setattr(ledger, "PROJECTION", 1)
            patched.setattr(views, "TAGS", {"certvae.projection": "1"})
            sync(store)
        assert sync(store) == Synced(created=5)
        assert len(shown(store)) == 5

    def test_a_database_that_is_none_is_made_anew(self, store: Store) -> None:
        fill(store, [cell(0)])
        for harm in (b"certainly no SQLite file" * 100, b""):
            database(store).write_bytes(harm)
            assert sync(store) == Synced(created=5)

    def test_two_stores_do_not_take_a_study_from_each_other(self, store: Store, tmp_path: Path) -> None:
        uri, other = f"sqlite:///{tmp_path}/shared.db", ready_store(tmp_path / "other")
        for one in (store, other):
            fill(one, [cell(0)])
        assert Ledger(store, STUDY, uri=uri).sync(store.rows(STUDY)).created == 5
        refused = Ledger(other, STUDY, uri=uri).sync(other.rows(STUDY))
        assert refused.behind == 5
        assert refused.reason.endswith("Unset MLFLOW_TRACKING_URI, and runs go to this store's own database.")
        assert sync(other).created == 5

    def test_a_locked_database_costs_seconds_and_is_said(self, store: Store) -> None:
        fill(store, [cell(0)])
        with locked(store):
            assert seconds_of(lambda: sync(store)) < 10
            assert "behind by 5" in str(sync(store))
        assert sync(store).behind == 0

    def test_two_writers_take_turns(self, store: Store) -> None:
        fill(store, [cell(0)])
        with Ledger(store, STUDY).writing():
            assert "for the ledger: process" in str(sync(store))
            assert "for the ledger: process" in str(rebuild(store))
        assert sync(store).behind == 0


class TestShows:
    def test_the_margin_against_tau(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        run = shown(store)["full seed 0"]
        margins, margin = line(run, "margin_by_tau"), run["latest"]["margin"]
        assert margins.keys() >= {0, 50, 100, 200, 500}
        assert margins == pytest.approx({step: margin - step / 1000 for step in margins}, abs=1e-12)
        assert line(run, "tau") == {step: step / 1000 for step in margins}
        for tau in ("0.05", "0.10", "0.20"):
            assert line(run, f"G_{tau}") == {0: pytest.approx(margin - float(tau), abs=1e-12)}

    def test_the_better_split_in_the_columns(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        guard = shown(store)["full seed 0"]
        assert guard["tags"]["split"] == "guard"
        fill(store, [cell(0)], ("certify",))
        sync(store)
        run = shown(store)["full seed 0"]
        assert run["tags"]["split"] == "certify"
        assert line(run, "margin") == line(run, "certify/margin")
        assert line(run, "guard/margin") == line(guard, "margin")
        assert line(run, "G_0.10") == {0: run["latest"]["margin"] - 0.1}

    def test_aggregates_over_strict_feasible_seeds_alone(self, store: Store) -> None:
        for seed in (0, 1, 2):
            store.put_row(row(store, cell(seed), "full"))
        stress = row(store, cell(99), "full")
        assert stress["teacher_status"] == "stress-case"
        store.put_row(stress)
        store.put_row(failed(store, cell(4), "full", "loss became inf"))
        store.put_row(failed(store, cell(99), "rescue", "loss became inf"))
        sync(store)
        margins = [row(store, cell(seed), "full")["margin"] for seed in (0, 1, 2)]
        assert shown(store)["config"]["latest"] == {
            "guard/full/n": 3,
            "guard/full/n_failed": 1,
            "guard/full/n_stress": 1,
            "guard/full/margin_mean": pytest.approx(sum(margins) / 3, abs=1e-12),
            "guard/full/margin_min": min(margins),
            "guard/full/psnr_01_mean": pytest.approx(18.6),
            "guard/full/psnr_01_min": 18.5,
            "guard/rescue/n": 0,
            "guard/rescue/n_failed": 0,
            "guard/rescue/n_stress": 1,
        }

    def test_what_a_run_came_from(self, store: Store) -> None:
        fill(store, [cell(3)])
        sync(store)
        run = shown(store)["full seed 3"]
        wanted = {"seed": "3", "mode": "full", "split": "guard", "kind": "network", "words": "certified"}
        teacher = {"teacher_status": "strict-feasible", "teacher_source": "warmup_gmm"}
        assert run["tags"].items() >= (wanted | teacher).items()
        assert len([name for name in run["tags"] if not name.startswith(("mlflow.", "certvae."))]) <= 12
        made = {"version_certvae": "0.1.0", "stage_versions": {"aligned": 1, "judge": 1}, "environment": "e" * 64}
        folded = json.loads(run["tags"]["certvae.row"])
        assert folded.items() >= made.items()
        assert folded["key_trained"] == row(store, cell(3), "full")["key_trained"]
        spec = {"seed": "3", "objective.alpha_kl": "0.5", "model.encoder": "Mlp", "model.encoder.hidden": "8"}
        assert run["params"].items() >= spec.items()
        assert shown(store)["config"]["data"][0]["name"] == run["tags"]["data"] == "digits"
        assert set(run["files"]) == {"certificate.json", "teacher.json", "reconstructions.png", "checkpoint.json"}

    def test_the_curve_of_the_warm_up_as_a_run_of_its_own(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        run = shown(store)["warm_up seed 0"]
        assert (run["tags"]["kind"], run["status"]) == ("preparation", "FINISHED")
        assert line(run, "curve/total").keys() == {1, 2, 3, 4, 5}

    @pytest.mark.parametrize("outcome", ["diverged", "infeasible_teacher"])
    def test_a_failure_with_its_reason(self, store: Store, outcome: str) -> None:
        store.put_row(failed(store, cell(0), "full", "the reason") | {"outcome": outcome})
        sync(store)
        runs = shown(store)
        assert runs["full seed 0"]["tags"].items() >= {"outcome": outcome, "reason": "the reason"}.items()
        assert {name: run["status"] for name, run in runs.items()} == {
            "config": "FAILED",
            "full seed 0": "FAILED",
            "warm_up seed 0": "FINISHED",
        }

    @pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), None])
    def test_no_number_that_is_not_finite(self, store: Store, bad: float | None) -> None:
        rows = [row(store, cell(seed), "full") for seed in (0, 1)]
        Ledger(store, STUDY).sync([rows[0] | {"margin": bad, "loss": bad}, rows[1]])
        run, parent = shown(store)["full seed 0"], shown(store)["config"]["latest"]
        hidden = {"margin", "guard/margin", "loss", "guard/loss", "margin_by_tau", "tau", "G_0.10"}
        assert not hidden & run["latest"].keys()
        assert {"loss", "margin"} <= set(json.loads(run["tags"]["certvae.row"])["unavailable"])
        assert parent["guard/full/n"] == parent["guard/full/n_failed"] == 1
        assert parent["guard/full/margin_mean"] == rows[1]["margin"]

    def test_other_code_takes_the_run_of_the_older(self, store: Store) -> None:
        fill(store, [cell(0)])
        sync(store)
        for old in store.rows(STUDY):
            anew = {"stage_version_aligned": 2, "key_trained": digest(old["key_trained"]), "margin": -1.0}
            store.put_row(old | anew)
        sync(store)
        told = text(store)
        runs = json.loads(told)[STUDY]
        (one,) = (run for run in runs if run["tags"].get("mode") == "full")
        assert json.loads(one["tags"]["certvae.row"])["stage_versions"] == {"aligned": 2, "judge": 1}
        (parent,) = (run for run in runs if run["tags"]["kind"] == "config")
        assert parent["latest"]["guard/full/margin_mean"] == -1.0
        assert parent["latest"]["guard/full/n"] == 1
        rebuild(store)
        assert text(store) == told

    def test_no_secret(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A_TEST_TOKEN", "canary-4711-secret")
        store.put_row(failed(store, cell(0), "full", "refused by canary-4711-secret, sorry"))
        sync(store)
        assert shown(store)["full seed 0"]["tags"]["reason"] == "refused by <A_TEST_TOKEN>, sorry"
        files = [path for path in (store.path / "views").rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if b"canary" in path.read_bytes()]


class TestCommand:
    def test_it_is_one_shell_command_that_holds_no_uri(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store(tmp_path / "a store's é")
        called = shlex.split(Ledger(store, STUDY).ui_command)
        assert called[-3:] == ["ui", "--store", str(store.path)]
        monkeypatch.chdir(tmp_path)  # the same from any folder
        assert shlex.split(Ledger(store, STUDY).ui_command) == called

    def test_the_environment_chooses_the_server_and_keeps_its_password(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pa55word@db/mlflow")
        command = Ledger(store, STUDY).ui_command
        assert "pa55word" not in command + Ledger(store, STUDY, uri="http://me:pa55word@host:1").ui_command

    def test_the_page_lists_the_networks_of_the_study(self, store: Store) -> None:
        book = Ledger(store, STUDY)
        assert book.ui_page == "http://127.0.0.1:5000"
        with book.writing() as tracker:
            number = tracker.client.get_experiment_by_name(STUDY).experiment_id
        assert book.ui_page.startswith(f"http://127.0.0.1:5000/#/experiments/{number}/runs?")
        assert book.ui_page.endswith("viewStateShareKey=networks")
        tags = tracker.client.get_experiment(number).tags
        view = json.loads(tags["mlflow.sharedViewState.networks"])
        assert (view["searchFilter"], view["orderByKey"]) == ("tags.kind = 'network'", "metrics.`margin`")
        assert max(map(len, tags.values())) <= 5000
        fill(store, [cell(0)])
        sync(store)
        run = shown(store)["full seed 0"]
        shown_there = {f"tags.`{name}`" for name in run["tags"]} | {f"metrics.`{name}`" for name in run["latest"]}
        assert set(view["selectedColumns"]) <= shown_there
        assert {chart["metricKey"] for chart in view["compareRunCharts"]} <= run["latest"].keys()

    def test_importing_the_ledger_is_light(self) -> None:
        code = "import sys, certvae.tracking.ledger; print(sorted({'mlflow', 'torch', 'ray'} & set(sys.modules)))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"


def test_another_database_shows_the_same(store: Store, tmp_path: Path) -> None:
    fill(store, [cell(0)])
    sync(store)
    other = database(ready_store(tmp_path / "other"))
    assert rebuild(store, uri=f"sqlite:///{other}").created == 5
    assert dump(spelled(other)) == text(store)


def test_mlflow_speaks_afterwards_as_it_did_before(store: Store) -> None:
    """A run in a notebook silenced the user's own runs for good."""
    fill(store, [cell(0)], ("guard",))
    with ledger.restored():
        sync(store)
        assert not logging.getLogger("mlflow").isEnabledFor(logging.ERROR)
    assert logging.getLogger("mlflow").isEnabledFor(logging.INFO)


def test_a_folder_in_place_of_the_database_is_told_and_the_remedy_works(store: Store) -> None:
    """A container that is asked to mount a file which is not there makes a folder of it."""
    fill(store, [cell(0)], ("guard",))
    database(store).unlink(missing_ok=True)
    database(store).mkdir(parents=True)
    with pytest.raises(ConfigFault, match="a folder lies in its place") as told:
        rebuild(store)
    subprocess.run(re.findall("`(.+)`", told.value.remedy)[0], shell=True, check=True)  # noqa: S602 - as it is shown
    assert rebuild(store).behind == 0


def test_a_database_whose_driver_is_not_installed_is_not_tried_again(store: Store) -> None:
    fill(store, [cell(0)], ("guard",))
    told = rebuild(store, uri="mysql://u:p@127.0.0.1:1/x")
    assert "Unset MLFLOW_TRACKING_URI".lower() in told.reason.lower()
    assert "Run the same command again" not in told.reason
