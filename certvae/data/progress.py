"""Shows a progress bar for what takes longer than a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 1.0  # seconds; what ends sooner, or fails, needs no bar


@contextmanager
def bar(total: int, label: str | None, *, of_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields a function to be called with the steps that are done; a bar on stderr shows them, if there is a label."""
    count = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True))
    task, begun, is_shown = shown.add_task(label or "", total=total), time.monotonic(), False

    def advance(steps: int) -> None:
        nonlocal is_shown
        shown.advance(task, steps)
        if label is not None and not is_shown and time.monotonic() > begun + PATIENCE:
            shown.start()
            is_shown = True

    try:
        yield advance
    finally:
        if is_shown:
            shown.stop()
