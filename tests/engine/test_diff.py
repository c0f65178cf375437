"""What a person reads of two cells: only what differs, by kind, with the gap of each number."""

import io

import pytest
from rich.console import Console

from certvae.__main__ import main
from certvae.engine.diff import shown, side
from certvae.errors import ConfigFault
from certvae.looks.register import Look, register
from certvae.store.store import Store
from tests import small_rows

ONE, TWO = small_rows.cell(seed=0, alpha_kl=0.5), small_rows.cell(seed=0, alpha_kl=0.75)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    small_rows.fill(store, (ONE, TWO))
    return store


def told(one, two) -> list[str]:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(shown(one, two))
    return console.export_text().splitlines()


def line(lines: list[str], *begins: str) -> list[str]:
    (found,) = [words for text in lines if (words := text.split())[: len(begins)] == list(begins)]
    return found


def test_two_configs_differ_in_a_field_and_in_numbers(store):
    lines = told(side(store, ONE.cell[:12]), side(store, TWO.cell))
    assert ONE.cell[:12] in lines[0]
    assert line(lines, "protocol.objective.alpha_kl") == ["protocol.objective.alpha_kl", "0.5", "0.75"]
    assert line(lines, "guard", "full", "psnr_01") == ["guard", "full", "psnr_01", "18.5", "18.75", "+0.25"]
    assert line(lines, "program") == ["program", "the", "same"]
    assert line(lines, "environment") == ["environment", "the", "same"]


def test_one_cell_made_twice_differs_in_what_made_it(store, tmp_path):
    other = Store(tmp_path / "other")
    for row in store.rows():
        if row["cell"] == ONE.cell:
            changes = {"program": "e" * 64, "stage_version_judge": 2, "version_certvae": "0.2.0", "margin": None}
            other.put_row({**row, **changes})
    lines = told(side(store, ONE.cell), side(other, ONE.cell))
    assert "stale" in lines[0]
    assert line(lines, "spec") == ["spec", "the", "same"]
    assert line(lines, "program", store.program[:12])[2] == "e" * 12
    assert line(lines, "stage_version_judge") == ["stage_version_judge", "1", "2"]
    assert line(lines, "version_certvae") == ["version_certvae", "0.1.0", "0.2.0"]
    assert line(lines, "guard", "full", "margin")[-2:] == ["-", "-"]


def test_a_cell_against_itself_is_the_same_in_everything(store):
    lines = told(side(store, ONE.cell), side(store, ONE.cell))
    assert sum(text.endswith("the same") for text in lines) == 4


def test_bounds_on_certify_rows_are_those_of_now(store):
    [row] = [
        row for row in store.rows() if row["cell"] == ONE.cell and row["split"] == "guard" and row["mode"] == "full"
    ]
    paid = {"split": "certify", "looks": 1, "delta": 0.05, "population_bound": 0.25}
    store.put_row({**row, **paid})
    assert side(store, ONE.cell).rows["certify", "full"]["population_bound"] == 0.25
    register(store.disk, Look("another", "0" * 64, row["data"]))
    assert side(store, ONE.cell).rows["certify", "full"]["population_bound"] is None


@pytest.mark.parametrize(("prefix", "count"), [("nothing", 0), ("", 2)])
def test_a_prefix_must_name_one_cell(store, prefix, count):
    with pytest.raises(ConfigFault, match=f"{count} cells with rows"):
        side(store, prefix)


def test_the_command_fits_100_columns_where_there_is_no_terminal(store, capsys):
    assert main(["diff", ONE.cell[:8], TWO.cell[:8], "--store", str(store.path)]) == 0
    out = capsys.readouterr().out
    assert "psnr_01" in out
    assert max(map(len, out.splitlines())) <= 100
    assert main(["diff", "nothing", TWO.cell, "--store", str(store.path)]) == 2
    assert "--status" in capsys.readouterr().err
