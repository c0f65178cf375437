"""Faults: what a user reads when something is wrong, one class per area.

A fault says four things, in this order: what happened, where, the likely cause, and what to do:

    E-CONF-03: lambda_ts must be > 0, got 0 | Objective | ... | for no alignment read mode 'no_align'

The class decides the exit code of a command; the number is stable, so that a message can be looked up.
"""

import os
import re
from typing import ClassVar

_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")


def redact(text: str) -> str:
    """Replaces the value of every environment variable that looks like a secret by its name."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, f"<{name}>")
    return text


class Fault(Exception):
    """Something a user can act on: `E-<area>-<number>: what | where | cause | remedy`."""

    area: ClassVar[str] = "PROC"
    exit_code: ClassVar[int] = 1

    def __init__(self, number: int, what: str, *, where: str, cause: str, remedy: str):
        self.number, self.what, self.where, self.cause, self.remedy = number, what, where, cause, remedy
        super().__init__(redact(f"{self.code}: {what} | {where} | {cause} | {remedy}"))

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.number, self.what, self.where, self.cause, self.remedy)

    @property
    def code(self) -> str:
        return f"E-{self.area}-{self.number:02d}"


def _rebuild(kind: type[Fault], number: int, what: str, where: str, cause: str, remedy: str) -> Fault:
    """Faults cross process borders; keyword-only arguments need their own way back."""
    return kind(number, what, where=where, cause=cause, remedy=remedy)


class ConfigFault(Fault):
    """A field, a combination of fields, or a command line that cannot be run."""

    area, exit_code = "CONF", 2


class DataFault(Fault):
    """A data set that is absent, truncated, changed, or not what it should be."""

    area, exit_code = "DATA", 2


class DiskFault(Fault):
    """The operating system refused to write or read."""

    area, exit_code = "DISK", 4


class StoreFault(Fault):
    """The store is not usable as it is: layout, owner, gate, or a foreign study."""

    area, exit_code = "STORE", 5


class DeterminismFault(Fault):
    """One key, two contents."""

    area = "DET"


class NumberFault(Fault):
    """A loss or a margin became NaN or infinite: a result, not an accident."""

    area = "NUM"


class TeacherFault(Fault):
    """No teacher, or one that carries no information."""

    area = "TEACH"


class SearchFault(Fault):
    """A search that cannot be continued as asked."""

    area, exit_code = "SEARCH", 2


class RayFault(Fault):
    """The pool is not what was asked for, or was lost."""

    area, exit_code = "RAY", 4
