"""What is installed: a wheel that needs numpy for a certificate and names an extra for everything else."""

import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import certvae
from certvae.cluster import doctor
from tests.test_architecture import ROOT

EXTRAS = {"all", "dev", "features", "report", "rigorous", "store", "sweep", "tracking", "train", "verify"}
CORE = {"jaxtyping", "numpy", "tyro"}
BROUGHT = {"wadler_lindig", "cython_runtime"}
"""By those two."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"{_about(wheel)}/METADATA").decode())


def _about(wheel: zipfile.ZipFile) -> str:
    [name] = {Path(name).parts[0] for name in wheel.namelist() if Path(name).parts[0].endswith(".dist-info")}
    return name


def test_it_brings_types_license_and_command(wheel):
    assert "certvae/py.typed" in wheel.namelist()
    assert b"Apache License" in wheel.read(f"{_about(wheel)}/licenses/LICENSE")
    assert "certvae = certvae.__main__:main" in wheel.read(f"{_about(wheel)}/entry_points.txt").decode()


def test_a_certificate_needs_numpy_and_an_extra_brings_the_rest(metadata):
    needed = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert {one.partition(">")[0] for one in needed} == CORE
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert (metadata["License-Expression"], metadata["Version"]) == ("Apache-2.0", certvae.__version__)


def test_the_lock_holds_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {one for extra in project["optional-dependencies"].values() for one in extra}
    names = {one.partition("[")[0].partition(">")[0].partition("=")[0] for one in listed} - {"certvae"}
    locked = {
        line.partition("==")[0].partition("[")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()
    }
    assert names - locked == set()


def test_every_place_names_the_same_pythons():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if " :: Python :: 3." in one]
    oldest, newest = doctor.PYTHONS
    assert named == [f"3.{minor}" for minor in range(oldest[1], newest[1] + 1)]
    assert project["requires-python"] == f">={named[0]},<3.{newest[1] + 1}"
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["gate"]["strategy"]["matrix"]["python"] == named
    for place in ("README.md", "Makefile", "certvae/cluster/node.sh"):
        assert f"Python {named[0]} to {named[-1]}" in (ROOT / place).read_text()


@pytest.mark.parametrize(
    ("used", "brought"), [("import certvae", {"certvae"}), ("from certvae import Pairs, certify", CORE | BROUGHT)]
)
def test_importing_it_loads_nothing_and_a_certificate_numpy_and_little_else(used, brought):
    code = f"import sys; before = {{*sys.modules}}; {used}; print(*{{*sys.modules}} - before)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in found.stdout.split()} - sys.stdlib_module_names
    assert {name for name in loaded if not name.startswith("_")} <= brought | {"certvae"}
