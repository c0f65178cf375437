"""What a user's own code is asked for: its errors are told as theirs, by function and line, and never as ours."""

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from certvae.errors import ConfigFault, Fault

Given = ParamSpec("Given")
Result = TypeVar("Result")

NOT_THEIRS = (Path(__file__).parents[1], *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")))


class TheirFault(ConfigFault):
    """An error that code of a user raised."""


def called(function: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
    """The result of a function that a user wrote, or a library did that the user chose.

    Raises:
        TheirFault: it raised anything but a fault; the fault names its file, line and function.
    """
    try:
        return function(*given, **named)
    except (Fault, ModuleNotFoundError):
        raise
    except Exception as error:
        raise refused(function, error) from error


def refused(function: Callable[..., object], error: Exception) -> TheirFault:
    """The fault for an error in, or below, a function that a user wrote."""
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    name = getattr(function, "__name__", type(function).__name__)
    if theirs:
        last = theirs[-1]
        name, where = last.name, f"{last.filename}:{last.lineno}, `{(last.line or '').strip()}`"
    else:
        where = place_of(function)
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    said = (str(error).strip() or "no message").splitlines()[0]
    return TheirFault(
        f"{name} raised {type(error).__name__}: {said}",
        "mend it, or give it values that it accepts",
        where=where,
        cause="this function belongs to the study",
    )


def place_of(function: Callable[..., object]) -> str:
    """Where a function is written."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}, {code.co_filename}:{code.co_firstlineno}" if code else name


def _is_theirs(filename: str) -> bool:
    path = Path(filename)
    return path.is_absolute() and not any(path.is_relative_to(place) for place in NOT_THEIRS)
