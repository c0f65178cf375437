"""One namespace: a user's own folders `analysis` and `sweeps` break nothing, in a checkout and in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.analysis_rows import STUDY, chains, filled

ROOT = Path(__file__).parents[2]
REPORT = "import sys; from certvae.analysis import report; print(report.__file__); sys.exit(report.main(sys.argv[1:]))"


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder of somebody else, with packages of these names."""
    for name in ("analysis", "sweeps"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(out / "unpacked")
    return out / "unpacked"


def told(project: Path, where: Path, *command: str) -> str:
    """What a command prints in the project, with our code elsewhere."""
    environment = {**os.environ, "PYTHONPATH": str(where)}
    line = [sys.executable, *command]
    return subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_wheel_ships_certvae_alone(wheel):
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"certvae"}
    assert not (wheel / "certvae" / "analysis.py").exists()


def test_a_report_is_made_from_the_wheel(wheel, project):
    store = filled(project / "store", chains([0]))
    module, page = told(project, wheel, "-c", REPORT, "--store", str(store), "--study", STUDY).split()
    assert module == str(wheel / "certvae" / "analysis" / "report.py")
    assert Path(page).exists()


def test_the_command_of_the_wheel_writes_the_report(wheel, project):
    store = filled(project / "store", chains([0]))
    page = told(project, wheel, "-m", "certvae", "report", "--store", str(store), "--study", STUDY).split()
    assert Path(page[-1]).exists()


def test_a_checkout_has_the_same_name(project):
    assert told(project, ROOT, "-c", REPORT, "--help").startswith(str(ROOT / "analysis" / "report.py"))


def test_a_report_is_made_by_its_file(project):
    assert "--study" in told(project, ROOT, str(ROOT / "analysis" / "report.py"), "--help")
