"""Code of a user: what its name depends on, which text is run, and how its faults are told."""

import importlib
import re
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from certvae import foreign
from certvae.errors import ConfigFault
from certvae.foreign import TheirFault, called, function, source


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


class TestSource:
    def test_it_is_the_text_of_the_module_and_of_what_it_imports_from_its_folder(self, folder):
        write(folder / "brought.py", "import layers\nfrom parts import blocks\n")
        write(folder / "layers.py", "import deeper\n")
        write(folder / "deeper.py", "x = 1\n")
        write(folder / "parts" / "__init__.py", "")
        write(folder / "parts" / "blocks.py", "from . import norms\n")
        write(folder / "parts" / "norms.py", "")
        write(folder / "beside.py", "")
        found = source("brought:build")
        for name in ("brought", "layers", "deeper", "parts/__init__", "parts/blocks", "parts/norms"):
            path = folder / f"{name}.py"
            text = path.read_text()
            path.write_text(text + "# changed\n")
            assert source("brought:build") != found, name
            path.write_text(text)
        write(folder / "beside.py", "x = 2\n")
        assert source("brought:build") == found

    def test_it_is_the_same_wherever_the_folder_lies(self, tmp_path, monkeypatch):
        found = set()
        for place in ("here", "there/deep"):
            write(tmp_path / place / "placed.py", "import beside_it\n")
            write(tmp_path / place / "beside_it.py", "x = 1\n")
            monkeypatch.chdir(tmp_path / place)
            found.add(source("placed:build"))
        assert len(found) == 1

    def test_of_an_installed_package_it_is_the_package_alone(self):
        assert {path.split("/")[0] for path in foreign._texts(foreign._file("tyro"), "tyro")} == {"tyro"}

    @pytest.mark.parametrize(
        ("reference", "told"),
        [
            ("brought", "no module:function"),
            ("not.there:build", "no module not.there"),
            ("math:sin", "no module math that is written in Python"),
            ("__main__:build", "no module __main__ .*put the function into a file"),
        ],
    )
    def test_what_is_no_module_is_refused(self, folder, reference, told):
        with pytest.raises(ConfigFault, match=told):
            source(reference)

    def test_a_file_is_named_as_a_module(self, folder):
        write(folder / "mine.py", "def build(): ...\n")
        with pytest.raises(ConfigFault, match=r"no module mine\.py .*name the module, without \.py: mine:FUNCTION"):
            source("mine.py:build")
        assert source("mine:build")

    def test_a_syntax_error_is_told_as_theirs(self, folder):
        write(folder / "misspelt.py", "x = 1\ndef build(:\n")
        with pytest.raises(TheirFault, match=r"SyntaxError.*misspelt\.py:2"):
            source("misspelt:build")


