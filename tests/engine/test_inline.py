"""A pool that is this process; with it, that dividing a cell into lanes changes no bit of what it leaves."""

import dataclasses
import os
import signal
import time

import pytest

from certvae import fingerprint
from certvae.cluster.slots import Place
from certvae.engine import failures, inline
from certvae.engine.command import parse
from certvae.engine.context import slots_of
from certvae.engine.dispatch import Cell, Dispatcher, Ended
from certvae.errors import ConfigFault, DataFault
from certvae.protocols import chain
from certvae.spec.parts import Data
from certvae.spec.rescue import StudentFirst
from certvae.store.store import Store
from certvae.training import environment
from sweeps import tiny_fixed_q
from tests.ears import Ears
from tests.simulated_pool import undivided
from tests.small_cells import OBJECTIVE, small_cell


def run(cells, folder, attempt, lanes=undivided, **how):
    ears = Ears(cells)
    hub = Dispatcher(ears, chain.shared, lanes)
    inline.run(hub, Place(str(folder), None, str(folder / "data")), attempt=attempt, **how)
    return ears.said, hub


def cells(*seeds):
    return [Cell(small_cell(seed=seed)) for seed in seeds]


def left_behind(store):
    """Keys of all objects with the digests of their files, and the bytes of all rows."""
    objects = {path.parent.name: path.read_text() for path in (store / "obj").rglob("MANIFEST")}
    rows = {path.relative_to(store): path.read_bytes() for path in (store / "rows").rglob("*.json")}
    return objects, rows


def test_lanes_leave_the_bytes_that_whole_cells_leave(tmp_path):
    """Every family of modes: controls, a controller, and two cells that share all but their alignment weight."""
    environment.settle()
    lambdas = (1.0, 5.0)
    controls = ("head_only", "untrained", "permuted", "full_long")
    many = [
        Cell(
            dataclasses.replace(
                small_cell(
                    objective=dataclasses.replace(OBJECTIVE, lambda_ts=value),
                    controls=controls if value == lambdas[0] else (),
                    controller=StudentFirst() if value == lambdas[0] else None,
                ),
                data=Data(name="digits", limit=240, certify_limit=60),
            )
        )
        for value in lambdas
    ]
    found = []
    for lanes in (undivided, chain.lanes):
        folder = tmp_path / lanes.__name__
        Store(folder, fingerprint=environment.fingerprint(fingerprint.device()))
        said, _ = run(many, folder, None, lanes)
        assert {ended.kind for ended in said.values()} == {"ok"}, said
        found.append(left_behind(folder))
    whole, divided = found
    assert whole == divided
    objects, rows = whole
    assert objects
    assert len(rows) == 2 * sum(len(chain.modes(cell.spec)) for cell in many)


class TestFates:
    def test_what_raises_is_told_and_the_others_run(self, tmp_path):
        def attempt(lane, place, report):
            report({"at": "judge"})
            if lane.spec.seed == 1:
                failures.keep(tmp_path, lane, ValueError("as planned"))
                raise ValueError("as planned")
            return Ended("ok")

        said, hub = run(cells(0, 1, 2), tmp_path, attempt)
        assert {seed: ended.kind for seed, ended in said.items()} == {0: "ok", 1: "error", 2: "ok"}
        assert said[1].reason == "ValueError: as planned"
        assert hub.finished

    def test_out_of_memory_is_tried_once_more_alone(self, tmp_path):
        tried = []

        def attempt(lane, place, report):
            tried.append(lane.alone)
            return Ended("ok" if lane.alone else "out_of_memory")

        said, _ = run(cells(0), tmp_path, attempt)
        assert tried == [False, True]
        assert said[0].kind == "ok"

    @pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_and_leaves_the_rest_undone(self, tmp_path, what):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts behind it ignore it

        def attempt(lane, place, report):
            os.kill(os.getpid(), what)
            time.sleep(5)
            return Ended("ok")

        said, hub = run(cells(0, 1), tmp_path, attempt)
        assert said == {}
        assert not hub.finished

    def test_a_budget_ends_it_in_the_middle_of_a_lane(self, tmp_path):
        def attempt(lane, place, report):
            while True:
                report({"epoch": 1})

        said, hub = run(cells(0), tmp_path, attempt, budget_seconds=0.01)
        assert said == {}
        assert not hub.finished

    def test_a_real_failure_leaves_its_words_beside_the_store(self, tmp_path):
        """The data of this cell are not there."""
        absent = Data(name="mnist")
        said, _ = run([Cell(dataclasses.replace(small_cell(), data=absent))], tmp_path, None)
        assert said[0].kind == "error"
        assert DataFault.__name__ in said[0].reason


@pytest.mark.parametrize("option", [("--deadline", "1h"), ("--address", "head:6390"), ("--logical-gpus", "2")])
def test_what_needs_another_process_is_refused_and_one_worker_is_the_remedy(option):
    def slots(workers):
        return slots_of(parse(tiny_fixed_q.STUDY, ["--data", "digits", "--workers", workers, *option])[0])

    with pytest.raises(ConfigFault, match="exclude each other"):
        slots("0")
    assert slots("1").count == 1


def test_no_workers_is_one_slot_here():
    slots = slots_of(parse(tiny_fixed_q.STUDY, ["--data", "digits", "--workers", "0"])[0])
    assert (slots.count, slots.on) == (1, "this process, without Ray")
