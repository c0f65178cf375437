"""What a user watches: one line per running cell, one for the whole, the same with and without a terminal."""

import io
import os
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from certvae.engine import progress
from certvae.engine.dispatch import Cell, Ended
from certvae.engine.progress import Board, clock, name_of
from tests.small_cells import small_cell

CELL = Cell(small_cell(seed=7))
EPOCH = {"epoch": 3, "epochs": 6, "step": 0, "steps": 10, "loss": 12.5, "guard_margin": 0.75, "guard_psnr_01": 18.0}


class Watched:
    """A board with its console and its log, and a clock that the test moves."""

    def __init__(self, tmp_path, monkeypatch, *, terminal=False, total=4):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.text = io.StringIO()
        self.log = tmp_path / "run.log"
        console = Console(file=self.text, width=150, force_terminal=terminal)
        self.board = Board(lambda: (total, "1/2 configs"), console, self.log)

    def said(self):
        return self.text.getvalue()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    found = Watched(tmp_path, monkeypatch)
    with found.board:
        yield found


def test_without_a_terminal_a_line_says_cell_stage_epoch_numbers_and_what_is_left(watched):
    watched.board.started("a", CELL)
    watched.board.heard("a", CELL, {"at": "full"})
    watched.now += 30
    watched.board.heard("a", CELL, EPOCH)
    line = watched.said().splitlines()[-1]
    assert line == f"{name_of(CELL)}  full  epoch 3/6  loss 12.5  margin 0.75  psnr 18  eta 0:30"


