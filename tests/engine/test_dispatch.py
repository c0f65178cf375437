"""Handing out cells: nobody waits for a key while holding a slot, and nothing is lost or run twice."""

import dataclasses

import numpy as np
import pytest

from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.rescue import Objective, Rescue

OK = Ended("ok")


def cell(seed=0, lambda_ts=5.0, alpha_kl=1.0):
    goal = Objective(lambda_ts=lambda_ts, alpha_kl=alpha_kl)
    return Cell(dataclasses.replace(CellSpec(protocol=Rescue(objective=goal)), seed=seed))


def dispatcher(cells):
    return Dispatcher(Listed(cells), chain.shared, chain.steps)


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
        hub.reached("a", "teacher")
        assert hub.next("b") is None
        hub.reached("a", "full")
        assert hub.next("b") == cell(0, 2.0)

    def test_another_alpha_kl_waits_for_the_teacher_alone(self):
        hub = dispatcher([cell(0, alpha_kl=1.0), cell(0, alpha_kl=2.0)])
        hub.next("a")
        hub.reached("a", "no_align")
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


class TestEnding:
    def test_out_of_memory_is_tried_once_more_alone_and_then_told(self):
        ears = Ears([cell(0)])
        hub = Dispatcher(ears, chain.shared, chain.steps)
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
    @pytest.mark.parametrize("seed", range(5))
    def test_every_cell_ends_once_whatever_the_order(self, slots, seed):
        cells = [cell(number, lambda_ts) for number in range(3) for lambda_ts in (1.0, 2.0, 3.0)]
        ears, generator, running, token = Ears(cells), np.random.default_rng(seed), {}, 0
        hub = Dispatcher(ears, chain.shared, chain.steps)
        while not hub.finished:
            while len(running) < slots and (started := hub.next(str(token))) is not None:
                running[str(token)] = started
                token += 1
            chosen = str(generator.choice(list(running)))
            for step in chain.steps(running[chosen].spec):
                hub.reached(chosen, step)
            hub.over(chosen, OK)
            del running[chosen]
        assert sorted(one.spec.cell for one, _ in ears.said) == sorted(one.spec.cell for one in cells)


def test_a_shared_step_at_the_end_of_a_chain_holds_nobody_back():
    """Controls are trained last: cells of one seed ran one after the other, for a step that is over in moments."""
    first, second = cell(0, 1.0), cell(0, 2.0)
    alike = {step for step, key in chain.shared(first.spec).items() if chain.shared(second.spec)[step] == key}
    last = [step for step in chain.steps(first.spec) if step in alike][-1]
    hub = dispatcher([first, second])
    hub.next("a")
    hub.reached("a", "full")
    assert chain.steps(first.spec).index(last) > chain.steps(first.spec).index("full")
    assert hub.next("b") == second
