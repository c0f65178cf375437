"""What analysis refuses, and why: rows that must not be mixed or pooled, and statistics that would lie."""

from certvae.errors import Fault


class Refused(Fault):
    """A comparison that would mislead; the message says what to do instead."""

    area, exit_code = "COMP", 2


def pooling(what: str) -> Refused:
    """The fault for stress cases in a mean, a minimum or a spread."""
    return Refused(
        6,
        f"wanted strict-feasible rows only, got {what}",
        where="aggregation",
        cause="a teacher that fails quality control makes its seed a stress case, and those are listed one by one "
        "and never pooled (arXiv 2605.05813)",
        remedy="split the frame with `strict, stress = partition(frame)` and give `strict`; list `stress` beside it",
    )
