"""The real command on a disk that refuses one call: a documented code, no traceback, and the rerun gives the same."""

import contextlib
import dataclasses
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certvae.engine import selftest
from certvae.engine.main import main
from certvae.errors import ExitCode
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.store.selftest import ended, forked

OURS = str(Path(selftest.__file__).parents[1])
CHANGES = {"os.rename", "os.mkdir", "os.link", "os.truncate", "sqlite3.connect"}
"""What the interpreter tells of before it is done; `open` is one of them where it writes."""
ERRORS = (errno.ENOSPC, errno.EIO)


def smallest(data: str | Description) -> CellSpec:
    """Of one epoch."""
    cell = selftest.small(data)
    training = dataclasses.replace(cell.training, epochs=1)
    warm_up = dataclasses.replace(cell.protocol.warm_up, training=training)
    return dataclasses.replace(cell, training=training, protocol=dataclasses.replace(cell.protocol, warm_up=warm_up))


STUDY = dataclasses.replace(selftest.STUDY, preset=smallest, seeds=(0,))


class Disk:
    """Sees every call of this process that changes a file system, and refuses one.

    Args:
        refused: the number of that call.
        code: why, as an `errno`.
    """

    def __init__(self, refused: int = 0, code: int = errno.ENOSPC):
        self._refused, self._code = refused, code
        self.sites: list[str] = []
        """Where each call stood: what it did, and the two innermost lines of ours."""

    def __enter__(self) -> "Disk":
        sys.addaudithook(self._heard)  # it stays: each run has a process of its own
        os.write, os.fsync = self._told("write", os.write), self._told("fsync", os.fsync)
        return self

    def __exit__(self, *raised: object) -> None:
        self._refused = 0

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[0], str) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or (writes and not given[0].startswith(("/dev/", "/proc/"))):
            self._step(event)

    def _told(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def refusing(file: int, *more: Any) -> Any:
            if file > 2:
                self._step(name)
            return call(file, *more)

        return refusing

    def _step(self, what: str) -> None:
        ours = [
            f"{frame.name}:{frame.lineno}" for frame in traceback.extract_stack() if frame.filename.startswith(OURS)
        ]
        self.sites.append(f"{what} in {' < '.join(reversed(ours[-2:]))}")
        if len(self.sites) == self._refused:
            raise OSError(self._code, os.strerror(self._code))


def run(store: Path, disk: Disk | None = None) -> tuple[int, str, list[str]]:
    """One run in a child of this process: its exit code, what it said, and where it wrote."""
    said, sites = store.with_suffix(".said"), store.with_suffix(".sites")

    def child() -> None:
        words = io.StringIO()
        with disk or contextlib.nullcontext(), contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            code = main(STUDY, ["--store", str(store), "--workers", "0"])
        sites.write_text("\n".join(disk.sites if disk else ()))
        said.write_text(words.getvalue())
        os._exit(code)

    code = ended(forked(child))
    return code, said.read_text(), sites.read_text().splitlines()


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> tuple[selftest.Results, dict[str, int]]:
    """What a run leaves that nothing is refused to, and the number of the first call at each place that writes."""
    store = tmp_path_factory.mktemp("calm") / "store"
    code, said, sites = run(store, Disk())
    assert code == ExitCode.DONE, said
    return selftest.results(store), {site: number for number, site in reversed(list(enumerate(sites, 1)))}


def tried(store: Path, wanted: selftest.Results, number: int, error: int) -> list[str]:
    """What is wrong with a run to which one call is refused, and with the one after it."""
    code, said, _ = run(store, Disk(number, error))
    again, more, _ = run(store)
    return [
        *([] if code in set(ExitCode) - {ExitCode.BUG} else [f"exit code {code}: {said[-500:]}"]),
        *(["a traceback"] if "Traceback" in said + more else []),
        *([] if again == ExitCode.DONE else [f"the rerun ended with {again}: {more[-500:]}"]),
        *([] if selftest.results(store) == wanted else ["other bytes"]),
    ]


def test_a_call_that_is_refused_loses_nothing(calm, tmp_path):
    """The first write of a result; all others are tried in the slow suite."""
    wanted, places = calm
    number = next(number for site, number in places.items() if site.startswith("write") and number > 40)
    assert tried(tmp_path / "store", wanted, number, errno.ENOSPC) == []


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_every_call_that_is_refused_loses_nothing(calm, tmp_path, error):
    wanted, places = calm
    assert len(places) > 30
    found = {site: tried(tmp_path / str(number), wanted, number, error) for site, number in places.items()}
    assert {site: wrong for site, wrong in found.items() if wrong} == {}
