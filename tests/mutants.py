"""Single changes of meaning that the gate must notice: each is made in a copy of the tree, and the tests that should
see it are run there.

make mutants                               all of them
python -m tests.mutants fsync looks        those that speak of one of these words

They stand in `mutants.toml`. Exit code 1: one survived, or its tests could not be run. A survivor asks for a test of
what a user would lose, or is no change of meaning and goes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).with_suffix(".toml")
COPIED = (
    "certvae",
    "analysis",
    "sweeps",
    "tests",
    "pyproject.toml",
    "README.md",
    "cluster.yaml",
    "requirements.lock",
    ".github",
)
SECONDS = 600
"""Tests that take longer hang, which is noticed too."""
NO_ANSWER = (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Nothing was tried: a test that is gone, or one that the gate does not run."""


class Fate(StrEnum):
    """What tests say of a mutant."""

    NOTICED = "noticed"
    SURVIVED = "SURVIVED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Mutant:
    """One edit of one file, what it would mean, and the test files that must fail."""

    file: str
    old: str
    new: str
    means: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> str:
        """Makes the edit in a copy; returns the text before."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: wanted once, found {text.count(self.old)} times: {self.old!r}")
        path.write_text(text.replace(self.old, self.new))
        return text


def listed() -> list[Mutant]:
    """All mutants, in the order of the file."""
    entries = tomllib.loads(DATA.read_text())["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


@contextmanager
def copied() -> Iterator[Path]:
    """The tree in another place, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="certvae-mutants-") as name:
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, Path(name, part), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, name)
        yield Path(name)


def fate(mutant: Mutant, root: Path) -> Fate:
    """What its tests say of it."""
    before = mutant.apply(root)
    try:
        return tried(mutant.tests, root)
    finally:
        (root / mutant.file).write_text(before)


def tried(tests: Sequence[str], root: Path) -> Fate:
    """Runs test files of a copy, up to the first failure; a process that dies, whatever its code, fails as well."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    given = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=root, env=given, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Fate.NOTICED
    return told(done.returncode)


def told(code: int) -> Fate:
    """What the exit code of pytest says, or the signal that ended it."""
    if code in NO_ANSWER:
        return Fate.NOT_RUN
    return Fate.NOTICED if code else Fate.SURVIVED


def main(words: Sequence[str]) -> int:
    """Runs the mutants that speak of one of these words, or all; returns the exit code."""
    chosen = [one for one in listed() if not words or any(word in f"{one.file} {one.means}" for word in words)]
    noticed = 0
    with copied() as root:
        for mutant in chosen:
            found = fate(mutant, root)
            noticed += found is Fate.NOTICED
            tests = f" ({', '.join(mutant.tests)})" * (found is Fate.NOT_RUN)
            print(f"{found:8}  {mutant.file}: {mutant.means}{tests}", flush=True)
    print(f"{noticed} of {len(chosen)} noticed")
    return int(noticed < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
