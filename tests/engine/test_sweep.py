"""A whole run with real Ray and MLflow: the table, the resume, and that killing anything changes nothing."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest

from tests import edits
from tests.sweep_runs import REPOSITORY, command, run, start, table

STEPS = ("warm_up", "teacher", "no_align", "aligned", "judge")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run of one seed."""
    store = tmp_path_factory.mktemp("calm") / "store"
    ended = run(store, "--seeds", "0")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return store, ended


class TestRun:
    def test_it_ends_with_a_table_and_says_where_everything_is(self, finished):
        store, ended = finished
        for said in ("no_align", "final table", "table digest", "certvae ui", str(store)):
            assert said in ended.stdout
        assert len(table(store).splitlines()) == 1 + 3 + 2  # the modes, and the controls beside them
        assert (store / "views" / "mlflow.db").exists()

    def test_what_it_prints_can_be_typed_in_any_folder(self, finished, tmp_path):
        _, ended = finished
        told = {line[:16].strip(): line[16:] for line in ended.stdout.splitlines()}
        for named, more in (("report", ""), ("MLflow UI", " --help")):
            told_again = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            done = subprocess.run(["bash", "-c", told[named] + more], cwd=tmp_path, env=told_again, check=False)
            assert done.returncode == 0, told[named]

    def test_the_same_command_computes_nothing_again(self, finished):
        store, _ = finished
        before = (store / "log" / "executions.jsonl").read_text()
        text = table(store)
        again = run(store, "--seeds", "0")
        assert again.returncode == 0
        assert "1 done before, 0 to run" in again.stdout
        assert (store / "log" / "executions.jsonl").read_text() == before
        assert table(store) == text

    def test_each_stage_was_executed_once(self, finished):
        store, _ = finished
        lines = [json.loads(line) for line in (store / "log" / "executions.jsonl").read_text().splitlines()]
        keys = [line["key"] for line in lines]
        assert len(keys) == len(set(keys))

    def test_status_and_explain_answer_without_running(self, finished):
        store, _ = finished
        shown = run(store, "--seeds", "0", "--status")
        assert "1 of 1 cells done" in shown.stdout
        cell = json.loads(next((store / "rows").rglob("*.json")).read_text())["cell"]
        explained = run(store, "--seeds", "0", "--explain", cell[:12])
        assert explained.returncode == 0
        assert explained.stdout.count("stored") == 7

    def test_a_second_spec_is_a_second_look_and_says_whom_it_costs(self, finished):
        store, _ = finished
        asked = run(store, "--seeds", "0", "--objective.lambda-ts", "3", "--plan")
        assert asked.returncode == 0
        assert "certify rows: look 2 of 2, every bound on them uses delta / 2" in asked.stdout
        refused = run(store, "--seeds", "0", "--objective.lambda-ts", "3", "--looks", "1")
        assert refused.returncode == 5
        assert "more claims than looks declared" in refused.stderr


