"""The 8 x 8 digits that scikit-learn ships: a first look in seconds, without a download."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from certvae.canonical import digest
from certvae.data.source import Contents, Official

DRAW_SEED = 1797
"""Of every draw of rows: it depends on nothing."""
_DIGITS_HELD_OUT = 360


@dataclass(frozen=True)
class Digits:
    """The 8 x 8 digits of scikit-learn, grey levels 0 to 16: 1,437 train rows and 360 test rows, drawn once."""

    path: Path = Path("sklearn.datasets.load_digits")

    @cached_property
    def fingerprint(self) -> str:
        return digest("scikit-learn digits")

    @contextmanager
    def open(self) -> Iterator[Contents]:
        from sklearn.datasets import load_digits  # noqa: PLC0415 # a second to import, for this data set only

        images, labels = map(np.asarray, load_digits(return_X_y=True))
        drawn = np.random.default_rng(DRAW_SEED).permutation(len(labels))
        order = np.concatenate([np.sort(drawn[_DIGITS_HELD_OUT:]), np.sort(drawn[:_DIGITS_HELD_OUT])])
        yield Contents.of_arrays(
            images[order].astype(np.uint8).reshape(-1, 1, 8, 8),
            labels[order],
            n_train=len(labels) - _DIGITS_HELD_OUT,
            classes=10,
            scale=1 / 16,
        )


DIGITS = Official(shape=(1, 8, 8), classes=10, rows=(1437, 360), find=lambda _: Digits())
