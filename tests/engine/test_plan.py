"""Before a run: counts that a real chain confirms, estimates that say what they leave out, and disk that is checked."""

import dataclasses
import io
import shutil
from collections import namedtuple

import pytest
from rich.console import Console

from certvae.cluster.slots import Slots
from certvae.engine import plan
from certvae.engine.dispatch import Cell
from certvae.errors import DiskFault
from certvae.protocols import chain
from certvae.store.store import Store
from tests.small_cells import OBJECTIVE, small_cell, small_digits

SLOTS = Slots(count=2, cpus=1, gpus=0, on="one CPU core each")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return small_digits(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def with_lambda(value, seed=0):
    return Cell(small_cell(seed=seed, objective=dataclasses.replace(OBJECTIVE, lambda_ts=value)), ("guard",))


def counted(works):
    return {work.step: (work.runs, work.stored, work.asked) for work in works}


def shown(*items):
    text = io.StringIO()
    Console(width=120, file=text).print(*items)
    return text.getvalue()


class TestCounts:
    def test_stages_that_cells_share_are_planned_once(self, digits, store):
        cells = [with_lambda(value, seed) for value in (1.0, 5.0) for seed in (0, 1)]
        found = counted(plan.works_of(cells, digits, store))
        assert found["warm_up"] == found["teacher"] == found["no_align"] == (2, 0, 4)
        assert found["full"] == found["rescue"] == (4, 0, 4)

    def test_what_the_store_holds_is_not_planned_again(self, digits, store):
        cells = [with_lambda(1.0), with_lambda(5.0)]
        chain.train(cells[0].spec, digits, store)
        found = counted(plan.works_of(cells, digits, store))
        assert found["warm_up"] == found["teacher"] == found["no_align"] == (0, 1, 2)
        assert found["full"] == found["rescue"] == (1, 1, 2)

    def test_a_planned_run_executes_what_the_plan_counts(self, digits, store):
        cells = [with_lambda(1.0), with_lambda(5.0)]
        works = plan.works_of(cells, digits, store)
        for cell in cells:
            chain.train(cell.spec, digits, store)
        planned = sum(work.runs for work in works if work.step != "judge")
        assert len(store.executions()) == planned

    def test_modes_that_only_some_cells_train_are_counted_for_these(self, digits, store):
        whole = with_lambda(1.0)
        lean = dataclasses.replace(with_lambda(5.0), only=("full", "no_align"))
        found = counted(plan.works_of([lean, whole], digits, store))
        assert found["full"] == (2, 0, 2)
        assert found["rescue"] == (1, 0, 1)
        assert "rescue" not in counted(plan.works_of([lean], digits, store))
        assert list(found) == list(chain.steps(whole.spec))

    def test_nothing_left_is_no_plan(self, digits, store):
        assert plan.works_of([], digits, store) == []
        assert shown(plan.estimate([], [], digits, store, SLOTS)).strip() == "nothing is left to run"


class TestEstimate:
    def test_a_step_that_nobody_timed_is_named_and_not_taken_for_free(self, digits, store):
        cells = [with_lambda(1.0)]
        text = shown(plan.estimate(cells, plan.works_of(cells, digits, store), digits, store, SLOTS))
        assert "teacher and judge beside it (never timed on this store)" in " ".join(text.split())
        assert "a probe of 8 steps" in text

    def test_times_come_from_the_store_once_it_has_seen_a_step(self, digits, store):
        chain.train(with_lambda(1.0).spec, digits, store)
        cells = [with_lambda(5.0)]
        times = plan.times_of(plan.works_of(cells, digits, store), cells[0], digits, store)
        assert times["full"].known == times["rescue"].known == "2 runs in this store"
        seen = store.seconds("aligned")
        assert times["full"].seconds == (min(seen), sum(seen) / 2, max(seen))

    def test_judging_takes_as_long_as_the_stages_that_judge_every_mode(self, digits, store):
        cell = with_lambda(1.0)
        chain.judge(chain.train(cell.spec, digits, store), digits, store, "guard")
        times = plan.times_of(plan.works_of([cell], digits, store), cell, digits, store)
        seen = store.seconds("judge")
        assert times["judge"].seconds == pytest.approx((3 * min(seen), 3 * sorted(seen)[1], 3 * max(seen)))

    def test_work_is_spread_over_slots_but_a_chain_is_not_cut(self):
        works = [plan.Work("warm_up", "warm_up", 1, 0, 4), plan.Work("full", "aligned", 4, 0, 4)]
        times = {"warm_up": plan.Time((1, 2, 3), ""), "full": plan.Time((10, 20, 30), "")}
        assert [plan.makespan(works, times, 2, bound) for bound in range(3)] == [20.5, 41, 61.5]
        assert plan.makespan(works, times, 100, 1) == 22


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(digits, store, monkeypatch):
    cells = [with_lambda(1.0)]
    works = plan.works_of(cells, digits, store)
    plan.check_disk(cells, works, digits, store)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(DiskFault, match=r"0\.0 GiB are free, about .* are needed"):
        plan.check_disk(cells, works, digits, store)
