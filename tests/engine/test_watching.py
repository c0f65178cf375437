"""A run in a real terminal: it is resized, it is dumb, it has no colours, somebody presses Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from certvae.errors import ExitCode
from tests.sweep_runs import REPOSITORY

RUN = """
import fcntl, sys, termios, time
from pathlib import Path
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # or Ctrl-C reaches nobody
from certvae.engine.dispatch import Cell
from certvae.engine.progress import Board, console
from certvae.terminal import guarded
from tests.small_cells import small_cell

def run():
    cells = [Cell(small_cell(seed=seed)) for seed in range(3)]
    about = "1/9 configs, best 3f7a2b with mean margin +1.2345 nats, slack 0.12 dB"
    with Board(lambda: (3, about), console(), Path(sys.argv[1])) as board:
        board.waiting("starting Ray")
        time.sleep(0.4)
        for cell in cells:
            board.started(str(cell.spec.seed), cell)
            board.heard(str(cell.spec.seed), cell, {"at": "full"})
        epochs = int(sys.argv[2])
        for epoch in range(1, epochs):
            for cell in cells:
                event = {"epoch": epoch, "epochs": epochs, "step": 0, "steps": 10, "loss": 12.5, "guard_margin": 0.75}
                board.heard(str(cell.spec.seed), cell, event)
            print("a library has something to say") if epoch % 50 == 49 else None
            time.sleep(0.04)
        return 0

sys.exit(guarded(run, again=lambda: "the same"))
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A run on the far side of a pseudo-terminal."""

    def __init__(self, folder: Path, columns: int, epochs: int = 20, **variables: str):
        self.ours, theirs = pty.openpty()
        self.resize(columns)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", **variables}
        command = [sys.executable, "-c", RUN, str(folder / "run.log"), str(epochs)]
        how = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
        self.child = subprocess.Popen(command, cwd=REPOSITORY, env=environment, **how)
        os.close(theirs)
        self.text = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, word: str = "\0", after: int = 0, seconds: float = 60.0) -> None:
        """Reads until a word comes behind a place, or the end, or for so long."""
        late = time.monotonic() + seconds
        while word not in self.text[after:] and time.monotonic() < late:
            try:
                if select.select([self.ours], [], [], 0.1)[0]:
                    self.text += os.read(self.ours, 4096).decode(errors="replace")
            except OSError:  # the child has ended
                self.child.wait()
                return

    def press(self, key: str) -> None:
        os.write(self.ours, key.encode())


def drawn(text: str) -> list[str]:
    """Every line that was ever on the screen."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", text))]


@pytest.mark.slow
def test_a_terminal_that_is_resized_and_interrupted_is_left_clean(tmp_path):
    seen = Terminal(tmp_path, 120, epochs=3000)
    seen.until("epoch ")
    wide = len(seen.text)
    seen.resize(60)
    seen.until(seconds=1.0)
    narrow = len(seen.text)
    seen.until("a library has something to say", narrow)
    seen.press("\x03")
    seen.until()
    assert any("margin" in line for line in drawn(seen.text[:wide]))
    assert max(map(cell_len, drawn(seen.text[narrow:]))) <= 60
    assert seen.child.returncode == ExitCode.RESUMABLE
    assert seen.text.rindex("\x1b[?25h") > seen.text.rindex("\x1b[?25l"), "the cursor is back"
    erased = seen.text.rindex("\x1b[2K")
    assert [line for line in drawn(seen.text[erased:]) if line not in ("", "^C")] == [
        "stopped; nothing is lost. To go on: the same"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80])
def test_a_line_is_never_wider_than_its_terminal(tmp_path, columns):
    seen = Terminal(tmp_path, columns, NO_COLOR="1")
    seen.until()
    assert seen.child.returncode == 0
    assert "starting Ray  0:00" in drawn(seen.text)
    assert max(map(cell_len, drawn(seen.text))) <= columns
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen.text), "no colour"


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines_and_no_escape(tmp_path):
    seen = Terminal(tmp_path, 80, TERM="dumb")
    seen.until()
    assert "\x1b" not in seen.text
    assert "starting Ray" in drawn(seen.text)
    assert sum(line.endswith("  full") for line in drawn(seen.text)) == 3
