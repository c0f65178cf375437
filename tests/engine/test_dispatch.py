"""Handing out cells and lanes: nobody waits for a key while holding a slot, and nothing is lost or run twice."""

import dataclasses

import numpy as np
import pytest

from certvae.engine import dispatch
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed
from certvae.engine.early_stop import StopRule
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import Goal
from certvae.spec.rescue import Objective, Rescue
from tests.simulated_pool import undivided

OK = Ended("ok")


def cell(seed=0, lambda_ts=5.0, alpha_kl=1.0):
    goal = Objective(lambda_ts=lambda_ts, alpha_kl=alpha_kl)
    return Cell(dataclasses.replace(CellSpec(protocol=Rescue(objective=goal)), seed=seed))


def dispatcher(cells):
    return Dispatcher(Listed(cells), chain.shared, undivided)


class Ears(Listed):
    """A list that remembers what it heard."""

    def __init__(self, cells):
        super().__init__(cells)
        self.said = []

    def heard(self, cell, ended):
        self.said.append((cell, ended.kind))


class TestSharing:
    def test_a_cell_is_held_back_while_another_computes_its_warm_up(self):
        hub = dispatcher([cell(0, 1.0), cell(0, 2.0), cell(1, 1.0)])
        assert hub.next("a").spec.seed == 0
        assert hub.next("b").spec.seed == 1
        assert hub.next("c") is None

    def test_it_is_let_go_when_the_shared_steps_are_published(self):
        hub = dispatcher([cell(0, 1.0), cell(0, 2.0)])
        hub.next("a")
        hub.heard("a", {"at": "teacher"})
        assert hub.next("b") is None
        hub.heard("a", {"at": "full"})
        assert hub.next("b") == cell(0, 2.0)

    def test_another_alpha_kl_waits_for_the_teacher_alone(self):
        hub = dispatcher([cell(0, alpha_kl=1.0), cell(0, alpha_kl=2.0)])
        hub.next("a")
        hub.heard("a", {"at": "no_align"})
        assert hub.next("b") == cell(0, alpha_kl=2.0)

    def test_a_cell_that_died_lets_the_next_one_compute(self):
        hub = dispatcher([cell(0, 1.0), cell(0, 2.0)])
        hub.next("a")
        hub.over("a", Ended("killed"))
        assert hub.next("b") == cell(0, 2.0)

    def test_two_failures_in_a_row_do_not_unlock_a_third_beside_the_second(self):
        hub = dispatcher([cell(0, 1.0), cell(0, 2.0), cell(0, 3.0)])
        hub.next("a")
        hub.over("a", Ended("killed"))
        hub.next("b")
        assert hub.next("c") is None

    def test_no_more_cells_are_looked_at_than_may_be_held_back_and_none_is_forgotten(self, monkeypatch):
        monkeypatch.setattr(dispatch, "AHEAD", 3)
        cells, looked_at = [cell(seed, lambda_ts) for seed in (0, 1) for lambda_ts in range(1, 9)], []

        def shared(spec, only):
            looked_at.append(spec)
            return chain.shared(spec, only)

        hub = Dispatcher(Listed(cells), shared, undivided)
        hub.next("0")
        assert hub.next("1") is None
        assert len(looked_at) == 4
        hub.heard("0", {"at": "full"})
        given = 1
        while (lane := hub.next(str(given))) is not None:
            hub.heard(str(given), {"at": "full"})
            given += 1
            assert lane in cells
        assert given == len(looked_at) == len(cells)


class TestEnding:
    def test_out_of_memory_is_tried_once_more_alone_and_then_told(self):
        ears = Ears([cell(0)])
        hub = Dispatcher(ears, chain.shared, undivided)
        hub.next("a")
        hub.over("a", Ended("out_of_memory"))
        again = hub.next("b")
        assert again.alone
        assert ears.said == []
        hub.over("b", Ended("out_of_memory"))
        assert [kind for _, kind in ears.said] == ["out_of_memory"]
        assert hub.finished

    def test_finished_only_when_nothing_runs_or_waits(self):
        hub = dispatcher([cell(0), cell(1)])
        assert not hub.finished
        hub.next("a")
        hub.next("b")
        hub.over("a", OK)
        assert not hub.finished
        hub.over("b", OK)
        assert hub.finished

    @pytest.mark.parametrize("slots", [1, 2, 8])
    @pytest.mark.parametrize("lanes", [undivided, chain.lanes])
    @pytest.mark.parametrize("seed", range(5))
    def test_every_cell_ends_once_whatever_the_order(self, slots, seed, lanes):
        cells = [cell(number, lambda_ts) for number in range(3) for lambda_ts in (1.0, 2.0, 3.0)]
        ears, generator, running, token = Ears(cells), np.random.default_rng(seed), {}, 0
        hub = Dispatcher(ears, chain.shared, lanes)
        while not hub.finished:
            while len(running) < slots and (started := hub.next(str(token))) is not None:
                running[str(token)] = started
                token += 1
            chosen = str(generator.choice(list(running)))
            for step in chain.steps(running[chosen].spec, running[chosen].only):
                hub.heard(chosen, {"at": step})
            hub.over(chosen, OK)
            del running[chosen]
        assert sorted(one.spec.cell for one, _ in ears.said) == sorted(one.spec.cell for one in cells)


