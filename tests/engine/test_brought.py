"""A study of a network and a teacher that a user brought, by the real command and on the real pool."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from certvae.canonical import digest
from certvae.cluster.slots import Place
from certvae.data.loading import load
from certvae.engine.cell import work
from certvae.engine.checks import check
from certvae.engine.dispatch import Cell
from certvae.errors import ConfigFault, DataFault
from certvae.spec.parts import Data, Model, Module
from certvae.spec.teachers import Given
from certvae.teachers import save_rows
from certvae.training import environment
from tests.small_cells import small_cell, small_digits

SMALLEST = Data(name="digits", limit=240, certify_limit=60)
ROOT = Path(__file__).parents[2]
SMALL = ("--data", "digits", "--limit", "200", "--data.certify-limit", "100", "--seeds", "0", "--store", "store")
SHORT = ("--training.epochs", "2", "--warm-up.training.epochs", "2", "--controls", "untrained")
OWN = ("--model.network", "mynets:ResNetVae", "width=8", "latent=4", "--model.decoder-sees-teacher")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's own, with networks in it and nothing of the checkout."""
    shutil.copy(ROOT / ".github" / "examples" / "mynets.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])  # a worker adds to it
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "certvae", "run", str(ROOT / "sweeps" / "tiny_fixed_q.py"), *SMALL, *SHORT, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_own_network_and_own_teacher_from_a_folder_of_ones_own(folder):
    images = load(Data(name="digits", limit=200, certify_limit=100), cache=Path("store/data"), progress=False)
    save_rows("rows.npz", images, lambda x: np.eye(5)[(x.mean(axis=(1, 2, 3)) * 16).astype(int) % 5] * 0.9 + 0.02)
    ended = run(*OWN, "--teacher", "given:rows.npz")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "teacher given" in ended.stdout
    assert "1 done before, 0 to run" in run(*OWN, "--teacher", "given:rows.npz").stdout
    text = Path("mynets.py").read_text()
    Path("mynets.py").write_text(text + "# changed\n")
    changed = run(*OWN, "--teacher", "given:rows.npz", "--explain", "none")
    cell = changed.stderr.partition("take one of ")[2].split(",")[0].split()[0]
    assert "model.network.source" in run(*OWN, "--teacher", "given:rows.npz", "--explain", cell).stdout
    Path("mynets.py").write_text(text)
    assert "1 of 1 cells done" in run(*OWN, "--teacher", "given:rows.npz", "--status").stdout


def own_cell(**options):
    return small_cell(model=Model(network=Module("mynets:ResNetVae", options={"width": 8, "latent": 4, **options})))


def test_a_source_that_changed_between_driver_and_worker_is_a_fault(folder):
    cell, place = own_cell(), Place(str(folder / "store"), None, str(folder / "cache"), code=(str(folder),))
    path = folder / "mynets.py"
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(ConfigFault, match=r"the text of mynets:ResNetVae is .* here and now"):
        work(Cell(cell), place, lambda _: None)


def test_the_driver_refuses_a_bad_network_and_rows_of_other_images_before_anything_starts(folder):
    images = small_digits(folder / "data")
    check(own_cell(), images)
    with pytest.raises(ConfigFault, match=r"encode raised RuntimeError: .*mynets\.py:"):
        check(own_cell(halvings=4), images)
    save_rows("rows.npz", small_digits(folder / "data", limit=100), lambda x: np.full((len(x), 4), 0.25))
    with pytest.raises(DataFault, match="90 train rows for 216 images"):
        check(small_cell(teacher=Given("rows.npz")), images)


def test_a_text_of_its_own_is_a_cell_of_its_own(folder):
    before = own_cell()
    path = folder / "mynets.py"
    path.write_text(path.read_text() + "# changed\n")
    assert own_cell().cell != before.cell
    assert digest(own_cell().model) != digest(before.model)


CHANGES = """import numpy as np
import torch

np.seterr(all="raise")
torch.set_num_threads(2)
torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(False)
torch.backends.cudnn.benchmark = True
torch.backends.mkldnn.enabled = False
torch.set_float32_matmul_precision("high")

"""


def test_a_module_that_sets_how_torch_computes_changes_no_number_and_no_name(folder, tmp_path):
    """The first lane of a worker computed as it said, and the next ones as we do; rows were of another environment."""
    plain = (folder / "mynets.py").read_text()
    (folder / "loudnets.py").write_text(CHANGES + plain)
    found = []
    for module in ("mynets", "loudnets"):
        environment.settle()
        network = Module(f"{module}:ResNetVae", options={"width": 8, "latent": 4})
        cell = Cell(replace(small_cell(model=Model(network=network)), data=SMALLEST), splits=("guard",), only=("full",))
        found += work(cell, Place(str(folder / module), None, str(folder / "data")), lambda _: None)
    quiet, loud = found
    assert loud["environment"] == quiet["environment"]
    assert (loud["margin"], loud["psnr_01"]) == (quiet["margin"], quiet["psnr_01"])
