"""Answers Ctrl-C while a command is still importing what it needs; every command line imports this module first.

Before it the interpreter itself starts, which takes some hundredths of a second and answers in its own way; after it
`certvae.terminal.guarded` answers.
"""

import os
import sys
from types import TracebackType

from certvae.errors import ExitCode
from certvae.shadowing import shadowed

_others = sys.excepthook


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if hasattr(sys, "ps1"):  # there somebody types, and goes on
        _others(kind, error, trace)
    elif issubclass(kind, KeyboardInterrupt):
        print("stopped; nothing is lost.", flush=True)
        os._exit(ExitCode.RESUMABLE)  # an exit by itself has the code of the signal
    elif (fault := shadowed(error)) is not None:
        print(fault, file=sys.stderr, flush=True)
        os._exit(fault.exit_code)
    else:
        _others(kind, error, trace)


sys.excepthook = _told
