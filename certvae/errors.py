"""Defines faults, which users read when something is wrong, one class per area; and exit codes.

A fault says what happened, where, the cause where it is known, and what to do:

    E-CONF: lambda_ts must be > 0, got 0 | Objective.lambda_ts | for no alignment read mode 'no_align'

The class decides the exit code of a command.
"""

import os
import re
import struct
import zipfile
import zlib
from enum import IntEnum
from functools import partial
from typing import ClassVar, Self

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without
    LZMAError = zlib.error

DAMAGED = (
    *(OSError, EOFError, ValueError, ArithmeticError, RuntimeError, NotImplementedError, MemoryError),
    *(struct.error, zlib.error, LZMAError, zipfile.BadZipFile),
)
"""What the standard library raises for archives that were cut, changed or encrypted."""
_PICKLES = "allow_pickle"
_SHORT = re.compile(r"CUDA.* out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")


def redact(text: str) -> str:
    """Replaces the value of every environment variable that looks like a secret by its name."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, f"<{name}>")
    return text


def of_numpy(error: BaseException) -> str:
    """Why numpy cannot read a file: of what it takes for a pickle it says how to run that, and nobody shall."""
    return "it is no file of numpy, or holds objects" if _PICKLES in str(error) else str(error) or type(error).__name__


def is_short_of_memory(error: BaseException) -> bool:
    """Whether a host or a GPU had too little memory, so that what failed may fit alone.

    torch has an error of that name for what its allocator was refused. Where CUDA, cuBLAS or cuDNN were, as for one
    process more on a card, only the words of a RuntimeError tell.
    """
    if {kind.__name__ for kind in type(error).__mro__} & {"OutOfMemoryError", "MemoryError"}:
        return True
    return isinstance(error, RuntimeError) and _SHORT.search(str(error)) is not None


class ExitCode(IntEnum):
    """What a command tells its shell: 0 to 5 as `legend` says. Only `store verify` has its own, bits of what it
    found."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    DONE = 0, "done"
    BUG = 1, "a bug of ours, or a check that says no"
    NO = BUG
    WRONG_INPUT = 2, "wrong input and nothing started"
    INCOMPLETE = 3, "finished with failed cells or nothing feasible"
    RESUMABLE = 4, "stopped and resumable by the same command"
    REFUSED = 5, "the store refuses: more looks at certify rows than were declared, or it is damaged or not safe"

    @classmethod
    def legend(cls) -> str:
        """All codes in one sentence, for `--help`."""
        return "Exit codes: " + ", ".join(f"{int(code)} {code.meaning}" for code in cls) + "."


class Fault(Exception):
    """Something a user can act on: `E-<area>: what | where | cause | remedy`, without what is not known.

    Args:
        what: what was wanted and what was found.
        remedy: what to do.
        where: the field, file, stage or host.
        cause: why, where that is a fact; guesses mislead.
    """

    area: ClassVar[str] = "PROC"
    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, what: str, remedy: str, *, where: str = "", cause: str = ""):
        self.what, self.remedy, self.where, self.cause = what, remedy, where, cause
        super().__init__(redact(f"E-{self.area}: {' | '.join(filter(None, (what, where, cause, remedy)))}"))

    def __reduce__(self) -> tuple:
        return partial(type(self), where=self.where, cause=self.cause), (self.what, self.remedy)


class ConfigFault(Fault):
    """A field, a combination of fields, or a command line that cannot be run."""

    area, exit_code = "CONF", ExitCode.WRONG_INPUT


class DataFault(Fault):
    """A data set that is absent, truncated, changed, or not what it should be."""

    area, exit_code = "DATA", ExitCode.WRONG_INPUT


class DiskFault(Fault):
    """The operating system refused to write or read."""

    area, exit_code = "DISK", ExitCode.RESUMABLE


class StoreFault(Fault):
    """The store is not usable as it is: layout, owner, looks, or a foreign study."""

    area, exit_code = "STORE", ExitCode.REFUSED


class BundleFault(Fault):
    """A bundle that is not what it says, or cannot be read, or cannot be made of this result."""

    area = "BUNDLE"


class NoBundle(BundleFault):
    """What was named is no bundle, or is not enough to make or to read one: nothing is claimed, and nothing refused."""

    exit_code = ExitCode.WRONG_INPUT


class DeterminismFault(Fault):
    """One key gave two contents: a stage is not deterministic, or changed without a new version."""

    area = "DET"


class NumberFault(Fault):
    """A loss or a margin became NaN or infinite: a result, not an accident."""

    area = "NUM"


class TeacherFault(Fault):
    """No teacher, or one that carries no information. Within a study it is the outcome of a cell."""

    area, exit_code = "TEACH", ExitCode.WRONG_INPUT


class SearchFault(Fault):
    """A search that cannot be continued as asked."""

    area, exit_code = "SEARCH", ExitCode.WRONG_INPUT


class RayFault(Fault):
    """The pool is not what was asked for, or was lost."""

    area, exit_code = "RAY", ExitCode.RESUMABLE