class TestFunction:
    def test_it_leaves_the_path_as_it_was_where_the_working_directory_is_first_on_it(self, folder, monkeypatch):
        """As for `python study.py`: what lies there goes on before what is installed."""
        path = [str(folder), *sys.path]
        monkeypatch.setattr("sys.path", [*path])
        write(folder / "looked_for.py", "def build(): ...\n")
        function("looked_for:build", source("looked_for:build"))
        assert sys.path == path

    def test_the_text_that_is_named_is_run_whatever_was_imported_before(self, folder):
        write(folder / "versions.py", "from versioned import number\ndef build():\n    return number\n")
        for number in (1, 2):  # the same second, the same length
            write(folder / "versioned.py", f"number = {number}\n")
            assert function("versions:build", source("versions:build"))() == number

    def test_another_text_than_the_one_that_is_named_is_refused(self, folder):
        write(folder / "edited.py", "def build(): ...\n")
        before = source("edited:build")
        write(folder / "edited.py", "def build(): return 1\n")
        with pytest.raises(ConfigFault, match=f"is {source('edited:build')} here and now, and {before} is wanted"):
            function("edited:build", before)

    def test_a_function_that_is_not_there_is_named_beside_those_that_are(self, folder):
        write(folder / "named.py", "def build(): ...\n")
        with pytest.raises(ConfigFault, match="no function or class biuld; it has build"):
            function("named:biuld", source("named:biuld"))

    def test_a_module_that_does_not_import_says_what_it_needs_or_where_it_fails(self, folder):
        write(folder / "needing.py", "import not_installed_anywhere\n")
        write(folder / "failing.py", "x = 1\ny = x / 0\n")
        with pytest.raises(ConfigFault, match="needing does not import: No module named 'not_installed_anywhere'"):
            function("needing:build", source("needing:build"))
        with pytest.raises(TheirFault, match=r"ZeroDivisionError.*failing\.py:2, `y = x / 0`"):
            function("failing:build", source("failing:build"))

    @pytest.mark.parametrize("name", ["code", "time", "math", "wsgiref.mine"])
    def test_a_file_in_whose_place_python_takes_its_own_may_have_another_name(self, folder, name):
        """It was said to have no function of the name, beside a file of Python that nobody had written there."""
        file = folder / f"{name.replace('.', '/')}.py"
        write(file, "def rows(): return 1\n")
        with pytest.raises(ConfigFault, match=f"{name} is not {re.escape(str(file))}: .* give yours another name"):
            foreign.brought(f"{name}:rows")
        file.rename(folder / "named_anew.py")
        assert foreign.brought("named_anew:rows")() == 1

    def test_what_another_process_finds_is_found_where_it_looked(self, folder, tmp_path_factory, monkeypatch):
        write(folder / "elsewhere.py", "def build(): return 3\n")
        looked = foreign.search_path()
        wanted = source("elsewhere:build")
        monkeypatch.chdir(tmp_path_factory.mktemp("worker"))
        with pytest.raises(ConfigFault, match="no module elsewhere"):
            function("elsewhere:build", wanted)
        monkeypatch.setattr("sys.path", [*sys.path])
        foreign.look_in(looked)
        assert function("elsewhere:build", wanted)() == 3


class TestCalled:
    def test_a_function_that_imports_what_is_not_there_is_blamed_by_file_and_line(self, folder):
        """It was a package to install, and without a command a bare error of Python."""
        write(folder / "late.py", "def rows():\n    import helpers_of_mine\n    return helpers_of_mine.x\n")
        given = foreign.brought("late:rows")
        with pytest.raises(TheirFault, match=r"rows raised ModuleNotFoundError: .*late\.py:2, .*or mend the import"):
            called(given)
        write(folder / "helpers_of_mine.py", "x = 3\n")
        with foreign.importable():
            assert called(given) == 3

    def test_a_file_that_hides_what_it_imports_is_told(self, folder, monkeypatch):
        write(folder / "torch.py", "x = 1\n")
        write(folder / "late.py", "def rows():\n    import torch.nn\n")
        monkeypatch.syspath_prepend(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(ConfigFault, match=r"torch\.py is imported in place of .*give your file another name"):
            called(foreign.brought("late:rows"))

    def test_a_module_that_is_imported_may_need_a_package(self, folder, monkeypatch):
        write(folder / "script.py", "import not_installed_anywhere\n")
        monkeypatch.syspath_prepend(folder)
        with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
            called(importlib.import_module, "script")


def test_a_script_that_ends_by_itself_is_no_end_of_ours(folder):
    """Its code was that of the run: 0, and nothing had run."""
    write(folder / "ends.py", "import sys\ndef rows():\n    return 1\nsys.exit(0)\n")
    with pytest.raises(TheirFault, match=r"SystemExit: 0 .*ends\.py:4, .* below `if __name__ == '__main__':`"):
        foreign.brought("ends:rows")
    write(folder / "ends.py", "import sys\ndef rows():\n    return 1\nif __name__ == '__main__':\n    sys.exit(0)\n")
    assert foreign.brought("ends:rows")() == 1


def test_a_function_that_ends_the_process_is_told_to_raise(folder):
    write(folder / "ends.py", "def rows():\n    raise SystemExit('no GPU')\n")
    with pytest.raises(TheirFault, match=r"SystemExit: no GPU .* let it raise an error instead"):
        called(foreign.brought("ends:rows"))


def test_a_worker_that_is_asked_to_end_ends():
    with pytest.raises(SystemExit):
        called(sys.exit, signal.SIGTERM)


def test_too_little_memory_is_nobodys_mistake():
    class OutOfMemoryError(RuntimeError):
        """As torch's, by its name."""

    def full() -> None:
        raise OutOfMemoryError

    with pytest.raises(OutOfMemoryError):
        called(full)
