"""Live curves: they grow while a cell trains, they never hold it up, and they end as the very runs that sync makes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certvae.store.store import Store
from certvae.tracking import client, curves
from certvae.tracking.ledger import Ledger, rebuild
from certvae.tracking.uri import spelled
from tests.mlflow_servers import FAILURES, Failure, bad_server
from tests.small_ledgers import (
    STUDY,
    database,
    dump,
    hear,
    line,
    locked,
    ready_store,
    seconds_of,
    shown,
    sync,
    text,
    wait_until,
)
from tests.small_rows import cell, failed, fill, row


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(curves, "WRITE_SECONDS", 0.05)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return ready_store(tmp_path / "store")


@pytest.fixture
def plain(tmp_path: Path) -> Store:
    """A store of the same cell that was never watched: what its ledger shows is right."""
    store = ready_store(tmp_path / "plain")
    fill(store, [cell(0)])
    sync(store)
    return store


class TestGrow:
    def test_curves_grow_and_nothing_is_doubled(self, store: Store, plain: Store) -> None:
        said: list[str] = []
        live = Ledger(store, STUDY).live(said.append)
        hear(live, store, cell(0))
        wait_until(lambda: live.behind == 0)
        run = shown(store)["full seed 0"]
        assert (run["status"], run["tags"]["kind"], run["params"]["seed"]) == ("RUNNING", "network", "0")
        assert line(run, "curve/total").keys() == {1, 2, 3, 4, 5}
        assert {name for name, _, _ in run["points"]} >= {"curve/guard_margin", "curve/gradient_norm"}
        assert len(said) == 1
        assert Ledger(store, STUDY).ui_command in said[0]
        fill(store, [cell(0)])
        sync(store)
        live.close()
        assert text(store) == text(plain)

    def test_a_run_whose_driver_was_killed_is_closed_and_then_completed(self, store: Store, plain: Store) -> None:
        _hear_and_die(store)
        assert shown(store)["full seed 0"]["status"] == "RUNNING"
        live = Ledger(store, STUDY).live()
        live.heard(cell(0), "warm_up", {"at": "warm_up"})
        wait_until(lambda: shown(store)["full seed 0"]["status"] == "KILLED")
        hear(live, store, cell(0))
        wait_until(lambda: live.behind == 0)
        assert shown(store)["full seed 0"]["status"] == "RUNNING"
        fill(store, [cell(0)])
        sync(store)
        live.close()
        assert text(store) == text(plain)

    def test_what_did_not_end_is_killed_when_it_closes(self, store: Store) -> None:
        live = Ledger(store, STUDY).live()
        hear(live, store, cell(0))
        live.close(30)
        runs = shown(store)
        assert {run["status"] for run in runs.values()} == {"KILLED"}
        assert len(line(runs["full seed 0"], "curve/total")) == 5

    def test_a_curve_that_other_code_began_is_written_anew(self, store: Store, plain: Store) -> None:
        live = Ledger(store, STUDY).live()
        live.heard(cell(0), "full", {"stage": "aligned", "epoch": 1, "step": 0, "total": 123.0})
        live.close(30)
        fill(store, [cell(0)])
        sync(store)
        assert text(store) == text(plain)

    def test_a_network_trained_again_leaves_no_second_run(self, plain: Store) -> None:
        told = text(plain)
        live = Ledger(plain, STUDY).live()
        hear(live, plain, cell(0))
        live.close(30)
        assert text(plain) == told
        assert sync(plain).unchanged == 5

    def test_a_diverged_curve_is_kept(self, store: Store, tmp_path: Path) -> None:
        live = Ledger(store, STUDY).live()
        for epoch, total in ((1, 5.0), (2, 9.0), (3, float("nan"))):
            live.heard(cell(0), "full", {"stage": "aligned", "epoch": epoch, "step": 0, "total": total, "kl": 1.0})
        live.close(30)
        store.put_row(failed(store, cell(0), "full", "loss became nan at epoch 3"))
        sync(store)
        run = shown(store)["full seed 0"]
        assert (run["status"], line(run, "curve/total")) == ("FAILED", {1: 5.0, 2: 9.0})
        other = ready_store(tmp_path / "other")
        rebuild(store, uri=f"sqlite:///{database(other)}")
        assert dump(spelled(database(other))) == text(store)

    def test_a_refused_batch_does_not_hold_up_the_others(self, store: Store, plain: Store) -> None:
        live = Ledger(store, STUDY).live()
        hear(live, store, cell(0), "no_align")
        hear(live, store, cell(0), "full", epochs=2)
        wait_until(lambda: live.behind == 0)
        with Ledger(store, STUDY).writing() as tracker:
            tracker.client.delete_run(tracker.read()[f"{cell(0).cell}/no_align"].run_id)
        hear(live, store, cell(0), "no_align")
        hear(live, store, cell(0), "full")
        wait_until(lambda: live.behind == 5)
        assert len(line(shown(store)["full seed 0"], "curve/total")) == 5
        fill(store, [cell(0)])
        sync(store)
        live.close()
        assert text(store) == text(plain)


class TestCellsEnd:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(curves, "ROWS_SECONDS", 0.1)

    def test_a_cell_that_ended_has_its_numbers_while_others_train(self, store: Store, tmp_path: Path) -> None:
        live = Ledger(store, STUDY).live(lambda _: None)
        hear(live, store, cell(0))
        hear(live, store, cell(1))
        wait_until(lambda: live.behind == 0)
        fill(store, [cell(0)])
        live.ended(cell(0), store.rows(STUDY), [])
        wait_until(lambda: shown(store)["full seed 0"]["status"] == "FINISHED")
        runs = shown(store)
        assert {"margin", "G_0.10"} <= {name for name, _, _ in runs["full seed 0"]["points"]}
        assert runs["full seed 1"]["status"] == "RUNNING"
        hear(live, store, cell(1), epochs=7)
        wait_until(lambda: len(line(shown(store)["full seed 1"], "curve/total")) == 7)
        live.close(30)
        fill(store, [cell(1)])
        sync(store)
        other = ready_store(tmp_path / "other")
        fill(other, [cell(0), cell(1)])
        sync(other)
        assert text(store) == text(other)

    @pytest.mark.parametrize("others", [0, 1])
    def test_its_bounds_pay_for_the_claims_of_other_machines(self, store: Store, others: int) -> None:
        """Alone a claim has the whole delta of its config; this one kept no scores, so at less its bound is unknown."""
        ours = row(store, cell(0), "full", "certify")
        live = Ledger(store, STUDY).live(lambda _: None)
        hear(live, store, cell(0))
        live.ended(cell(0), [ours], others * [{**ours, "environment": "f" * 64}])
        wait_until(lambda: shown(store).get("full seed 0", {}).get("status") == "FINISHED")
        live.close()
        assert ("population_bound" in shown(store)["full seed 0"]["latest"]) == (not others)

    def test_a_cell_that_ended_before_it_was_shown_is_written_once_and_whole(
        self, store: Store, plain: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from certvae.tracking.client import Tracker  # noqa: PLC0415  (mlflow)

        def begin(*given: object) -> None:
            raise AssertionError(f"begun live: {given}")

        monkeypatch.setattr(Tracker, "begin", begin)
        with locked(store):
            live = Ledger(store, STUDY).live(lambda _: None)
            hear(live, store, cell(0))
            fill(store, [cell(0)])
            live.ended(cell(0), store.rows(STUDY), [])
        wait_until(lambda: "full seed 0" in shown(store))
        assert live.behind == 0
        live.close(30)
        assert text(store) == text(plain)
        assert sync(store).unchanged == 5


class TestARealCell:
    def test_what_was_watched_is_what_is_rebuilt(self, store: Store, tmp_path: Path) -> None:
        """The whole chain of a small cell: every event of its training, then its rows."""
        from certvae.protocols import chain  # noqa: PLC0415  (torch)
        from tests.small_cells import small_cell, small_digits  # noqa: PLC0415

        spec, dataset = small_cell(), small_digits(tmp_path / "data")
        live = Ledger(store, spec.study).live(lambda _: None)
        at: list[str] = []
        worker = Store(store.path, report=lambda event: live.heard(spec, at[-1], event))
        trained = chain.train(spec, dataset, worker, at.append)
        wait_until(lambda: live.behind == 0)
        grown = {
            name: line(run, "curve/guard_psnr_01").keys() for name, run in shown(store).items() if name != "config"
        }
        assert grown == {f"{step} seed 0": {1, 2, 3} for step in ("warm_up", "full", "no_align", "rescue")}
        chain.judge(trained, dataset, worker, "guard")
        sync(store)
        live.close()
        runs = shown(store)
        assert {run["status"] for run in runs.values()} == {"FINISHED"}
        assert [name for name, run in runs.items() if run["tags"]["kind"] == "preparation"] == ["warm_up seed 0"]
        other = ready_store(tmp_path / "other")
        rebuild(store, uri=f"sqlite:///{database(other)}")
        assert dump(spelled(database(other))) == text(store)


class TestMLflowIsAway:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_nobody_waits(self, store: Store, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "CALL_SECONDS", 2.0)
        fill(store, [cell(0)])
        said: list[str] = []
        with bad_server(failure) as uri:
            book = Ledger(store, STUDY, uri=uri.replace("//", "//me:pa55word@"))
            live = book.live(said.append)
            heard = seconds_of(lambda: hear(live, store, cell(0), epochs=50))
            wait_until(lambda: bool(said))
            closed = seconds_of(lambda: live.close(0.5))
            began = time.monotonic()
            done = book.sync(store.rows(STUDY))
            synced = time.monotonic() - began
        assert (heard < 1.0, closed < 1.0, synced < 5.0) == (True, True, True)
        assert (done.created, done.behind, live.behind) == (0, 5, 50)
        assert "behind by 5" in str(done)
        assert len(said) == 1
        assert said[0].startswith("MLflow is behind by")
        assert "pa55word" not in said[0] + str(done)

    def test_a_locked_database_is_caught_up_with(self, store: Store, plain: Store) -> None:
        said: list[str] = []
        with locked(store):
            live = Ledger(store, STUDY).live(said.append)
            hear(live, store, cell(0))
            wait_until(lambda: bool(said))
            assert live.behind == 5
        wait_until(lambda: live.behind == 0)
        fill(store, [cell(0)])
        sync(store)
        live.close()
        assert text(store) == text(plain)

    def test_waiting_costs_no_processor_time(self, store: Store) -> None:
        """Measured: 0.3 % of one core; training may lose 2 %."""
        with bad_server("hang") as uri:
            said: list[str] = []
            live = Ledger(store, STUDY, uri=uri).live(said.append)
            live.heard(cell(0), "warm_up", {"at": "warm_up"})
            wait_until(lambda: bool(said))
            hear(live, store, cell(0))
            began = time.process_time()
            time.sleep(3.0)
            used = time.process_time() - began
            live.close(0.0)
        assert used < 0.02 * 3.0

    def test_memory_is_bounded(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(curves, "LIMIT", 10)
        with locked(store):
            live = Ledger(store, STUDY).live(lambda _: None)
            hear(live, store, cell(0), epochs=25)
            assert live.behind == 25
            assert len(live._waiting) + len(live._taken) == 10
            live.close(0.1)
        fill(store, [cell(0)], epochs=25)
        sync(store)
        assert len(line(shown(store)["full seed 0"], "curve/total")) == 25


def _hear_and_die(store: Store) -> None:
    """A driver that shows a curve and is killed while it waits for the next epoch."""
    code = (
        "import os, signal, sys, time\n"
        "from certvae.store.store import Store\n"
        "from certvae.tracking import curves, ledger\n"
        "from tests.small_rows import cell, events\n"
        "curves.WRITE_SECONDS = 0.05\n"
        "place = Store(sys.argv[1])\n"
        "live = ledger.Ledger(place, 'small').live(lambda text: None)\n"
        "for event in events(place, cell(0), 'full')[:6]: live.heard(cell(0), 'full', event)\n"
        "while live.behind: time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], cwd=root, env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
