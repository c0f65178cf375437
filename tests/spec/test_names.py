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
    "aligned_variants": "2c9c7c8eba55617a",
    "cifar100_baselines": "dbac05f0abd03b47",
    "cifar100_fixed_teacher": "b7e6aabbfa4594cb",
    "cifar100_teacher_search": "e0a6d59920629120",
    "cifar10_rescue": "9a34021fb4f5b0b0",
    "collapse_and_rescue": "4f9c743899a3b8eb",
    "critical_weight": "fad30dc9323bff4c",
    "curriculum": "31e6ca82a2b1d269",
    "largest_kl": "b46b91ac83b0b655",
    "mnist_simplex": "298b9dbec6021f58",
    "search_margin_psnr": "458a7441cead8a56",
    "simplex_escape": "a41d0321cd26d8b7",
    "simplex_search": "0243778ee86568a4",
    "simplex_stress": "aa72a04ac8c22961",
    "triad": "5cb442b662707180",
    "tiny_fixed_q": "458a7441cead8a56",
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_have_the_names_they_had(name):
    assert digest([getattr(presets, name)(data).cell for data in DATA])[:16] == PRESETS[name]


@pytest.mark.parametrize("name", STUDIES)
def test_the_configs_of_a_study_have_the_names_they_had(name):
    study = importlib.import_module(f"sweeps.{name}").STUDY
    cells = {data: [config.cell for config in study.configs(study.preset(data))] for data in DATA}
    assert digest(cells | {"goal": digest(study.goal)})[:16] == STUDIES[name]
