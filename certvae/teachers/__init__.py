"""Teacher distributions T(x), fixed before training."""

from certvae.teachers.brought import save_rows
from certvae.teachers.kinds import FeatureTeacher, LabelTeacher, PixelTeacher
from certvae.teachers.mixture import Mixture
from certvae.teachers.searching import search

__all__ = [
    "FeatureTeacher",
    "LabelTeacher",
    "Mixture",
    "PixelTeacher",
    "save_rows",
    "search",
]
