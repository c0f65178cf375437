"""The pool with real Ray: cells run, die, run out of memory, hang and are stopped; the dispatcher hears the truth."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
from ray import tune

from certvae.cluster.slots import Place, Slots, local_slots
from certvae.engine import executor, failures
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listener
from certvae.engine.worker import Speaker, run_cell
from certvae.errors import ExitCode
from certvae.spec.cell import CellSpec
from certvae.terminal import guarded
from tests.ears import Ears
from tests.simulated_pool import undivided

SLOTS = Slots(2, 1.0, 0.0, "one CPU core each")


def run(ears, folder, work, slots=SLOTS, listeners=(), **how):
    hub = Dispatcher(ears, lambda spec, only: {}, undivided, listeners)  # noqa: ARG005 - nothing is shared here
    executor.run(hub, Place(str(folder), None, str(folder)), slots, work=work, **how)
    return hub


def fates(config, *, place):
    """Seed 0 ends well, 1 raises, 2 is killed, 3 runs out of memory beside others, 4 runs out of it always."""
    cell = config["cell"][0]
    folder = Path(place.store)
    with (folder / f"attempts-{cell.spec.seed}").open("a") as attempts:
        attempts.write("x")
    match cell.spec.seed:
        case 1:
            failures.keep(folder, cell, ValueError("as planned"))
            raise ValueError("as planned")
        case 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case 3 | 4 if not cell.alone or cell.spec.seed == 4:
            Speaker().over(failures.keep(folder, cell, MemoryError("too large")))
        case _:
            tune.report({"events": [{"at": "judge"}], "ended": Ended("ok")})


def test_a_cell_that_dies_is_tried_as_often_as_is_said_and_gives_its_slot_to_the_next(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(executor, "ATTEMPTS", 2)  # each costs a worker's start
    for name in executor.GONE:  # of older Rays: Ray Tune raised what it calls a warning, and we told a bug of ours
        monkeypatch.setenv(name, str(tmp_path))
    ears = Ears.of_seeds([2, 0])
    hub = run(ears, tmp_path, fates, slots=Slots(1, 1.0, 0.0, "one CPU core"), budget_seconds=120.0)
    assert hub.finished
    assert ears.kinds == {2: "killed", 0: "ok"}
    assert [(tmp_path / f"attempts-{seed}").read_text() for seed in (2, 0)] == ["xx", "x"]
    told = [one.message.split(" ", 1)[1] for one in caplog.records if "lost" in one.message]
    assert told == ["seed 2 lost its worker: attempt 2 of 2"]
    assert {os.environ[name] for name in executor.GONE} == {str(tmp_path)}


class Impatient(Listener):
    """Presses Ctrl-C as soon as a lane says anything."""

    told = 0

    def heard(self, token, lane, event):
        os.kill(os.getpid(), signal.SIGINT)

    def stopping(self):
        self.told += 1


def test_a_stop_is_told_at_once_and_signals_are_heard_when_ray_has_come_and_gone(tmp_path, capsys):
    """After Ray a command died of SIGTERM without a word, in the middle of its last table, and did not hear Ctrl-C."""
    listener = Impatient()

    def command():
        handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGUSR1)]
        run(Ears.of_seeds([0]), tmp_path, fates, Slots(1, 1.0, 0.0, "one CPU core"), listeners=[listener])
        assert listener.told == 1
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGUSR1)] == handlers
        os.kill(os.getpid(), signal.SIGTERM)
        return ExitCode.DONE

    assert guarded(command, again=lambda: "the same") == ExitCode.RESUMABLE
    assert "stopped; nothing is lost. To go on: the same" in capsys.readouterr().out


@pytest.mark.slow
def test_every_fate_of_a_cell_is_told(tmp_path):
    ears = Ears.of_seeds(range(6))
    hub = run(ears, tmp_path, fates)
    assert hub.finished
    kinds = ears.kinds
    assert kinds == {0: "ok", 1: "error", 2: "killed", 3: "ok", 4: "out_of_memory", 5: "ok"}
    attempts = [len((tmp_path / f"attempts-{seed}").read_text()) for seed in range(6)]
    assert attempts == [1, executor.ATTEMPTS, executor.ATTEMPTS, 2, 2, 1]
    assert "as planned" in ears.said[1].reason


def note_gpu(config, *, place):
    """Notes the GPU that Ray gave this cell, and waits until all eight have been given away."""
    seed = config["cell"][0].spec.seed
    (Path(place.store) / f"gpu-{seed}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    deadline = time.monotonic() + 120
    while len(list(Path(place.store).glob("gpu-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.1)
    tune.report({"events": [{"at": "judge"}], "ended": Ended("ok")})


@pytest.mark.slow
def test_eight_cells_run_at_once_on_eight_logical_gpus_each_with_its_own(tmp_path):
    ears = Ears.of_seeds(range(8))
    assert run(ears, tmp_path, note_gpu, slots=local_slots(None, 1, 8)).finished
    assert set(ears.kinds.values()) == {"ok"}
    assert sorted(path.read_text() for path in tmp_path.glob("gpu-*")) == [str(number) for number in range(8)]


def slow_cell(config, *, place):
    time.sleep(60)


@pytest.mark.slow
def test_a_budget_stops_cleanly_and_leaves_the_rest_undone(tmp_path):
    ears = Ears.of_seeds(range(2))
    hub = run(ears, tmp_path, slow_cell, budget_seconds=3.0)
    assert not hub.finished or set(ears.kinds.values()) == {"killed"}


@pytest.mark.slow
def test_a_cell_past_its_deadline_is_ended_with_its_stacks(tmp_path, monkeypatch):
    spec = dataclasses.replace(CellSpec(study="pool"), seed=0)
    place = Place(str(tmp_path), None, str(tmp_path), deadline_seconds=0.2)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr("certvae.engine.cell.work", lambda *_: time.sleep(30))
        run_cell({"cell": [Cell(spec)]}, place=place)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) != 0
    ended = failures.of(tmp_path, Cell(spec))
    assert ended.kind == "timeout"
    assert "most recent call first" in failures.stack_dump(tmp_path, Cell(spec)).read_text()


def test_a_cell_past_its_deadline_is_not_tried_again(tmp_path, monkeypatch):
    """Ray starts it again in another worker, where it would take as long."""
    spec = dataclasses.replace(CellSpec(study="pool"), seed=0)
    failures.stack_dump(tmp_path, Cell(spec)).write_text("stacks")
    told = []
    monkeypatch.setattr(tune, "report", told.append)
    monkeypatch.setattr("certvae.engine.cell.work", lambda *_: pytest.fail("it ran again"))
    run_cell({"cell": [Cell(spec)]}, place=Place(str(tmp_path), None, str(tmp_path), deadline_seconds=0.2))
    assert [report["ended"].kind for report in told] == ["timeout"]
