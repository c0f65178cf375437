"""`certvae run`: a script, module:NAME, or a store that goes on; whatever it is given, the end is a documented one."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certvae.__main__ import main
from certvae.canonical import plain
from certvae.engine import launch
from certvae.engine.command import Command, parse, remember
from certvae.errors import ConfigFault, ExitCode
from certvae.store.store import Store
from tests.small_data import jpeg, write_folder
from tests.sweep_runs import REPOSITORY

MINE = '''"""Mine."""
from neighbour import SEEDS

from certvae.engine.study import Study
from certvae.spec.presets import rescue

STUDY = Study(name="mine", about="mine", data="digits", preset=rescue, seeds=SEEDS)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a user, who may call it `sweeps`."""
    made = tmp_path / "sweeps"
    made.mkdir()
    (made / "mine.py").write_text(MINE)
    (made / "neighbour.py").write_text("SEEDS = (4, 5)\n")
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield made
    for name in ("neighbour", "mine", "broken", "certvae_study_mine", "reading"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("target", ["mine.py", "mine:STUDY", "mine:"])
def test_a_study_is_found_by_its_script_or_module(folder, target, capsys):
    assert launch.find(target).seeds == (4, 5)
    assert main(["run", target, "--plan", "--store", "s"]) == 0
    assert "2 cells, 0 done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing.py", "there is no such file"),
        ("nothing", "no script, no module:NAME and no store"),
        ("nothing:STUDY", "No module named 'nothing'"),
        ("neighbour.py", "it defines no Study"),
        (":", "no script"),
        (".", "no script"),
    ],
)
def test_what_is_no_study_is_told(folder, target, said, capsys):
    assert main(["run", target]) == ExitCode.WRONG_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", r"raised ZeroDivisionError: division by zero \| \S+broken.py:1, `1 / 0`"),
        ("raise SystemExit(0)", r"raised SystemExit: 0 \| \S+broken.py:1, .* below `if __name__ == "),
        ("def f(:\n", r"raised SyntaxError: invalid syntax.* \| \S+broken.py:1"),
        ("import no_such_package\n", "the package 'no_such_package' is not installed"),
    ],
)
@pytest.mark.parametrize("target", ["broken.py", "broken:STUDY"])
def test_an_error_in_a_users_module_names_their_line(folder, target, text, said, capsys):
    (folder / "broken.py").write_text(text)
    assert main(["run", target]) == ExitCode.WRONG_INPUT
    told = capsys.readouterr().err
    assert re.search(said, told), told
    assert "Traceback" not in told


def test_a_store_goes_on_with_the_last_command_of_its_study_from_any_folder(folder, monkeypatch, capsys):
    store = Store(folder / "s")
    with pytest.raises(ConfigFault, match="knows the commands of no study"):
        launch.run("s", [])
    arguments = ["--seeds", "7", "--store", str(store.path)]
    remember(Command(str(folder / "mine.py"), arguments), store, "mine")
    monkeypatch.chdir("/")
    assert main(["run", str(store.path), "--plan"]) == 0
    assert "1 cell, 0 done before" in capsys.readouterr().out
    remember(Command(str(folder / "mine.py"), [*arguments, "--study", "other", "--seeds", "1", "2"]), store, "other")
    assert main(["run", str(store.path), "--plan"]) == ExitCode.WRONG_INPUT
    assert "knows the commands of mine, other" in capsys.readouterr().err
    assert main(["run", str(store.path), "--study", "other", "--plan"]) == 0
    assert "2 cells, 0 done before" in capsys.readouterr().out


@pytest.mark.parametrize("spelling", ["--store {}", "--store={}"])
def test_a_store_that_was_moved_or_copied_goes_on_where_it_lies(folder, spelling, capsys):
    store = Store(folder / "a")
    written = [*spelling.format(store.path).split(), "--config", str(store.path / "kept.json")]
    remember(Command(str(folder / "mine.py"), ["--seeds", "7", *written]), store, "mine")
    cell = parse(launch.find("mine.py"), [])[1]
    (store.path / "kept.json").write_text(json.dumps({"data": "digits", "spec": plain(cell)}))
    shutil.copytree("a", "copy")
    before = sorted(Path("a").rglob("*"))
    assert main(["run", "copy", "--plan", "--decode"]) == 0
    assert list(Path("copy", "data").iterdir())
    assert sorted(Path("a").rglob("*")) == before
    Path("a").rename("b")
    assert main(["run", "b", "--plan", "--decode"]) == 0
    assert list(Path("b", "data").iterdir())
    assert not Path("a").exists()


@pytest.mark.parametrize("spelling", ["--data {}", "--data={}"])
def test_so_do_images_that_lie_in_it(folder, spelling, capsys):
    """The rest of the command was found again, and they were not."""
    store = Store(folder / "a")
    arguments = [
        *spelling.format(f"folder:{store.path / 'images'}").split(),
        "--seeds",
        "7",
        "--store",
        str(store.path),
    ]
    remember(Command(str(folder / "mine.py"), arguments), store, "mine")
    files = {f"{label}/{number}.jpg": jpeg(number, side=16) for label in ("cats", "dogs") for number in range(50)}
    write_folder(store.path / "images", files)
    Path("a").rename("b")
    assert main(["run", "b", "--plan"]) == 0
    assert "1 cell, 0 done before" in capsys.readouterr().out


def test_data_that_a_function_reads_by_a_relative_path_are_told_with_the_folder_that_is_wanted(
    folder, tmp_path, monkeypatch, capsys
):
    """A store that was moved goes on from any folder, and the function looked for its file there."""
    np.save(folder / "rows.npy", np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8))
    code = "import numpy\ndef images(): return numpy.load('rows.npy')\n"
    (folder / "reading.py").write_text(code)
    remember(
        Command(str(folder / "mine.py"), ["--data", "reading:images", "--seeds", "7"]), Store(folder / "a"), "mine"
    )
    (moved := tmp_path / "elsewhere").mkdir()
    Path("a").rename(moved / "b")
    monkeypatch.chdir(moved)
    assert main(["run", "b", "--plan"]) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert f"if rows.npy is a path, it begins in {moved}: start the command where it lies" in said
    monkeypatch.chdir(folder)
    assert main(["run", str(moved / "b"), "--plan"]) == 0
    monkeypatch.chdir(moved)
    beside = re.findall(r"Path\(__file__\)\.parent / 'rows.npy'", said)[0]
    (folder / "reading.py").write_text("from pathlib import Path\n" + code.replace("'rows.npy'", beside))
    assert main(["run", "b", "--plan"]) == 0


@pytest.mark.parametrize("asked", [["--study", "other"], ["--study=other"], ["--study=mine", "--study", "other"]])
def test_the_study_of_a_store_is_named_either_way(folder, asked, capsys):
    store = Store(folder / "s")
    remember(Command(str(folder / "mine.py"), ["--store", str(store.path)]), store, "mine")
    assert main(["run", "s", *asked, "--plan"]) == ExitCode.WRONG_INPUT
    assert "knows the commands of mine, not of other" in capsys.readouterr().err


def test_python_and_certvae_are_one_command(tmp_path):
    told = [
        subprocess.run([*call, "--help"], capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
        for call in ([sys.executable, "-m", "certvae"], [sys.executable, str(Path("certvae", "__main__.py"))])
    ]
    assert told[0] == told[1]
    assert all(name in told[0] for name in ("certify", "run", "report", "store", "cluster", "selftest", "Exit codes"))