class TestLanes:
    """Modes of one cell on slots of their own; the source hears of whole cells alone."""

    def hub(self, *cells):
        self.ears = Ears(cells)
        return Dispatcher(self.ears, chain.shared, chain.lanes)

    def test_full_runs_beside_no_align_and_rescue_once_there_is_a_teacher(self):
        hub = self.hub(cell(0))
        assert hub.next("a").only == ("no_align", "rescue")
        assert hub.next("b") is None
        hub.heard("a", {"at": "teacher"})
        assert hub.next("b") is None
        hub.heard("a", {"at": "no_align"})
        assert hub.next("b").only == ("full",)
        assert hub.next("c").only == ("head_only", "untrained")
        assert hub.next("d") is None

    def test_a_cell_has_ended_when_its_last_lane_has(self):
        hub = self.hub(cell(0))
        hub.next("a")
        hub.over("a", Ended("ok", rows=[{"mode": "rescue"}]))
        for token in "bc":
            hub.next(token)
        hub.over("c", Ended("ok", rows=[{"mode": "full"}]))
        assert self.ears.said == []
        assert not hub.finished
        hub.over("b", OK)
        assert self.ears.said == [(cell(0), "ok")]
        assert hub.finished

    def test_what_fails_in_one_lane_fails_the_cell_and_the_others_go_on(self):
        hub = self.hub(cell(0))
        hub.next("a")
        hub.heard("a", {"at": "rescue"})
        for token in "bc":
            hub.next(token)
        hub.over("a", Ended("error", "rescue raised"))
        hub.over("b", OK)
        assert self.ears.said == []
        hub.over("c", OK)
        assert [kind for _, kind in self.ears.said] == ["error"]

    def test_a_step_that_fails_is_not_tried_by_every_lane_that_waits_for_it(self):
        hub = self.hub(cell(0))
        hub.next("a")
        hub.heard("a", {"at": "teacher"})
        hub.over("a", Ended("timeout", "its deadline passed"))
        assert hub.next("b") is None
        assert [kind for _, kind in self.ears.said] == ["timeout"]
        assert hub.finished

    def test_lanes_of_another_cell_try_a_step_that_failed_elsewhere(self):
        hub = self.hub(cell(0, 1.0), cell(0, 2.0))
        hub.next("a")
        hub.over("a", Ended("killed"))
        assert hub.next("b").spec == cell(0, 2.0).spec

    def test_a_lane_out_of_memory_waits_for_a_device_and_the_others_for_what_it_computes(self):
        hub = self.hub(cell(0))
        hub.next("a")
        hub.over("a", Ended("out_of_memory"))
        again = hub.next("b")
        assert (again.only, again.alone) == (("no_align", "rescue"), True)
        assert hub.next("c") is None
        hub.heard("b", {"at": "no_align"})
        assert hub.next("c").alone is False

    def test_the_others_leave_its_step_to_a_lane_that_waits_to_be_alone(self):
        hub = self.hub(cell(0), cell(1))
        for token in "ab":
            hub.next(token)
        hub.over("b", Ended("out_of_memory"))
        hub.heard("a", {"at": "no_align"})
        given = [hub.next(token) for token in "cde"]
        assert [(lane.spec.seed, lane.only[0]) for lane in given] == [(0, "full"), (0, "head_only"), (1, "no_align")]
        assert given[-1].alone
        assert hub.next("f") is None

    def test_a_cell_that_may_be_censored_stays_whole(self):
        stop = StopRule(Goal(), 3, 0.9, 5, ())
        hub = self.hub(dataclasses.replace(cell(0), stop=stop, only=("full", "no_align")))
        assert hub.next("a").only == ("full", "no_align")

    def test_modes_that_nobody_wants_have_no_lane(self):
        hub = self.hub(dataclasses.replace(cell(0), only=("full", "no_align")))
        hub.next("a")
        hub.heard("a", {"at": "judge"})
        assert hub.next("b").only == ("full",)
        assert hub.next("c") is None

    def test_rescues_of_a_sweep_wait_for_the_no_align_that_they_share(self):
        hub = self.hub(cell(0, 1.0), cell(0, 2.0))
        hub.next("a")
        hub.heard("a", {"at": "no_align"})
        lanes = [hub.next(token) for token in "bcdefg"]
        assert [lane and lane.only[0] for lane in lanes] == [*["full", "head_only"] * 2, None, None]
        hub.heard("a", {"at": "rescue"})
        assert hub.next("g").only == ("no_align", "rescue")


def test_a_shared_step_at_the_end_of_a_chain_holds_nobody_back():
    """Controls are trained last: cells of one seed ran one after the other, for a step that is over in moments."""
    first, second = cell(0, 1.0), cell(0, 2.0)
    alike = {step for step, key in chain.shared(first.spec).items() if chain.shared(second.spec)[step] == key}
    last = [step for step in chain.steps(first.spec) if step in alike][-1]
    hub = dispatcher([first, second])
    hub.next("a")
    hub.heard("a", {"at": "full"})
    assert chain.steps(first.spec).index(last) > chain.steps(first.spec).index("full")
    assert hub.next("b") == second
