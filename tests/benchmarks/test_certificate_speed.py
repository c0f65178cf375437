"""The certificate must stay cheap next to the arithmetic it cannot avoid: one exp and one log of its rows."""

import time
from collections.abc import Callable

import numpy as np

from certvae.certificate import Pairs, certify, evidence


def fastest(*actions: Callable[[], object], repeats: int = 7) -> list[float]:
    """Seconds of the fastest run of each action; the actions take turns, so that a busy machine slows all alike."""
    seconds = [[_seconds(action) for action in actions] for _ in range(repeats)]
    return [min(column) for column in zip(*seconds, strict=True)]


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def test_a_certificate_costs_a_few_passes_over_its_rows():
    """10,000 x 200 rows. Measured on one thread: pairs and certificate take 10 to 17 passes, 0.07 s.

    Ten passes are timed at once: one alone fits between two turns of a busy machine, the certificate does not.
    """
    generator = np.random.default_rng(0)
    teacher, student = 0.95 * generator.dirichlet(np.ones(200), size=(2, 10_000)) + 0.05 / 200
    log_student = np.log(student)

    def build_and_certify() -> None:
        certify(Pairs(teacher=teacher, log_student=log_student, split="certify"), eps=0.05)

    def ten_passes() -> None:
        for _ in range(10):
            np.exp(log_student)
            np.log(teacher)

    floor, found = fastest(ten_passes, build_and_certify)
    assert found < 4 * floor


def test_a_bound_at_another_delta_costs_less_than_the_certificate():
    """10,000 scores, 40 steps of 20 orders. Measured on one thread: 0.015 s, a fifth of the certificate."""
    generator = np.random.default_rng(0)
    teacher, student = 0.95 * generator.dirichlet(np.ones(200), size=(2, 10_000)) + 0.05 / 200
    pairs = Pairs(teacher=teacher, log_student=np.log(student), split="certify")
    kept = evidence(pairs)
    whole, found = fastest(lambda: certify(pairs), lambda: kept.bound(0.01))
    assert found < 0.8 * whole