def test_where_colours_are_forced_in_a_pipe_nothing_is_drawn_again_and_again(monkeypatch, tmp_path):
    """As a CI does for its logs: the bars filled the file at four frames a second, and at a width of 80."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    found = progress.console()
    with Board(lambda: (1, ""), found, tmp_path / "run.log") as board:
        board.started("a", CELL)
    assert found.width == progress.PIPE_WIDTH
    assert "\x1b[?25l" not in found.file.getvalue()  # the cursor is hidden where lines move


def test_the_log_takes_a_name_in_another_encoding(watched):
    watched.board.started("a", CELL)
    with watched.board:
        watched.board.heard("a", CELL, {"said": os.fsdecode(b"caf\xe9")})
    assert r"caf\udce9" in watched.log.read_text()


def test_lines_about_one_cell_come_now_and_then_only(watched):
    watched.board.started("a", CELL)
    for _ in range(100):
        watched.now += progress.LOG_SECONDS / 10
        watched.board.heard("a", CELL, EPOCH)
    assert 9 <= len(watched.said().splitlines()) <= 11


def test_the_whole_is_counted_with_failures_and_an_eta(watched):
    for token, ended in {
        "a": Ended("ok"),
        "b": Ended("killed", "its worker died"),
        "c": Ended("censored", "no"),
    }.items():
        watched.board.started(token, CELL)
        watched.now += 10
        watched.board.ended(token, CELL, ended)
        watched.board.over(CELL, ended)
    lines = watched.said().splitlines()
    assert "1/4 cells   1/2 configs   eta 0:30" in lines[0]
    assert "killed: its worker died" in lines[1]
    assert "2/4 cells, 1 failed" in lines[1]
    assert "censored: no" in lines[2]
    assert "3/4 cells, 1 failed   1/2 configs   eta 0:10" in lines[2]


def test_a_cell_is_counted_when_its_last_lane_has_ended(watched):
    lanes = [replace(CELL, only=only) for only in (("no_align", "rescue"), ("full",))]
    watched.board.started("a", lanes[0])
    watched.now += 10
    watched.board.started("b", lanes[1])
    watched.board.heard("b", lanes[1], {"at": "warm_up"})
    assert watched.said() == "", "what another lane has made is passed at once"
    watched.board.ended("a", lanes[0], Ended("ok"))
    assert watched.said() == ""
    watched.now += 10
    watched.board.ended("b", lanes[1], Ended("ok"))
    watched.board.over(CELL, Ended("ok"))
    assert watched.said().splitlines() == [f"{name_of(CELL)}  done  after 0:20   1/4 cells   1/2 configs   eta 1:00"]


def test_the_log_gets_what_a_terminal_shows(watched):
    watched.board.started("a", CELL)
    watched.now += 2 * progress.LOG_SECONDS
    watched.board.heard("a", CELL, EPOCH)
    watched.board.ended("a", CELL, Ended("ok"))
    watched.board.over(CELL, Ended("ok"))
    text = watched.log.read_text()
    assert "epoch 3/6" in text
    assert "1 running" in text
    assert "done" in text


def test_a_terminal_shows_every_running_cell_at_once(tmp_path, monkeypatch):
    found = Watched(tmp_path, monkeypatch, terminal=True)
    other = Cell(small_cell(seed=8))
    found.board.started("a", CELL)
    found.board.started("b", other)
    found.board.heard("a", CELL, {"at": "no_align"})
    found.board.heard("b", other, {"step": 2, "steps": 8})
    shown = rendered(found.board, 150)
    assert shown[0] == "2 running   0/4 cells   1/2 configs"
    assert name_of(CELL) in shown[2]
    assert "no_align" in shown[2]
    assert "fit 2/8" in shown[3]


def rendered(board: Board, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(board)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "headings", "line"),
    [
        (120, "loss margin psnr left", "full        ━━━━━━━━━━━━             epoch 3/6   12.5     0.75     18   0:30"),
        (80, "loss margin left", "full   ━━━━━       epoch 3/6   12.5     0.75   0:30"),
        (60, "left", "full   ━━━━━       epoch 3/6   0:30"),
    ],
)
def test_a_bar_fits_its_terminal(tmp_path, monkeypatch, width, headings, line):
    found = Watched(tmp_path, monkeypatch, terminal=True)
    found.board.started("a", CELL)
    found.board.heard("a", CELL, {"at": "full"})
    found.now += 30
    found.board.heard("a", CELL, EPOCH)
    _, named, shown = rendered(found.board, width)
    assert named.split() == headings.split()
    assert shown.split() == [*name_of(CELL).split(), *line.split()]
    assert len(shown) <= width


def test_what_a_pool_is_about_is_said_before_a_lane_can_say_anything(tmp_path, monkeypatch):
    found = Watched(tmp_path, monkeypatch, terminal=True)
    found.board.waiting("starting Ray")
    found.now += 3
    assert rendered(found.board, 80) == ["0 running   0/4 cells   1/2 configs", "starting Ray  0:03"]
    found.board.started("a", CELL)
    found.board.waiting("importing torch on 1 worker")
    assert rendered(found.board, 80)[1] == "importing torch on 1 worker  0:00"
    found.board.heard("a", CELL, {"at": "warm_up"})
    assert "warm_up" in rendered(found.board, 80)[2]
    assert found.said() == "", "a terminal shows it while it lasts"


def test_a_stop_shows_at_once(tmp_path, monkeypatch):
    found = Watched(tmp_path, monkeypatch, terminal=True)
    found.board.started("a", CELL)
    found.board.heard("a", CELL, {"at": "warm_up"})
    found.board.stopping()
    found.now += 2
    assert rendered(found.board, 80)[1] == "stopping; nothing is lost  0:02"
    found.board.heard("a", CELL, EPOCH)
    assert rendered(found.board, 80)[1] == "stopping; nothing is lost  0:02", "until it has stopped"
    assert found.said() == ""


def test_without_a_terminal_the_same_are_lines(watched):
    watched.board.waiting("starting Ray")
    watched.board.started("a", CELL)
    watched.board.waiting("importing torch on 1 worker")
    watched.board.heard("a", CELL, {"at": "warm_up"})
    watched.board.stopping()
    watched.board.heard("a", CELL, EPOCH)
    lines = ["starting Ray", "importing torch on 1 worker", f"{name_of(CELL)}  warm_up"]
    assert watched.said().splitlines() == lines, "a handler of a signal prints nothing"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3700, "1:01:40"), (90000, "25:00:00")])
def test_a_clock_is_read_at_a_glance(seconds, text):
    assert clock(seconds) == text
