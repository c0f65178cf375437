"""Ball arithmetic: what it encloses, and how narrowly."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certvae.certificate import Pairs, Reference, certify
from certvae.errors import BundleFault
from certvae.preconditions import Preconditions
from certvae.verifier.bundle import Computed
from certvae.verifier.rigorous import enclosed


def every(n: int) -> Preconditions:
    """All rows count."""
    return Preconditions.of(np.arange(n), train=np.array([]), guard=np.array([]))


def claimed(n: int, classes: int, sharpness: float, delta: float = 0.05, looks: int = 1) -> Computed:
    generator = np.random.default_rng(n + classes)
    teacher = generator.dirichlet(np.full(classes, 0.2), n)
    logits = sharpness * np.log(teacher + 1e-3) + generator.normal(size=(n, classes))
    pairs = Pairs.from_logits(teacher, logits, split="certify")
    reference = Reference(teacher=generator.dirichlet(np.full(classes, 0.2), 500), split="train")
    certificate = certify(pairs, delta=delta, looks=looks, reference=reference)
    return Computed({}, {}, certificate, pairs, reference, every(n))


@settings(max_examples=8)
@given(
    n=st.integers(2, 60),
    classes=st.integers(2, 12),
    sharpness=st.floats(0, 1),
    delta=st.floats(1e-4, 0.5),
    looks=st.integers(1, 5),
)
@example(n=3, classes=3, sharpness=0.0, delta=0.0625, looks=3)  # nothing is rejected: the bound is the trivial one
def test_margin_and_bound_lie_in_intervals_that_are_narrower_than_a_printed_digit(n, classes, sharpness, delta, looks):
    found = claimed(n, classes, sharpness, delta, looks)
    proved = enclosed(found)
    for said, (low, high) in (
        (found.certificate.margin, proved.margin),
        (found.certificate.betting_bound, proved.bound),
    ):
        assert low - 1e-9 <= said <= high + 1e-9
        assert 0 <= high - low < 1e-6


def test_hard_labels():
    labels = np.eye(3)[np.arange(30) % 3]
    pairs = Pairs.from_logits(labels, 4 * labels, split="certify")
    reference = Reference(teacher=labels, split="train")
    found = Computed({}, {}, certify(pairs, reference=reference), pairs, reference, every(30))
    low, high = enclosed(found).margin
    assert low <= np.log(3) - np.log(np.exp(4) + 2) + 4 <= high


def test_a_bound_that_is_not_that_of_the_rows_is_not_proved():
    found = claimed(40, 4, 1.0)
    object.__setattr__(found.certificate, "betting_bound", found.certificate.betting_bound + 1e-4)
    with pytest.raises(BundleFault, match="not where float64 found it"):
        enclosed(found)
