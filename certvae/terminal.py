"""What is written for a terminal: commands for the Python that runs now with short paths."""

import shlex
import shutil
import sys
from pathlib import Path


def python(*arguments: str) -> str:
    """A command line for this interpreter: `python` where the shell finds it by that name, else its path."""
    found = shutil.which("python")
    named = found is not None and Path(found).parent == Path(sys.executable).parent
    return shlex.join(["python" if named else near(Path(sys.executable)), *arguments])


def near(path: Path) -> str:
    """A path as seen from the working directory, when it lies below that."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
