"""Examples run as they are read: the notebook in a kernel, from an empty folder."""

import ast
import runpy

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_architecture import ROOT

EXAMPLES = ROOT / ".github" / "examples"
TUTORIAL = EXAMPLES / "tutorial.ipynb"


def test_the_code_of_the_tutorial_is_python_and_names_no_machine():
    book = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")


@pytest.mark.slow
def test_the_tutorial_runs_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(TUTORIAL, as_version=4)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert any("forecast without alignment" in output.get("text", "") for output in shown)
    pages = [output.data.get("text/html") for output in shown if output.output_type == "display_data"]
    assert not any(pages), "something was shown unasked"
    assert "Watch the curves" not in "".join(output.get("text", "") for output in shown)
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("in the population  certified" in output.get("text", "") for output in shown)


def lines_of(name: str) -> int:
    """Lines of code of an example, without imports and what it says of itself."""
    text = (EXAMPLES / name).read_text()
    body = [one for one in ast.parse(text).body[1:] if not isinstance(one, ast.Import | ast.ImportFrom)]
    return sum((one.end_lineno or 0) - one.lineno + 1 for one in body)


def test_a_vae_of_ones_own_loop_is_certified(capsys):
    found = runpy.run_path(str(EXAMPLES / "own_loop.py"))["found"]
    assert (found.head, found.mean, found.channel) == ("certified", "varies", "alive")
    assert "channel  alive" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), [("pythae", "with_pythae.py"), ("diffusers", "with_diffusers.py")])
def test_a_vae_of_a_popular_library_is_certified_in_under_fifteen_lines(library, name, capsys):
    assert lines_of(name) < 15
    pytest.importorskip(library)
    runpy.run_path(str(EXAMPLES / name))
    assert "channel  " in capsys.readouterr().out


@pytest.mark.slow
def test_cells_of_a_popular_library_are_watched(capsys):
    pytest.importorskip("scvi")
    monitor = runpy.run_path(str(EXAMPLES / "with_scvi.py"))["monitor"]
    assert monitor.worst != "error"
    said = capsys.readouterr().out
    assert "step 151: mean varies, channel alive" in said  # whatever the time it took
    assert "channel  alive" in said
