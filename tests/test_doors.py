"""Doors of the rooms: what a package exports is there, and hides no file of the same name."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import certvae

ROOMS = [room.name for room in pkgutil.iter_modules(certvae.__path__, "certvae.") if room.ispkg]


@pytest.mark.parametrize("name", ROOMS)
def test_what_is_exported_is_there_and_hides_no_file(name):
    room = importlib.import_module(name)
    files = {file.name for file in pkgutil.iter_modules(room.__path__)}
    for exported in getattr(room, "__all__", ()):
        found = getattr(room, exported)
        assert isinstance(found, ModuleType) or exported not in files


def test_a_cell_is_built_by_what_the_door_of_specs_shows():
    from certvae.spec import CellSpec, Data, LearnedHead, Mlp, Model, Rescue, presets  # noqa: PLC0415

    spec = CellSpec(data=Data(name="digits"), model=Model(encoder=Mlp(), head=LearnedHead()), protocol=Rescue())
    assert presets.rescue("digits").cell != spec.cell


def test_a_certificate_needs_no_specs():
    """Checking specs costs a sixth of a second to import, which a certificate of one's own model does not pay."""
    code = "import sys, certvae.certificate; print('pydantic' in sys.modules, 'certvae.spec' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
