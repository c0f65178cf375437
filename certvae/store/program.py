"""Labels results with the text of the program that made them; the label is never a part of a key.

The stage version decides what may be used again. The label says what was made by another text, so that an edit which
forgot its version is seen: such a row is stale.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROGRAM = "program"
"""The field of a row: the digest of the program, or those of all programs that had a part in it."""
UNKNOWN = "unknown"
"""Stands for the program of an object that does not say."""


@functools.cache
def program_digest(*own: Path) -> str:
    """SHA-256 over every Python file of certvae, and over files of a user's own; where they lie has no part in it."""
    root, text = Path(__file__).parents[1], hashlib.sha256()
    named = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
    for name, path in [*named, *sorted((path.name, path) for path in own)]:
        text.update(name.encode() + b"\n" + hashlib.sha256(path.read_bytes()).digest())
    return text.hexdigest()


def joined(programs: Iterable[str]) -> str:
    """The digests of several programs as the one text that a row holds."""
    return "+".join(sorted(programs))


def is_stale(row: Mapping[str, Any], program: str) -> bool:
    """Whether another text of the program made a row or had a part in it, or the row does not say."""
    return row.get(PROGRAM) != program


def told(stale: int, of: int) -> str:
    """What is said of rows that are stale, and what to do."""
    return (
        f"{stale} of {of} rows are stale: another source code of certvae, or of a module of yours, had a part in them; "
        "the study with --recompute makes them again"
    )
