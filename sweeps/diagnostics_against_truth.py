"""Which diagnostics of collapse can be believed: each against networks whose state is known by construction.

    python sweeps/diagnostics_against_truth.py                 sixteen states, thirteen networks of each
    python sweeps/diagnostics_against_truth.py --networks 2    a first look

Eight states are alive: healthy, under a head that nobody trained, faint, in the variance alone, off the teacher,
against a permuted teacher, a used codebook, conditional. Eight are dead: the prior, drowned by noise, drowned under a
head of high gain, a leaked teacher, untrained, a codebook of one entry, a narrow posterior, a condition alone. A miss
calls a living channel dead, a false alarm a dead one alive; a diagnostic may also leave it open. Nothing is trained, so
there is no store: the same seed prints the same table.
"""

import argparse
import sys
from collections import defaultdict

from certvae.evaluation import planted

Counts = dict[str, planted.Tally]


def run(networks: int, seed: int) -> tuple[Counts, dict[str, Counts]]:
    """Counts by diagnostic, and the same for each state."""
    total: Counts = defaultdict(planted.Tally)
    states: dict[str, Counts] = {}
    for state in planted.STATES:
        found = states.setdefault(state.__name__, defaultdict(planted.Tally))
        for number in range(networks):
            world = planted.World.drawn(1000 * seed + 100 * len(states) + number)
            network = state(world)
            for name, word in planted.said(world, network).items():
                total[name].add(network.alive, word)
                found[name].add(network.alive, word)
    return total, states


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=13, help="of each state (default: 13)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    total, states = run(given.networks, given.seed)
    print(f"{'':34}{'misses':>14}{'false alarms':>16}{'open':>8}")
    for name, one in total.items():
        wrong = f"{one.missed} of {one.alive}", f"{one.false_alarms} of {one.dead}"
        print(f"{name:34}{wrong[0]:>14}{wrong[1]:>16}{one.alive_open + one.dead_open:>8}")
    print("\nwrong by state:")
    for name, counts in states.items():
        wrong = {said: one.missed + one.false_alarms for said, one in counts.items()}
        print(f"{name:17} {', '.join(f'{said} {n}' for said, n in wrong.items() if n) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
