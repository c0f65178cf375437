"""What names a cell: frozen trees of plain values, checked when built. Light: importing it loads no torch."""

from certvae.spec import presets
from certvae.spec.baselines import Baselines
from certvae.spec.cell import CellSpec
from certvae.spec.modes import MODES
from certvae.spec.parts import Bernoulli, Conv, Data, Gaussian, LearnedHead, Mlp, Model, Module, SimplexHead, Training
from certvae.spec.quantities import QUANTITIES
from certvae.spec.rescue import Rescue
from certvae.spec.simplex import Witness
from certvae.spec.teachers import FeatureGmm, Given, Labels, PcaGmm, WarmUpGmm

__all__ = [
    "MODES",
    "QUANTITIES",
    "Baselines",
    "Bernoulli",
    "CellSpec",
    "Conv",
    "Data",
    "FeatureGmm",
    "Gaussian",
    "Given",
    "Labels",
    "LearnedHead",
    "Mlp",
    "Model",
    "Module",
    "PcaGmm",
    "Rescue",
    "SimplexHead",
    "Training",
    "WarmUpGmm",
    "Witness",
    "presets",
]
