"""Planted networks are what they are said to be, and the words of this project are never wrong about them."""

import numpy as np
import pytest

from certvae.evaluation import planted

every_state = pytest.mark.parametrize("state", planted.STATES, ids=lambda state: state.__name__)


def capacity(network: planted.Planted) -> float:
    """Nats that a Gaussian channel of these means and its least noise can carry at most."""
    least = np.exp(min(rows.min() for rows in network.logvar.values()))
    return float(0.5 * np.log1p(network.mu["certify"].var(axis=0) / least).sum())


@every_state
def test_the_truth_follows_from_the_formula(state):
    world = planted.World.drawn(1)
    network = state(world)
    if network.alive:
        found = planted.information(network.mu["certify"], network.logvar["certify"], world.rng)
        assert found > 0.3
    elif state is planted.untrained:  # its variances move with the image, by a hundredth of what its means do
        assert 0 < capacity(network) < 0.02
    else:
        assert len({rows.tobytes() for rows in network.logvar["certify"]}) == 1
        assert capacity(network) < 0.02


@every_state
def test_no_word_of_ours_is_wrong(state):
    world = planted.World.drawn(2)
    network = state(world)
    word = planted.said(world, network)["draws, bound and KL"]
    assert word in {"alive" if network.alive else "dead", "open"}


def test_a_condition_alone_is_no_certificate_given_the_condition():
    world = planted.World.drawn(3)
    said = planted.said(world, planted.condition_alone(world))
    assert (said["raw margin"], said["raw margin, given the condition"]) == ("alive", "dead")


@pytest.mark.parametrize(
    ("rows", "rank"), [(np.ones((50, 3)), 1.0), (np.random.default_rng(0).standard_normal((9**5, 4)), 4.0)]
)
def test_the_effective_rank_counts_directions(rows, rank):
    assert planted.effective_rank(rows) == pytest.approx(rank, rel=0.01)


def test_information_is_that_of_a_gaussian_channel():
    rng = np.random.default_rng(0)
    mu = rng.standard_normal((500, 1))
    found = planted.information(mu, np.full((500, 1), np.log(0.5)), rng)
    assert found == pytest.approx(0.5 * np.log(1 + 1 / 0.5), abs=0.1)


def test_a_tally_counts_each_network_once():
    tally = planted.Tally()
    for alive, word in ((True, "alive"), (True, "dead"), (True, "open"), (False, "alive"), (False, "open")):
        tally.add(alive, word)
    assert tally == planted.Tally(alive=3, missed=1, alive_open=1, dead=2, false_alarms=1, dead_open=1)
