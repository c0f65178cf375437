"""Three recipes of CONTRIBUTING.md, followed in a copy of the tree: no file but those that they name changes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis.load import load
from certvae.tracking.uri import spelled

ROOT = Path(__file__).parents[1]
STRIPES = '''"""Stripes of ten directions under noise."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from certvae.canonical import digest
from certvae.data.source import Contents, Official


@dataclass(frozen=True)
class Stripes:
    path: Path = Path("numpy")

    @cached_property
    def fingerprint(self):
        return digest("ten directions")

    @contextmanager
    def open(self):
        rng = np.random.default_rng(0)
        labels = np.arange(600) % 10
        y, x = np.mgrid[:8, :8]
        angles = (np.pi * labels / 10)[:, None, None]
        waves = 128 + 100 * np.sin(x * np.cos(angles) + y * np.sin(angles)) + rng.normal(0, 9, (600, 8, 8))
        images = waves.clip(0, 255).astype(np.uint8)[:, None]
        yield Contents.of_arrays(images, labels, n_train=480, classes=10)


STRIPES = Official(shape=(1, 8, 8), classes=10, rows=(480, 120), find=lambda _: Stripes())
'''
DATA_SET = [
    ("certvae/data/loading.py", "from certvae.errors", "from certvae.data.stripes import STRIPES"),
    ("certvae/data/loading.py", '    "digits": DIGITS,', '    "stripes": STRIPES,'),
]
HEAD = [
    ("certvae/spec/parts.py", "Head = LearnedHead", "@spec\nclass CosineHead:\n    gain: Positive = 10.0\n\n"),
    (
        "certvae/models/nets.py",
        "def _head(",
        """class Cosine(nn.Module):
    def __init__(self, latent, classes, gain):
        super().__init__()
        self.kinds, self.gain = nn.Linear(latent, classes, bias=False), gain

    def forward(self, z):
        unit = nn.functional.normalize
        return self.gain * nn.functional.linear(unit(z, dim=1), unit(self.kinds.weight, dim=1))

""",
    ),
    ("certvae/models/nets.py", "import Conv, ", "from certvae.spec.parts import CosineHead"),
    (
        "certvae/models/nets.py",
        "case LearnedHead():",
        "        case CosineHead():\n            return Cosine(latent, classes, head.gain)",
    ),
]
UNION = ("certvae/spec/parts.py", "Head = LearnedHead", "Head = CosineHead | LearnedHead")
STUDY = """
from dataclasses import replace
from certvae.spec.parts import CosineHead
from sweeps import tiny_fixed_q

def preset(about):
    base = tiny_fixed_q.STUDY.preset(about)
    return replace(base, model=replace(base.model, head=CosineHead()))

STUDY = replace(tiny_fixed_q.STUDY, name="recipes", preset=preset)
"""
COLUMN = [
    ("certvae/evaluation/facts.py", '"active_units": diag', '"widest_unit": float(seen.mu.std(axis=0).max()),'),
    ("certvae/spec/quantities.py", '_text("mean_word"', '_number("widest_unit", "widest unit", "plain", "code"),'),
]
VERSION = ("certvae/protocols/judging.py", r"@stage\(version=\d+\)\ndef judge\(", "@stage(version=99)\ndef judge(")
SHOWN = """
from analysis.load import load
from analysis.tables.latent import code_table
from analysis.views import partition
print([column.heading for column in code_table(partition(load("store", only={"split": "certify"}))).columns])
"""
SMALL = "--data stripes --seeds 0 --workers 0 --training.epochs 1 --warm-up.training.epochs 1"


def insert(tree: Path, name: str, before: str, line: str) -> None:
    """A line before the one line of a file that holds a text."""
    lines = (tree / name).read_text().splitlines()
    (place,) = (number for number, found in enumerate(lines) if before in found)
    (tree / name).write_text("\n".join([*lines[:place], line, *lines[place:], ""]))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tree in which the recipes were followed, with the store of one run on the new data set, with the new head."""
    tree = tmp_path_factory.mktemp("recipes")
    for package in ("certvae", "sweeps", "analysis"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
    (tree / "certvae" / "data" / "stripes.py").write_text(STRIPES)
    (tree / "recipes.py").write_text(STUDY)
    for name, before, line in DATA_SET + HEAD + COLUMN:
        insert(tree, name, before, line)
    for name, old, new in (UNION, VERSION):
        (tree / name).write_text(re.sub(old, new, (tree / name).read_text(), count=1))
    in_tree(tree, "-m", "certvae", "run", "recipes.py", "--store", "store", *SMALL.split())
    return tree


def in_tree(tree: Path, *arguments: str) -> str:
    """What Python prints there."""
    environment = {"PYTHONPATH": str(tree), "PATH": os.environ["PATH"]}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rows(run) -> pd.DataFrame:
    return load(run / "store", only={"split": "certify"})


class TestADataSet:
    def test_is_run_by_its_name(self, rows):
        assert set(rows["data"]) == {"stripes"}
        assert set(rows["n"]) == {120}

    def test_gets_a_network_and_a_teacher_by_its_shape(self, rows):
        assert set(rows["classes"]) == {10}


class TestAHead:
    def test_is_trained_and_judged(self, rows):
        gains = {row["model"]["head"]["gain"] for row in rows["spec"]}
        assert gains == {10.0}
        assert rows["margin"].notna().all()

    def test_has_its_field_on_the_command_line(self, run):
        assert "--model.head.gain" in in_tree(run, "-m", "certvae", "run", "recipes.py", "--data", "stripes", "--help")


class TestAColumn:
    def test_is_measured(self, rows):
        assert (rows["widest_unit"] > 0).all()

    def test_stands_in_the_report(self, run):
        assert "widest unit" in in_tree(run, "-c", SHOWN)

    def test_stands_in_mlflow(self, run):
        client = MlflowClient(spelled(run / "store" / "views" / "mlflow.db"))
        shown = client.search_runs([one.experiment_id for one in client.search_experiments()])
        assert "certify/widest_unit" in {name for one in shown for name in one.data.metrics}
