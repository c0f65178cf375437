"""Which rows of a store are used: those of this code and machine, and of two texts of the program the present one."""

from dataclasses import replace

import pytest

from certvae.engine.dispatch import Cell
from certvae.engine.rows import RowIndex
from certvae.protocols import chain
from certvae.store.store import Store
from tests import small_rows

CELL = Cell(small_rows.cell(), ("guard",))


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return [small_rows.row(Store(tmp_path), CELL.spec, mode) for mode in small_rows.MODES]


def index(rows: list[dict], **how: bool) -> RowIndex:
    return RowIndex(
        rows, lambda row: row["environment"] != "f", chain.modes, lambda row: row["program"] == "old", **how
    )


def edited(rows: list[dict], **changes: object) -> list[dict]:
    return [{**row, "program": "old", **changes} for row in rows]


def test_stale_rows_are_used_and_said(rows):
    found = index(edited(rows))
    assert found.of(CELL) == edited(rows)
    assert found.is_stale(CELL)
    assert found.warning.startswith("3 of 3 rows are stale")


def test_fresh_rows_are_not_spoken_of(rows):
    found = index(rows)
    assert not found.is_stale(CELL)
    assert found.warning == ""


def test_to_recompute_stale_rows_are_as_good_as_absent_and_not_of_other_code(rows):
    found = index(edited(rows), recompute=True)
    assert found.of(CELL) == found.all() == []
    assert found.outdated == []
    assert index(rows, recompute=True).of(CELL) == rows


@pytest.mark.parametrize("first", ["old", "new"])
def test_of_two_rows_of_one_thing_the_fresh_one_is_used(rows, first):
    pair = [edited(rows, margin=9.0), rows]
    before, after = pair if first == "old" else reversed(pair)
    assert index([*before, *after]).of(CELL) == rows


def test_a_cell_that_lacks_a_mode_or_a_split_is_not_done(rows):
    assert index(rows).of(CELL) == rows
    assert index(rows[:-1]).of(CELL) == []
    assert index(rows).of(replace(CELL, splits=("guard", "certify"))) == []


def test_rows_of_other_code_are_counted(rows):
    others = edited(rows, environment="f")
    assert index(others).outdated == index(others).beside(CELL.spec.config) == others
    assert index(others).beside("another") == []
