"""Runs a study from its command line, to an exit code.

    python sweeps/<study>.py --store DIR        the same command resumes; it computes only what is missing

The exit codes are `certvae.errors.ExitCode`.
"""

from certvae import interrupted  # isort: skip  # noqa: F401 - before all that takes its time
import sys
from collections.abc import Sequence
from functools import partial

from certvae.engine.command import Command, anywhere, parse
from certvae.engine.progress import console
from certvae.engine.study import Study
from certvae.terminal import checked_words, guarded


def main(study: Study, arguments: Sequence[str] | None = None, target: str | None = None) -> int:
    """Runs a study from the command line and returns its exit code.

    Args:
        arguments: what stands behind the name of the study; that of this process when absent.
        target: what `certvae run` was given for the study; the script that runs when absent.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(partial(_execute, study, given, target), again=lambda: str(Command(target, given)))


def _execute(study: Study, given: Sequence[str], target: str | None) -> int:
    run, base, goal = parse(study, checked_words(given), target)
    from certvae.engine.run import execute  # noqa: PLC0415  (ray and mlflow: seconds that --help does not need)

    return execute(study, run, base, goal, Command(target, anywhere(given, run)), console()).code
