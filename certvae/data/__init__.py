"""Data sets -> memory-mapped pixels with train, guard and certify rows; one file per source."""

from certvae.data.dataset import SPLITS, Dataset, Split
from certvae.data.loading import SOURCES, describe, load

__all__ = ["SOURCES", "SPLITS", "Dataset", "Split", "describe", "load"]
