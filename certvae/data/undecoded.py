"""A data set before it is decoded, for plans: what its files say by their names and labels, or what its publisher says.

Rows and labels are those that `decoding` would write. Pixels are grey: enough to see how long a step of training takes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from certvae.data.dataset import Arrays, Dataset
from certvae.data.decoding import View
from certvae.data.source import Contents, Official

GREY = 128
"""Of bytes; a float is 0."""


@dataclass(frozen=True, kw_only=True)
class Undecoded(Dataset):
    """A data set of which rows, splits and labels are known, and no pixel.

    view      rows, splits and labels
    fetched   bytes that a run downloads first; 0 where files were found
    """

    view: View
    fetched: int

    @property
    def is_decoded(self) -> bool:
        return False

    @property
    def decoded(self) -> int:
        """Bytes that its pixels take."""
        return int(np.prod(self.view.shape, dtype=np.int64)) * np.dtype(self.view.contents.dtype).itemsize

    @cached_property
    def _arrays(self) -> Arrays:
        kind = self.view.contents.dtype
        grey = np.broadcast_to(kind(GREY if kind is np.uint8 else 0), self.view.shape)
        return Arrays(images=grey, labels=self.view.labels, splits=self.view.splits)

    def __str__(self) -> str:
        """Where it is now, what a run does first, and what is not known until then."""
        if self.fetched:
            size = f"{self.fetched / 1e6:,.0f} MB"
            now = f"not on this machine: a run downloads {size} from {self.source}. Rows as its publisher counts them"
        else:
            now = f"not decoded yet: {self.source}, counted by its names and labels"
        return f"{now}; which of them repeat or leak is seen when images are read"


def published(official: Official) -> Contents:
    """A data set as its publisher describes it, as many rows of one class as of another."""
    n_train, n_test = official.rows
    labels = np.concatenate([np.arange(n_train), np.arange(n_test)]) % official.classes
    return Contents(
        labels=labels,
        n=len(labels),
        n_train=n_train,
        shape=official.shape,
        classes=official.classes,
        read=_unread,
    )


def _unread(rows: np.ndarray) -> np.ndarray:
    raise NotImplementedError(f"{len(rows)} rows of files that are not there")
