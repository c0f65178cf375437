"""Answers Ctrl-C while a command is still importing what it needs; every command line imports this module first.

Before it the interpreter itself starts, which takes some hundredths of a second and answers in its own way; after it
`certvae.terminal.guarded` answers.
"""

import os
import sys
from types import TracebackType

from certvae.errors import ExitCode

_others = sys.excepthook


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt) or hasattr(sys, "ps1"):  # there somebody types, and goes on
        _others(kind, error, trace)
        return
    print("stopped; nothing is lost.", flush=True)
    os._exit(ExitCode.RESUMABLE)  # an exit by itself has the code of the signal


sys.excepthook = _told
