"""What names a result: cells of every preset and study, on every data set, are called as they always were.

A digest that changes here makes every stored result of that study a stranger: change one on purpose, with a line of
why in the commit.
"""

import importlib

import pytest

from certvae.canonical import digest
from certvae.spec import presets

DATA = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet-200")
PRESETS = {
    "rescue": "0ba8f4945a25f81d",
    "witness": "ec6b8466f7ac307d",
}
STUDIES = {
    "aligned_variants": "318001db6874237d",
    "cifar100_baselines": "ae2c015380efba1c",
    "cifar100_fixed_teacher": "313dc47149638468",
    "cifar100_teacher_search": "71748405f2df394c",
    "cifar10_rescue": "197c683c010fdf1e",
    "collapse_and_rescue": "e07c95aefb20d225",
    "critical_weight": "315572186952fb05",
    "curriculum": "de1714fd925af7c0",
    "largest_kl": "1a9eca79e41af9fb",
    "mnist_simplex": "ca3592e7a5b0b638",
    "search_margin_psnr": "ba0767f77cc66efe",
    "simplex_escape": "2d867210b9703ce2",
    "simplex_search": "a35a5a4040000ecf",
    "simplex_stress": "a3543f0e362f6e16",
    "triad": "7577f1a48dd03eb2",
    "tiny_fixed_q": "ba0767f77cc66efe",
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_have_the_names_they_had(name):
    assert digest([getattr(presets, name)(data).cell for data in DATA])[:16] == PRESETS[name]


@pytest.mark.parametrize("name", STUDIES)
def test_the_configs_of_a_study_have_the_names_they_had(name):
    study = importlib.import_module(f"sweeps.{name}").STUDY
    cells = {data: [config.cell for config in study.configs(study.preset(data))] for data in DATA}
    assert digest(cells | {"goal": digest(study.goal)})[:16] == STUDIES[name]
