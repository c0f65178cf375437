"""Figures: rows and curves of a store as pictures, each a pure function of a frame.

curves = load.curves("store", frame)
figures.margin_curves(curves, tau=0.10)
"""

from .curves import margin_curves, rescue_transitions
from .margins import margin_against_psnr, margin_against_tau, margin_strips
from .reconstructions import reconstruction_grid
from .search import config_tradeoff, parameter_importance, slices
from .teachers import teacher_quality

__all__ = [
    "config_tradeoff",
    "margin_against_psnr",
    "margin_against_tau",
    "margin_curves",
    "margin_strips",
    "parameter_importance",
    "reconstruction_grid",
    "rescue_transitions",
    "slices",
    "teacher_quality",
]
