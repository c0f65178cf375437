"""Runs commands of a terminal to their exit codes, and writes command lines that work where they are typed."""

import errno
import io
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, TextIO

from certvae.errors import ConfigFault, DiskFault, ExitCode, Fault
from certvae.installed import remedy
from certvae.shadowing import shadowed

PROGRAM = Path(__file__).parent
DISK = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),
        ("written", "free space there, or raise the limit (`ulimit -f`)"),
    ),
    errno.EMFILE: ("opened", "raise the limit (`ulimit -n`)"),
}
"""What is said of a disk that is full, or fails, and of too many open files -> what could not be done, what to do."""
UI_PORT = 5000
"""Where MLflow's UI listens when nothing else is asked for."""
STORE = Path("certvae-store")
"""Folder of results where no other one is named."""


def python(*arguments: str) -> str:
    """A command line for this interpreter: `python` where the shell finds it by that name, else its path."""
    return shlex.join(["python" if _found("python") else sys.executable, *arguments])


def certvae(*arguments: str) -> str:
    """A command of ours in this environment, by its name where the shell finds it, else through this interpreter."""
    return shlex.join(["certvae", *arguments]) if _found("certvae") else python("-m", "certvae", *arguments)


def option(arguments: Sequence[str], name: str) -> str | None:
    """The last value of an option, whether a space or an = stands before it; None where there is none."""
    found = None
    for word, after in zip_longest(arguments, arguments[1:]):
        written, joined, value = word.partition("=")
        if written.replace("_", "-") == name:
            found = value if joined else after
    return found


def without(arguments: Sequence[str], names: Collection[str]) -> list[str]:
    """The arguments but these options of one value each, whichever way they are written."""
    kept, left = [], iter(arguments)
    for argument in left:
        name, joined, _ = argument.partition("=")
        if name.replace("_", "-") not in names:
            kept.append(argument)
        elif not joined:
            next(left, None)
    return kept


def number_of(count: int, noun: str, plural: str = "") -> str:
    """So many of them: 1 cell, 3,000 cells."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _found(name: str) -> bool:
    """Whether the shell finds this name, and finds it in this environment."""
    found = shutil.which(name)
    return found is not None and Path(found).parent == Path(sys.executable).parent


def or_none(default: str) -> str:
    """How a help shows a default that may be empty: by the word for it."""
    return f"(default: {default})" if default.strip("'") else "(default: none)"


def checked_words(arguments: Sequence[str]) -> list[str]:
    """The words of a command line, none of which is empty: a variable of the shell that is not set would be the current
    folder where a path is wanted.

    Raises:
        ConfigFault: there is one.
    """
    for before, word in pairwise(("", *arguments)):
        if not word or re.fullmatch("--[^=]+=", word):
            after = word.removesuffix("=") or before or "the command"
            remedy = "give a value, or leave the option away; a variable of the shell that is not set is nothing"
            raise ConfigFault(f"a value is wanted after {after}, and nothing follows", remedy, where="the command line")
    return list(arguments)


@contextmanager
def handled(what: signal.Signals, handler: Callable[..., Any] | int) -> Iterator[None]:
    """Sets the handler of a signal within the block; does nothing in a thread other than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(what, handler)
    try:
        yield
    finally:
        signal.signal(what, earlier)


@contextmanager
def variables_kept(*names: str) -> Iterator[None]:
    """Whatever the block does to these environment variables, afterwards each is what it was, or is not set."""
    earlier = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in earlier.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def variables_unset(*names: str) -> Iterator[None]:
    """Without these environment variables; afterwards each is what it was."""
    with variables_kept(*names):
        for name in names:
            os.environ.pop(name, None)
        yield


def guarded(command: Callable[[], int], again: Callable[[], str] | None = None, extra: str = "") -> int:
    """Runs a command and returns one of the documented exit codes, whatever it met; no traceback of ours is shown.

    SIGTERM, as pre-emption and Slurm send it, ends it the way Ctrl-C does, whatever it is doing, and so does the end of
    its terminal, unless `nohup` said to ignore that.

    Args:
        again: the command line that goes on after an interruption.
        extra: of ours, which the command wants; that of the first module that is missing when empty.
    """
    try:
        with handled(signal.SIGTERM, signal.default_int_handler), _hung_up(), _printed():
            return int(command())
    except Fault as fault:
        return _told(fault)
    except ModuleNotFoundError as error:
        if (fault := shadowed(error)) is not None:
            return _told(fault)
        return _told(_missing(error.name, extra) if error.name and not _ours(error.name) else _bug(error))
    except BrokenPipeError:  # whoever read what we print, such as `head`, has seen enough
        return ExitCode.RESUMABLE
    except (KeyboardInterrupt, SystemExit) as stopped:
        if isinstance(stopped, SystemExit) and stopped.code != signal.SIGTERM:  # that one is how Ray hears it
            raise
        _say("stopped; nothing is lost." + (f" To go on: {again()}" if again else ""), sys.stdout)
        return ExitCode.RESUMABLE
    except Exception as error:
        return _told(shadowed(error) or _disk(error) or _nowhere() or _homeless(error) or _bug(error))


