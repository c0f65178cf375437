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
    "aligned_variants": "b33558b6f07414ac",
    "cifar100_baselines": "6fc55f6767e0c3ba",
    "cifar100_fixed_teacher": "715812995903e61c",
    "cifar100_teacher_search": "9d7a7a54d8b4bf79",
    "cifar10_rescue": "dce03896d4def07d",
    "collapse_and_rescue": "3e4a0fa9f44c238c",
    "mnist_simplex": "1d06cc457399cbe0",
    "search_margin_psnr": "aeec2cc90646b603",
    "simplex_escape": "0162d97d42353259",
    "simplex_search": "1b62a6c6cffb78d0",
    "simplex_stress": "0d5e009e1b20d241",
    "triad": "f03c0e5e9b267090",
    "tiny_fixed_q": "aeec2cc90646b603",
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_have_the_names_they_had(name):
    assert digest([getattr(presets, name)(data).cell for data in DATA])[:16] == PRESETS[name]


@pytest.mark.parametrize("name", STUDIES)
def test_the_configs_of_a_study_have_the_names_they_had(name):
    study = importlib.import_module(f"sweeps.{name}").STUDY
    cells = {data: [config.cell for config in study.configs(study.preset(data))] for data in DATA}
    assert digest(cells | {"goal": digest(study.goal)})[:16] == STUDIES[name]
