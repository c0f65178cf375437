"""Why a cell failed: written by the worker that saw it, read by the driver. Scratch, not truth."""

import json
import traceback
from dataclasses import asdict
from pathlib import Path

from certvae.engine.dispatch import Ended, Kind
from certvae.store.disk import put_view

KEPT = 16  # digits of a cell's digest that name its files


def kind_of(error: BaseException) -> Kind:
    """Out of memory, on a GPU or a host, is told apart: it may fit alone."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "out_of_memory" if names & {"OutOfMemoryError", "MemoryError"} else "error"


def keep(store: Path, cell: str, error: BaseException) -> Ended:
    """Writes the traceback beside a one-line reason."""
    ended = Ended(kind_of(error), f"{type(error).__name__}: {error}".splitlines()[0][:500])
    notes = {".txt": "".join(traceback.format_exception(error)), ".json": json.dumps(asdict(ended))}
    for ending, text in notes.items():
        put_view(_folder(store) / f"{cell[:KEPT]}{ending}", text.encode())
    return ended


def stack_dump(store: Path, cell: str) -> Path:
    """Where all stacks of a cell go when its deadline has passed."""
    return _folder(store) / f"{cell[:KEPT]}.stacks.txt"


def of(store: Path, cell: str) -> Ended:
    """What is known of a failed cell; a worker that could not write anything was killed."""
    told, dump = _folder(store) / f"{cell[:KEPT]}.json", stack_dump(store, cell)
    if dump.exists() and dump.stat().st_size:
        return Ended("timeout", f"its deadline passed; stacks in {dump}")
    if told.exists():
        return Ended(**json.loads(told.read_text()))
    return Ended("killed", "its worker died without a word (a signal, or the host ran out of memory)")


def known(store: Path, cell: str) -> bool:
    """Whether this cell failed in the last invocation that ran it, and left a word."""
    return any(path.exists() for path in (_folder(store) / f"{cell[:KEPT]}.json", stack_dump(store, cell)))


def forget(store: Path, cell: str) -> None:
    """Removes what an earlier invocation wrote about a cell."""
    for ending in (".txt", ".json", ".stacks.txt"):
        (_folder(store) / f"{cell[:KEPT]}{ending}").unlink(missing_ok=True)


def _folder(store: Path) -> Path:
    folder = store / "log" / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
