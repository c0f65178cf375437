"""The benchmark for a GPU runs to its end on a CPU, so that nothing silly stops it on the first card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from certvae import fingerprint
from certvae.errors import ConfigFault
from tests.benchmarks import gpu

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(fingerprint.device() != "cpu", reason="there is one")
def test_without_a_gpu_it_says_so_with_the_documented_code_and_its_remedy_is_the_test_below(tmp_path):
    done = run("--out", str(tmp_path / "gpu"))
    assert done.returncode == ConfigFault.exit_code == 2
    assert "no GPU is here to be measured" in done.stderr
    assert "--device cpu --smoke" in done.stderr
    assert not (tmp_path / "gpu").exists()


def test_ways_are_told_apart_and_the_goals_are_among_them():
    names = [str(way) for way in gpu.WAYS]
    assert len(set(names)) == len(names)
    assert {way for _, *ways, _ in gpu.GOALS for way in ways} <= set(names)
    assert {name for name, *_ in gpu.GOALS} <= gpu.SHAPES.keys() == gpu.CLASSES.keys()


@pytest.mark.slow
def test_every_line_of_it_runs(tmp_path):
    done = run("--device", "cpu", "--smoke", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["networks"].keys() == gpu.SHAPES.keys()
    assert all(net["same bytes"] for net in report["networks"].values())
    assert {"warm_up", "teacher", "no_align", "aligned", "judge"} <= {stage for stage, _ in report["chain"]["stages"]}
    assert (tmp_path / "gpu.md").read_text() in done.stdout
