"""From a command line to an exit code.

    python sweeps/<study>.py --store DIR        the same command resumes; it computes only what is missing

0 done, 1 a bug of ours, 2 wrong input and nothing started, 3 finished with failed cells or nothing feasible, 4 stopped
and resumable, 5 the store refuses: its gate was opened for another config, or it is damaged or not safe.
"""

import os
import sys

from rich.console import Console

from certvae.engine.command import command, parse
from certvae.engine.study import Study
from certvae.errors import Fault

EXIT_RESUMABLE = 4
PIPE_WIDTH = 100  # where there is no terminal to fit


def main(study: Study, arguments: list[str] | None = None) -> int:
    """Runs a study from the command line and returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    try:
        run, base, goal = parse(study, given)
        from certvae.engine.run import execute  # noqa: PLC0415  (torch, ray and mlflow: seconds that --help does not need)

        return execute(study, run, base, goal, given, console)
    except Fault as fault:
        console.print(str(fault), style="red", highlight=False, markup=False, soft_wrap=True)
        return fault.exit_code
    except BrokenPipeError:  # whoever read what we print, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_RESUMABLE
    except KeyboardInterrupt:
        again = f"stopped; nothing is lost. To go on: {command(given)}"
        console.print(again, highlight=False, markup=False, soft_wrap=True)
        return EXIT_RESUMABLE
