"""The graph of a cell is data: every fold over it agrees, whatever the study."""

import pytest

from certvae.protocols import chain
from certvae.protocols.steps import Step, fold
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Training
from sweeps import (
    cifar10_rescue,
    cifar100_baselines,
    cifar100_fixed_teacher,
    cifar100_teacher_search,
    mnist_simplex,
    simplex_escape,
    simplex_search,
    simplex_stress,
    tiny_fixed_q,
)
from tests.small_cells import small_cell, small_digits

STUDIES = (
    *(cifar10_rescue, cifar100_baselines, cifar100_fixed_teacher, cifar100_teacher_search),
    *(mnist_simplex, simplex_escape, simplex_search, simplex_stress, tiny_fixed_q),
)


@pytest.fixture(params=STUDIES, ids=lambda study: study.__name__)
def spec(request) -> CellSpec:
    return request.param.STUDY.preset("digits")


def test_a_step_comes_after_all_that_it_reads(spec):
    steps = chain.graph(spec).steps
    for position, step in enumerate(steps):
        assert {given for given in step.inputs if isinstance(given, Step)} <= set(steps[:position])


def test_names_are_distinct(spec):
    steps = chain.graph(spec).steps
    assert len({step.name for step in steps}) == len(steps)


def test_a_mode_needs_its_own_steps_and_the_teacher_and_nothing_else(spec):
    whole = chain.graph(spec)
    for mode, network in whole.networks.items():
        part = chain.graph(spec, (mode,))
        assert list(part.networks) == [mode]
        assert {step.name for step in network.before} <= {step.name for step in part.steps}
        assert {step.key for step in part.steps} <= {step.key for step in whole.steps}


def test_lanes_hold_every_mode_once_and_the_longest_way_comes_first(spec):
    graph = chain.graph(spec)
    lanes = graph.lanes()
    assert sorted(mode for lane in lanes for mode in lane) == sorted(graph.networks)
    ways = [max(graph.networks[mode].passes for mode in lane) for lane in lanes]
    assert ways == sorted(ways, reverse=True)


def test_a_mode_goes_on_in_the_lane_that_ends_where_it_begins():
    assert chain.lanes(CellSpec()) == (("no_align", "rescue"), ("full",), ("head_only", "untrained"))
    assert chain.lanes(CellSpec(), ("full", "no_align")) == (("no_align",), ("full",))
    assert chain.lanes(CellSpec(), ("untrained",)) == (("untrained",),)


def test_every_network_that_is_trained_has_a_schedule(spec):
    """The longest training of a study among them, also where it is a start of others."""
    others = {mode for mode in chain.modes(spec) if mode.startswith("escape_") or mode == "untrained"}
    assert chain.schedules(spec).keys() >= set(chain.modes(spec)) - others
    assert all(isinstance(schedule, Training) for schedule in chain.schedules(spec).values())


def test_the_start_of_an_escape_that_is_a_training_is_timed():
    spec = simplex_escape.STUDY.preset("digits")
    assert chain.schedules(spec)["vae"] == spec.training


def test_a_fold_gives_each_step_what_it_gave_for_earlier_ones(tmp_path):
    dataset, graph = small_digits(tmp_path), chain.graph(small_cell())
    made = fold(graph, dataset, lambda step, inputs: (step.name, inputs))
    name, inputs = made[graph.networks["rescue"]]
    assert name == "rescue"
    assert inputs[0] is dataset
    assert made[graph.networks["no_align"]] in inputs