class TestStale:
    @pytest.mark.parametrize("edit", edits.drawn(2, seed=0), ids=str)
    def test_a_changed_number_anywhere_in_the_program_is_said(self, finished, tmp_path, edit):
        self.status(finished[0], tmp_path, edit)

    @pytest.mark.slow
    @pytest.mark.parametrize("edit", edits.drawn(50, seed=1), ids=str)
    def test_fifty_of_fifty_are_said(self, finished, tmp_path, edit):
        self.status(finished[0], tmp_path, edit)

    def status(self, store: Path, tmp_path: Path, edit: edits.Edit) -> None:
        edit.apply(edits.copied(tmp_path))
        shown = run(store, "--seeds", "0", "--status", root=tmp_path)
        assert "rows are stale" in shown.stdout, shown.stdout + shown.stderr
        assert "--recompute makes them again" in " ".join(shown.stdout.split())

    def test_a_changed_function_of_the_user_gives_other_data_and_so_another_cell(self, finished, tmp_path):
        """Data of one's own are named by their content."""
        mine = tmp_path / "mine.py"
        more = ("--seeds", "0", "--plan", "--data", "mine:rows", "--data.certify-limit", "20", "--limit", "100")
        cells = []
        for scale in (1, 3):
            mine.write_text(
                "import numpy as np\n"
                f"x = {scale} * np.random.default_rng(0).integers(0, 80, (200, 8, 8), dtype=np.uint8)\n"
                "def rows():\n    return {'x': x, 'y': np.arange(200) % 10}\n"
            )
            shown = run(tmp_path / "store", *more, PYTHONPATH=os.pathsep.join((str(REPOSITORY), str(tmp_path))))
            assert "1 to run on" in shown.stdout, shown.stderr
            cells.append(shown.stdout.splitlines()[0])
        assert len(set(cells)) == 2

    @pytest.mark.slow
    def test_recompute_makes_them_again_and_the_table_says_no_more_of_it(self, finished, tmp_path):
        store, _ = finished
        shutil.copytree(store, tmp_path / "store", copy_function=shutil.copy)
        root = edits.copied(tmp_path / "edited")
        losses = root / "certvae" / "training" / "losses.py"
        losses.write_text(losses.read_text().replace("total = reconstruction +", "total = 3 * reconstruction +"))
        kept = run(tmp_path / "store", "--seeds", "0", root=root)
        assert "rows are stale" in kept.stdout
        assert table(tmp_path / "store") == table(store)
        again = run(tmp_path / "store", "--seeds", "0", "--recompute", root=root)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "stale" not in again.stdout
        assert table(tmp_path / "store") != table(store)
        fresh = run(tmp_path / "fresh", "--seeds", "0", root=root)
        assert fresh.returncode == 0
        made_again, made_once = (pd.read_csv(BytesIO(table(tmp_path / name))) for name in ("store", "fresh"))
        assert list(made_again["looks"]) == [2] * len(made_again), "a changed program looks again"
        differing = {name for name in made_once if not made_once[name].equals(made_again[name])}
        assert differing == {"looks", "population_bound"}


@pytest.mark.slow
class TestKills:
    @pytest.mark.parametrize("step", STEPS)
    def test_a_driver_killed_in_any_stage_ends_with_the_same_table(self, finished, step, tmp_path):
        store, _ = finished
        driver = start(tmp_path / "store", "--seeds", "0")
        _wait_for_start(tmp_path / "store", step)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        ended = run(tmp_path / "store", "--seeds", "0")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert table(tmp_path / "store") == table(store)

    def test_ctrl_c_once_ends_resumable_and_prints_the_command(self, tmp_path):
        driver = start(tmp_path / "store", "--seeds", "0")
        _wait_for_start(tmp_path / "store", "no_align")
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=120) == 4
        said = (tmp_path / "store.out").read_text()
        again = shlex.split(next(line for line in said.splitlines() if "To go on: " in line).partition("To go on: ")[2])
        assert sorted(again[1:]) == sorted(command(tmp_path / "store", "--seeds", "0")[1:])

    def test_a_sigterm_to_all_its_processes_is_a_stop_and_no_loss(self, tmp_path):
        """As systemd, Slurm and `timeout` send it: Ray's own processes get it too."""
        store = tmp_path / "store"
        driver = start(store, "--seeds", "0")
        _wait_for_start(store, "teacher")
        os.killpg(driver.pid, signal.SIGTERM)
        assert driver.wait(timeout=120) == 4
        said = (tmp_path / "store.out").read_text()
        assert ("To go on: " in said) or ("the run and its Ray were asked to end; no result is lost" in said)
        assert "memory" not in said
        assert run(store, "--seeds", "0").returncode == 0

    def test_workers_do_not_outlive_their_driver(self, tmp_path):
        driver = start(tmp_path / "store", "--seeds", "0")
        _wait_for_start(tmp_path / "store", "warm_up")
        children = _descendants(driver.pid)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        deadline = time.monotonic() + 180  # they notice within seconds, or later on a machine that is busy
        while any(_alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not [child for child in children if _alive(child)]


def _wait_for_start(store: Path, step: str) -> None:
    deadline = time.monotonic() + 300
    path = store / "log" / "starts.jsonl"
    while time.monotonic() < deadline:
        if path.exists() and f'"stage":"{step}"' in path.read_text():
            return
        time.sleep(0.05)
    raise TimeoutError(f"stage {step} did not start")


def _descendants(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            child = int(path.parent.name)
            found += [child, *_descendants(child)]
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