def _hung_up() -> AbstractContextManager[None]:
    """SIGHUP is a SIGTERM, whose handler may be another one by then."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return nullcontext() if ignored else handled(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@contextmanager
def _printed() -> Iterator[None]:
    """All is printed within the block: what the interpreter cannot print at its end is a code that nobody documents.

    Streams that a caller has closed are nowhere, since libraries take them for files.
    """
    sys.stdout, sys.stderr = (one or Path(os.devnull).open("w") for one in (sys.stdout, sys.stderr))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # a path may be in another encoding
        sys.stdout.reconfigure(errors="backslashreplace")  # as those of errors are
    try:
        yield
    finally:
        try:
            print(end="", flush=True)
        except OSError:
            _silence(sys.stdout)
            raise


def _silence(stream: TextIO) -> None:
    """Nobody reads it any more, and the interpreter shall not fail on it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: object, stream: TextIO) -> None:
    """The last words of a command; the exit code says enough where a terminal was closed, or a disk is full."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        _silence(stream)


def announce(what: str) -> None:
    """Says what the next seconds are for, to whoever watches a terminal; a log, or a pipe, has no use for it."""
    if sys.stderr.isatty():
        _say(f"{what} ...", sys.stderr)


def _told(fault: Fault) -> int:
    _say(fault, sys.stderr)
    return fault.exit_code


def _ours(module: str) -> bool:
    return module.partition(".")[0] in ("certvae", "analysis", "sweeps")


def _missing(module: str, extra: str) -> Fault:
    return ConfigFault(
        f"the package {module.partition('.')[0]!r} is not installed",
        remedy(module, extra),
        where="this environment",
        cause="it is an extra, or a study imports it: a certificate needs numpy alone",
    )


def _disk(error: BaseException | None) -> Fault | None:
    """The fault for what a disk refused to somebody who writes past the store: a log, a view, a library."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            done, remedy = DISK[error.errno]
            where = error.filename or "standard output, or the folder for temporary files"
            told, remedy = f"a file could not be {done}: {error.strerror}", f"{remedy}, then run the same command again"
            return DiskFault(told, remedy, where=str(where))
        error = error.__cause__ or error.__context__
    return None


def _nowhere() -> Fault | None:
    """The fault for a shell that stands in a folder that was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        remedy = "change to a folder that exists, and run the same command"
        return ConfigFault("the folder that this command runs in is gone", remedy, where="the current folder")
    return None


def _homeless(error: Exception) -> Fault | None:
    """The fault for what a library says of a missing home folder."""
    try:
        check_home()
    except Fault as fault:
        return fault if isinstance(error, RuntimeError) else None
    return None


def check_home() -> None:
    """What MLflow, Ray and others cannot do without: a home folder, of which they say no more than that it is missing.

    Raises:
        ConfigFault: there is none.
    """
    try:
        Path.home()
    except RuntimeError:
        raise ConfigFault(
            "this user has no home folder: HOME is not set, and the system does not know the user",
            "set HOME to a folder that you can write: `export HOME=DIR`",
            where=f"user {os.geteuid()}",
        ) from None


def _report(error: Exception) -> str:
    """Where the traceback lies for a report; nowhere when no file can be written."""
    try:
        text = f"{shlex.join(sys.argv)}\n{''.join(traceback.format_exception(error))}"
        with tempfile.NamedTemporaryFile(prefix="certvae-error-", suffix=".txt", delete=False) as file:
            file.write(text.encode(errors="backslashreplace"))
    except OSError as refused:
        return f"no file, since none could be written ({refused.strerror})"
    return f"the file {file.name}"


def _bug(error: Exception) -> Fault:
    """What only we can mend: the traceback goes to a file, for a report."""
    report = _report(error)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(PROGRAM)
    ]
    place = f"{Path(frames[-1].filename).relative_to(PROGRAM.parent)}:{frames[-1].lineno}" if frames else "certvae"
    return Fault(
        f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0],
        f"report it with {report}; the store is whole, and the same command goes on",
        where=place,
        cause="a bug of ours: this input was not foreseen",
    )
