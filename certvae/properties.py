"""What of the teacher reached the latent: certificates of a partition of the classes, and of what is within its parts.

A nonconstant statistic of the teacher that a head matches below its constant baseline reached the head through z
(arXiv 2605.05813, Corollary 2). A partition of the classes, such as superclasses, is such a statistic, and so is the
choice within a part. By the chain rule of KL the margin is the sum of both kinds, `G_0(partition)` and for every part g
`E[T_g (KL(T|g || Tbar|g) - KL(T|g || S|g))]`, where T_g adds up the classes of g and T|g is the teacher within it.

Every term is at most 0 for a constant student, so each that is positive certifies on its own, on these rows: the head
tells the parts, or the classes of that part, apart. One that is not positive proves nothing; a part of one class has 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from certvae.certificate import FLOAT_SLACK, WORDS, Pairs, View, certify

MERGED_ROWS = 4096  # teacher rows that a merging reads, at most, evenly spread
FAINT = math.log(np.finfo(np.float64).tiny)  # of a part: below, its probability has lost digits, or is 0


@dataclass(frozen=True)
class Part:
    """One part of a partition.

    share   E T_g, how much of the teacher lies in it
    used    share of rows whose largest student probability is at a class of it
    margin  its term within, nats: positive certifies that the head tells its classes apart; 0 for a single class
    """

    name: str
    classes: tuple[int, ...]
    share: float
    used: float
    margin: float


def coarsened(pairs: Pairs, parts: Any) -> Pairs:
    """The same rows with the classes of each part added up: what `certify` says of them it says of the partition.

    Args:
        parts: (K,) the name of the part of every class; at least two are there.

    Raises:
        ValueError: not one name per class, or all the same.
    """
    names, codes = _parts(parts, pairs.teacher.shape[1])
    mixing = np.eye(len(names))[codes]
    with np.errstate(divide="ignore"):  # a part that the student excludes, or nearly
        log_student = np.log(np.exp(pairs.log_student) @ mixing)
    faint = log_student < FAINT
    for part in np.flatnonzero(faint.any(axis=0)):
        rows = faint[:, part]
        log_student[rows, part] = np.logaddexp.reduce(pairs.log_student[np.ix_(rows, codes == part)], axis=1)
    return Pairs(teacher=pairs.teacher @ mixing, log_student=log_student, split=pairs.split, view=pairs.view)


def merged(teacher: Float[np.ndarray, "n K"], counts: Sequence[int]) -> tuple[Int64[np.ndarray, " K"], ...]:
    """Nested partitions of the classes, one of so many parts each: two parts are merged at a time, the pair that costs
    least I_T (the agglomerative information bottleneck, Slonim and Tishby 1999), so that there is much to certify.

    A merged mixture has the sum of its components' posteriors as its own: nothing is fitted again.

    Args:
        counts: at most K and at least 1 each; the partitions come in their order.

    Returns:
        The part of every class, numbered from 0 in the order of their first classes.
    """
    rows = teacher[np.unique(np.linspace(0, len(teacher) - 1, MERGED_ROWS).round().astype(np.int64))]
    parts, codes = rows.astype(np.float64), np.arange(teacher.shape[1])
    costs, found = np.stack([_cost(parts, part) for part in parts.T]), {parts.shape[1]: codes}
    while parts.shape[1] > min(counts):
        np.fill_diagonal(costs, np.inf)
        one, other = sorted(np.unravel_index(costs.argmin(), costs.shape))
        parts[:, one] += parts[:, other]
        parts, costs = np.delete(parts, other, axis=1), np.delete(np.delete(costs, other, axis=0), other, axis=1)
        costs[one] = costs[:, one] = _cost(parts, parts[:, one])
        codes = np.where(codes == other, one, codes - (codes > other))
        found[parts.shape[1]] = codes
    return tuple(found[count] for count in counts)


def _cost(parts: Float[np.ndarray, "n k"], part: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    """What I_T loses when a part is merged with each of the others, nats."""
    return _pooled(parts.mean(axis=0, keepdims=True), part.mean(keepdims=True)) - _pooled(parts, part)


def _pooled(parts: Float[np.ndarray, "n k"], part: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    return (_negentropy(parts + part[:, None]) - _negentropy(parts) - _negentropy(part)[:, None]).mean(axis=0)


def _negentropy(share: np.ndarray) -> np.ndarray:
    return share * np.log(np.where(share > 0, share, 1.0))


def within(pairs: Pairs, parts: Any) -> tuple[Part, ...]:
    """What the head says within each part, in the order of names. Raises like `coarsened`."""
    names, codes = _parts(parts, pairs.teacher.shape[1])
    best = pairs.log_student.argmax(axis=1)
    return tuple(
        Part(
            name=name,
            classes=tuple(np.flatnonzero(codes == code).tolist()),
            share=float(pairs.teacher[:, codes == code].sum(axis=1).mean()),
            used=float((codes[best] == code).mean()),
            margin=_margin(pairs.teacher[:, codes == code], pairs.log_student[:, codes == code]),
        )
        for code, name in enumerate(names)
    )


def levels(pairs: Pairs, partitions: Sequence[Any]) -> dict[str, float]:
    """Of each partition its parts, I_T and the margin: positive certifies, on these rows, that the head follows it."""
    found = [certify(coarsened(pairs, parts)) for parts in partitions]
    named = enumerate(zip(partitions, found, strict=True), start=1)
    return {
        f"level_{level}_{name}": value
        for level, (parts, one) in named
        for name, value in (("classes", len(set(parts))), ("info", one.info), ("margin", one.margin))
    }


def summary(pairs: Pairs, parts: Any) -> str:
    """The certificate of a partition on these rows, and a line for each of its parts. Raises like `coarsened`."""
    found, whole, view = within(pairs, parts), certify(coarsened(pairs, parts)), pairs.view
    wide = max(len(part.name) for part in found)
    lines = [f"partition of {pairs.teacher.shape[1]} classes into {len(found)}: {_said(whole.margin, view)}"]
    lines += [
        f"  within {part.name:{wide}}  {len(part.classes):3} classes, {part.share:6.1%} of the teacher, "
        f"{part.used:6.1%} of the student: {_said(part.margin, view) if len(part.classes) > 1 else 'one class'}"
        for part in found
    ]
    return "\n".join([*lines, f"  together the margin {certify(pairs).margin:+.4f}; nats, on these rows"])


def _said(margin: float, view: View) -> str:
    """Draws that ignore the input can match teacher rows by chance: they make no claim about rows."""
    return f"{WORDS[margin > FLOAT_SLACK if view == 'mu' else None]}, margin {margin:+.4f}"


def _margin(teacher: Float[np.ndarray, "n k"], log_student: Float[np.ndarray, "n k"]) -> float:
    """E sum_k T_k (log S_k|g - log Tbar_k|g): the teacher's own conditional entropies cancel, as in G_0."""
    mean = teacher.mean(axis=0)
    if len(mean) == 1 or not mean.any():
        return 0.0
    constant = np.log(np.where(mean > 0, mean, 1.0) / mean.sum())
    with np.errstate(invalid="ignore"):  # a student that excludes the whole part says nothing within it
        student = log_student - np.logaddexp.reduce(log_student, axis=1, keepdims=True)
        student[np.isnan(student)] = -np.inf
        gained = np.where(teacher > 0, teacher * (student - constant), 0.0)
    return float(gained.sum(axis=1).mean())


def _parts(parts: Any, classes: int) -> tuple[Sequence[str], Int64[np.ndarray, " K"]]:
    given = np.asarray(parts)
    if given.shape != (classes,):
        raise ValueError(
            f"a partition names the part of each of {classes} classes: one label per class, got shape {given.shape}."
        )
    names, codes = np.unique(given.astype(str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"a partition has at least two parts, got {names[0]!r} alone: it would ask nothing.")
    return [str(name) for name in names], codes
