"""What runs in a worker process: one lane of a cell, its progress, and how it ended."""

import faulthandler
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from certvae.cluster.slots import Place
from certvae.engine import failures
from certvae.engine.dispatch import Cell, Ended

REPORT_SECONDS = 0.5  # the driver is told at once that work has begun, and then at most this often


def run_cell(config: Mapping[str, Any], *, place: Place) -> None:
    """Runs one lane as a Ray Tune trial; torch is imported here, after the number of threads is settled.

    Failures that a second attempt cannot mend are reported; others are raised, and Ray tries again.
    """
    from certvae.training import environment  # noqa: PLC0415

    environment.settle()
    from certvae.engine.cell import attempt  # noqa: PLC0415

    lane: Cell = config["cell"][0]
    speaker, store = Speaker(), Path(place.store)
    dump = failures.stack_dump(store, lane)
    if dump.exists() and dump.stat().st_size:  # Ray tries again what its deadline ended; it would take as long
        speaker.over(failures.of(store, lane))
        return
    with _deadline(place.deadline_seconds, dump):
        ended = attempt(lane, place, speaker)
    speaker.over(ended)


class Speaker:
    """Collects events and sends them in bundles: a report costs the driver more than a training step."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._sent = -math.inf

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._events.append(dict(event))
        if time.monotonic() - self._sent >= REPORT_SECONDS:
            self._send({})

    def over(self, ended: Ended) -> None:
        """Sends how the lane ended, with all that was not sent yet."""
        self._send({"ended": ended})

    def _send(self, more: Mapping[str, Any]) -> None:
        events, self._events = self._events, []
        tune.report({"events": events, **more})
        self._sent = time.monotonic()


@contextmanager
def _deadline(seconds: float | None, dump: Path) -> Iterator[None]:
    """Ends this process after so many seconds, with the stacks of all its threads in a file."""
    if seconds is None:
        yield
        return
    with dump.open("w") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            dump.unlink()
