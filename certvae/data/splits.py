"""Splits the rows that a user brings into train, guard and certify rows.

train, val and test    train, guard and certify, as they are
train and test, or train and val    the second one is certify, and guard is drawn from train
one set of rows        a fifth of every class is drawn as certify rows, always the same, and said in every table
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from certvae.data.digits import DRAW_SEED
from certvae.errors import DataFault

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
HELD_OUT = 0.2
_ALIASES: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "guard"), "val"),
    **dict.fromkeys(("test", "testing", "certify"), "test"),
}


def part_of(word: str) -> Part | None:
    """The part that a folder or a key of this name holds."""
    return _ALIASES.get(re.sub(r"[^a-z]", "", word.lower()))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows in the order train, guard, certify, with their labels.

    order    (n,) places among all rows, counted through train, val and test: first n_train rows, then certify rows
    labels   (n,) class numbers in this order, or None
    note     what was drawn
    """

    order: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"] | None
    classes: int | None
    n_train: int
    n_guard: int
    note: str | None


def rows_of(parts: Mapping[Part, int], names: np.ndarray | None, where: Path) -> Rows:
    """The rows of so many images in each part, with names (or numbers) of their classes, counted in the order of PARTS.

    Class numbers count the sorted names. One class alone tells nothing apart, and is no label.

    Raises:
        DataFault: no image, no train image, a class with a single image, or one that no train image is of.
    """
    sizes = {part: parts.get(part, 0) for part in PARTS}
    if sum(sizes.values()) < 2:
        raise _refusal(f"{sum(sizes.values())} images: two are the least", where, "name a folder or a file with more")
    if not sizes["train"]:
        raise _refusal(f"no train images, but {sizes['val'] + sizes['test']:,} others", where, "bring a part `train`")
    found, labels = (None, None) if names is None else np.unique(names, return_inverse=True)
    if found is None or labels is None or len(found) < 2:
        found = labels = None
    else:
        _require_pairs(found, labels, where)
    if sizes["train"] == sum(sizes.values()):
        return _drawn(sizes["train"], labels, found)
    if found is not None and labels is not None:
        _require_trained(found, labels, sizes["train"], where)
    n_guard = sizes["val"] if sizes["test"] else 0
    return Rows(
        order=np.arange(sum(sizes.values())),
        labels=labels,
        classes=None if found is None else len(found),
        n_train=sizes["train"] + n_guard,
        n_guard=n_guard,
        note=None,
    )


def _drawn(n: int, labels: Int64[np.ndarray, " n"] | None, found: np.ndarray | None) -> Rows:
    """A fifth of every class, and one image at least, is held out."""
    shuffled = np.random.default_rng(DRAW_SEED).permutation(n)
    groups = [shuffled] if labels is None else [shuffled[labels[shuffled] == label] for label in np.unique(labels)]
    held_out = np.sort(np.concatenate([group[: max(1, round(HELD_OUT * len(group)))] for group in groups]))
    train = np.setdiff1d(np.arange(n), held_out)
    order = np.concatenate([train, held_out])
    return Rows(
        order=order,
        labels=None if labels is None else labels[order],
        classes=None if found is None else len(found),
        n_train=len(train),
        n_guard=0,
        note=f"{len(held_out):,} of {n:,} drawn as test images",
    )


def _require_pairs(found: np.ndarray, labels: Int64[np.ndarray, " n"], where: Path) -> None:
    alone = found[np.bincount(labels) < 2]
    if len(alone):
        what = f"a single image in {len(alone):,} of {len(found):,} classes, first {alone[0]}"
        raise _refusal(what, where, "bring one image more of each, to train and to certify, or bring no labels")


def _require_trained(found: np.ndarray, labels: Int64[np.ndarray, " n"], n_train: int, where: Path) -> None:
    unseen = np.setdiff1d(np.arange(len(found)), labels[:n_train])
    if len(unseen):
        what = f"no train image in {len(unseen):,} of {len(found):,} classes, first {found[unseen[0]]}"
        raise _refusal(what, where, "bring the same classes in every part")


def _refusal(what: str, where: Path, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=str(where), cause="rows are split into train, guard and certify")
