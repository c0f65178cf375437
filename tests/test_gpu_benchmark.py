"""The benchmark for a GPU runs to its end on a CPU, so that nothing silly stops it on the first card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from certvae import fingerprint
from certvae.errors import ConfigFault
from certvae.models.nets import build
from certvae.spec.presets import rescue
from certvae.training import objective
from certvae.training.loop import Step
from tests.benchmarks import gpu, gpu_chains, gpu_members, gpu_steps
from tests.benchmarks.gpu_steps import SMOKE, Bench, Net, Way

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
    names = [str(way) for way in gpu_steps.WAYS]
    assert len(set(names)) == len(names)
    assert {way for _, *ways, _ in gpu.GOALS for way in ways} <= set(names)
    assert {name for name, *_ in gpu.GOALS} <= gpu_steps.SHAPES.keys() == gpu_steps.CLASSES.keys()
    assert gpu_chains.IMAGES.keys() == gpu_steps.SHAPES.keys()


def test_networks_that_are_fused_have_the_gradients_that_each_has_alone(tmp_path, monkeypatch):
    """Without noise, which a fused step draws in another order."""
    monkeypatch.setattr(objective, "sample", lambda mu, *_: mu)
    net = Net(Bench("cpu", SMOKE, tmp_path), "MNIST")
    fused, rows = gpu_members.fused(net)
    gradients, terms = fused.gradients(rows)
    for number, own in enumerate(rows.chunk(SMOKE.members)):
        alone = net.step(Way())
        assert isinstance(alone, Step)
        alone.vae.load_state_dict(build(net.spec.model, net.dataset.shape, net.classes, number).state_dict())
        alone.optimiser.step = lambda: None  # the gradients are looked at as they are clipped
        torch.testing.assert_close(terms[number], alone(0, own, 0.0))
        for name, parameter in alone.vae.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, msg=name)


def test_a_chain_of_full_length_is_its_steps_its_guard_points_and_what_does_not_train():
    spec = rescue("mnist")
    stages = [("warm_up", 9.0), ("teacher", 5.0), ("no_align", 9.0), ("aligned", 9.0), ("judge", 0.5), ("judge", 0.5)]
    found = {"stages": stages, "images": 20_000}
    seconds = gpu_chains.at_full_length(spec, "MNIST", found, 1.0, {"rows": 2_000, "ms": 10.0})
    trained = 20 + 4 * 60  # epochs of the warm-up, of no_align, full, rescue and head_only
    assert seconds == pytest.approx(5 + 1 + trained * (54_000 // 256 * 1e-3 + 3 * 10e-3))


@pytest.mark.slow
def test_every_line_of_it_runs(tmp_path):
    done = run("--device", "cpu", "--smoke", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["networks"].keys() == report["chains"].keys() == gpu_steps.SHAPES.keys()
    assert all(net["same bytes"] for net in report["networks"].values())
    for chain in report["chains"].values():
        assert {"warm_up", "teacher", "no_align", "aligned", "judge"} <= {stage for stage, _ in chain["stages"]}
        assert chain["seconds at full length"] > 0
    assert len(report["members"]) == 3
    assert (tmp_path / "gpu.md").read_text() in done.stdout
