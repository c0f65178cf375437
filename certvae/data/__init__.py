"""Data sets as memory-mapped pixels with splits, one file per source."""

from certvae.data.dataset import SPLITS, Dataset, Split
from certvae.data.loading import load

__all__ = [
    "SPLITS",
    "Dataset",
    "Split",
    "load",
]
