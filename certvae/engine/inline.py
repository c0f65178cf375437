"""Runs lanes in this process, one after the other: no Ray, no worker. A debugger and a notebook see every frame.

Rows, keys and the table are those of any other pool. What ends this process ends the run, so a lane has no deadline and
gets no second attempt; the same command goes on.
"""

import itertools
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from certvae.cluster.slots import Place
from certvae.engine import failures
from certvae.engine.dispatch import Cell, Dispatcher, Ended
from certvae.terminal import handled

Attempt = Callable[[Cell, Place, Callable[[Mapping[str, Any]], None]], Ended]


def run(
    dispatcher: Dispatcher, place: Place, *, budget_seconds: float | None = None, attempt: Attempt | None = None
) -> None:
    """Runs lanes one after the other until the dispatcher is finished, the budget is spent, or the user interrupts.

    Args:
        attempt: what is done with a lane; tests give something shorter.
    """
    if attempt is None:
        from certvae.engine.cell import attempt  # noqa: PLC0415  (torch: after the number of threads is settled)
    until = None if budget_seconds is None else time.monotonic() + budget_seconds
    with suppress(KeyboardInterrupt, _Spent), handled(signal.SIGTERM, signal.default_int_handler):
        for token in map(str, itertools.count()):
            lane = dispatcher.next(token)
            if lane is None:
                return
            failures.forget(Path(place.store), lane)
            dispatcher.over(token, _attempted(dispatcher, token, place, until, attempt))


class _Spent(BaseException):
    """The budget is. No `Exception`: a stage would take it for its own."""


def _attempted(dispatcher: Dispatcher, token: str, place: Place, until: float | None, attempt: Attempt) -> Ended:
    lane = dispatcher.running(token)

    def report(event: Mapping[str, Any]) -> None:
        dispatcher.heard(token, event)
        if until is not None and time.monotonic() >= until:
            raise _Spent

    try:
        return attempt(lane, place, report)
    except Exception:  # it is written down; other cells need not go with this one
        return failures.of(Path(place.store), lane)
