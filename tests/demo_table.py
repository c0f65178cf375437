"""The table that `make demo` ends with, as README.md shows it.

`python -m tests.demo_table` runs the demo and writes its table there, of two seeds.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TABLE = re.compile(r"^tiny_fixed_q-digits: .*?proves nothing\.$", re.DOTALL | re.MULTILINE)
THIRD = re.compile(r"\n\n2 .*?(?=\nI_T)", re.DOTALL)
"""The rows of the third seed, which the page has no room for."""
MARGIN = re.compile(r"^(\d+) +(\w+) +(\w+) +\S+ +\S+ +([+-])", re.MULTILINE)


def made(store: Path) -> str:
    """Runs the demo on a store; its table."""
    command = [sys.executable, "sweeps/tiny_fixed_q.py", "--data", "digits", "--store", str(store)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shown(said)


def shown(text: str) -> str:
    """The one table in a text, without the blanks that fill a terminal's lines."""
    [table] = TABLE.findall("\n".join(line.rstrip() for line in text.splitlines()))
    return table


def signs(table: str) -> list[tuple[str, ...]]:
    """(seed, mode, teacher, sign of the margin) of every row."""
    return MARGIN.findall(table)


def main() -> None:
    """Writes what the demo says now into README.md."""
    with tempfile.TemporaryDirectory() as folder:
        table = made(Path(folder) / "store")
    README.write_text(TABLE.sub(lambda _: THIRD.sub("", table), README.read_text()))


if __name__ == "__main__":
    main()
