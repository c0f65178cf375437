"""Data sets as memory-mapped pixels with splits, one file per source."""
