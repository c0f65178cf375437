"""Why a lane of a cell failed: written by the worker that saw it, read by the driver. Scratch, not truth."""

import json
import traceback
from dataclasses import asdict
from pathlib import Path

from certvae.engine.dispatch import Cell, Ended, Kind
from certvae.errors import is_short_of_memory
from certvae.store.disk import put_view

KEPT = 16  # digits of a cell's digest that name the files of its lanes


def kind_of(error: BaseException) -> Kind:
    """The kind of a failure: out of memory, of a GPU or a host, is told apart since the lane may fit alone."""
    return "out_of_memory" if is_short_of_memory(error) else "error"


def keep(store: Path, lane: Cell, error: BaseException) -> Ended:
    """Keeps a failure: its traceback, and its reason in one line."""
    ended = Ended(kind_of(error), f"{type(error).__name__}: {error}".splitlines()[0][:500])
    notes = {"txt": "".join(traceback.format_exception(error)), "json": json.dumps(asdict(ended))}
    for ending, text in notes.items():
        put_view(_file(store, lane, ending), text.encode(errors="backslashreplace"))
    return ended


def stack_dump(store: Path, lane: Cell) -> Path:
    """Where all stacks of a lane go when its deadline has passed."""
    return _file(store, lane, "stacks")


def of(store: Path, lane: Cell) -> Ended:
    """What is known of a failed lane; a worker that could not write anything was killed."""
    return _told(_file(store, lane, "json"), stack_dump(store, lane)) or Ended(
        "killed", "its worker died without a word (a signal, or the host ran out of memory)"
    )


def last(store: Path, cell: Cell) -> Ended | None:
    """Why a lane of this cell failed in the last invocation that ran it; None where none left a word."""
    dumps = {path.stem: path for path in _folder(store).glob(f"{cell.spec.cell[:KEPT]}.*.stacks")}
    words = {path.stem: path for path in _folder(store).glob(f"{cell.spec.cell[:KEPT]}.*.json")}
    found = (_told(words.get(name), dumps.get(name)) for name in sorted(dumps | words))
    return next((ended for ended in found if ended is not None), None)


def forget(store: Path, lane: Cell) -> None:
    """Removes what an earlier invocation wrote about a lane."""
    for ending in ("txt", "json", "stacks"):
        _file(store, lane, ending).unlink(missing_ok=True)


def _told(words: Path | None, dump: Path | None) -> Ended | None:
    if dump is not None and dump.exists() and dump.stat().st_size:
        return Ended("timeout", f"its deadline passed; stacks in {dump}")
    return None if words is None or not words.exists() else Ended(**json.loads(words.read_text()))


def _file(store: Path, lane: Cell, ending: str) -> Path:
    """A lane is named by its first mode: no two of a cell have one in common."""
    return _folder(store) / f"{lane.spec.cell[:KEPT]}.{lane.only[0] if lane.only else 'all'}.{ending}"


def _folder(store: Path) -> Path:
    folder = store / "log" / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
