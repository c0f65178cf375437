"""Copies of the program in which somebody has changed a number and thought of no version."""

import ast
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sweep_runs import REPOSITORY

ROOMS = ("training", "teachers", "evaluation", "models", "certificate.py", "simplex.py", "equilibrium.py", "quality.py")


@dataclass(frozen=True)
class Edit:
    """One number of the program, and where it stands."""

    path: str
    line: int
    column: int
    number: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def apply(self, root: Path) -> None:
        """Adds one to the number in a copy."""
        lines = (root / self.path).read_text().splitlines(keepends=True)
        line = lines[self.line - 1].encode()
        before, after = line[: self.column], line[self.column + len(self.number.encode()) :]
        lines[self.line - 1] = (before + f"({self.number} + 1)".encode() + after).decode()
        (root / self.path).write_text("".join(lines))


def copied(to: Path) -> Path:
    """The program and the studies in another place."""
    for name in ("certvae", "sweeps"):
        shutil.copytree(REPOSITORY / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def drawn(count: int, seed: int) -> list[Edit]:
    """So many numbers of the rooms that compute, each once."""
    paths = [path for room in ROOMS for path in sorted((REPOSITORY / "certvae").glob(f"{room}/**/*.py"))]
    paths += [REPOSITORY / "certvae" / room for room in ROOMS if room.endswith(".py")]
    return random.Random(seed).sample([edit for path in paths for edit in _numbers(path)], count)


def _numbers(path: Path) -> Iterator[Edit]:
    """Every number outside of f-strings, whose pieces have no place of their own before Python 3.12."""
    text = path.read_text()
    tree = ast.parse(text)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and id(node) not in inside:
            number = ast.get_source_segment(text, node) or ""
            yield Edit(str(path.relative_to(REPOSITORY)), node.lineno, node.col_offset, number)
