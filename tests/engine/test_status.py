"""Questions to a store: every cell with its margins, or with the reason why it has none."""

import dataclasses
import io

from rich.console import Console

from certvae.engine import failures
from certvae.engine.dispatch import Cell
from certvae.engine.progress import PIPE_WIDTH
from certvae.engine.rows import RowIndex
from certvae.engine.status import shown
from certvae.protocols import chain
from certvae.store.store import Store
from tests import small_rows


def told(store: Store, rows: list[dict], cells: list[Cell], width: int = 200, **censored: str) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    index = RowIndex(rows, lambda row: row["environment"] == "e" * 64, chain.modes, store.is_stale)
    console.print(shown(store, index, cells, censored), soft_wrap=True)
    return console.export_text().splitlines()


def guard_rows(store: Store, cell: Cell) -> list[dict]:
    return [small_rows.row(store, cell.spec, mode) for mode in small_rows.MODES]


def test_every_cell_is_done_or_to_do(store):
    cells = [Cell(small_rows.cell(seed=seed), ("guard",)) for seed in (0, 1)]
    _, headings, done, to_do = told(store, guard_rows(store, cells[0]), cells)
    assert headings.split() == ["config", "seed", "cell", "state", *small_rows.MODES]
    assert done.split()[3] == "done"
    assert done.count("+") == len(small_rows.MODES)
    assert "to do" in to_do


def test_a_network_without_a_margin_and_one_that_diverged_are_shown_as_such(store):
    cell = Cell(small_rows.cell(), ("guard",))
    full, _, rescue = guard_rows(store, cell)
    diverged = small_rows.failed(store, cell.spec, "no_align", "loss became nan")
    lines = told(store, [{**full, "margin": None}, diverged, rescue], [cell])
    assert lines[2].split()[4:6] == ["-", "diverged"]
    assert lines[3] == f"{cell.spec.cell[:12]}  no_align: loss became nan"


def test_why_a_teacher_is_missing_is_readable_in_a_pipe(store):
    """A column of its own was one letter wide there."""
    cells = [Cell(small_rows.cell(seed=seed), ("guard",)) for seed in (0, 1)]
    why = "E-TEACH: none of 12 candidates could be fitted [by any"
    rows = [
        {**small_rows.failed(store, cell.spec, mode, why), "outcome": "infeasible_teacher"}
        for cell in cells
        for mode in small_rows.MODES
    ]
    lines = told(store, rows, cells, width=PIPE_WIDTH)
    assert lines[2].split()[4:6] == ["no", "teacher"]
    both = " ".join(cell.spec.cell[:12] for cell in cells)
    assert lines[4] == f"{both}  {', '.join(small_rows.MODES)}: {why}"


def test_a_cell_that_another_text_of_the_program_made_is_stale_and_says_what_to_do(store):
    cells = [Cell(small_rows.cell(seed=seed), ("guard",)) for seed in (0, 1)]
    edited = [{**row, "program": "another text"} for row in guard_rows(store, cells[0])[:1]]
    rows = [*edited, *guard_rows(store, cells[0])[1:], *guard_rows(store, cells[1])]
    lines = told(store, rows, cells)
    assert lines[2].split()[3] == "stale"
    assert lines[3].split()[3] == "done"
    assert lines[-1].startswith(f"1 of {len(rows)} rows are stale")
    assert "--recompute" in lines[-1]


def test_a_censored_cell_says_why(store):
    cell = Cell(small_rows.cell(), ("guard",))
    lines = told(store, [], [cell], **{cell.spec.cell: "out of reach"})
    assert "censored" in lines[2]
    assert lines[3].endswith("out of reach")


def test_a_lane_that_failed_is_the_reason_of_its_cell_until_it_is_tried_again(store):
    cell = Cell(small_rows.cell(), ("guard",))
    lane, other = (dataclasses.replace(cell, only=(mode,)) for mode in ("full", "rescue"))
    failures.keep(store.path, lane, ValueError("as planned"))
    failures.forget(store.path, other)
    assert "ValueError: as planned" in told(store, [], [cell])[3]
    failures.forget(store.path, lane)
    assert "to do" in told(store, [], [cell])[2]
    failures.stack_dump(store.path, other).write_text("stacks")
    assert "timeout" in told(store, [], [cell])[2]
