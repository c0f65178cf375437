"""From a command line to an exit code.

python sweeps/<study>.py --store DIR        the same command resumes; it computes only what is missing
"""

import sys

from rich.console import Console

from certvae.errors import Fault
from sweeps.command import command, parse
from sweeps.study import Study

EXIT_RESUMABLE = 4


def main(study: Study, arguments: list[str] | None = None) -> int:
    """Runs a study from the command line and returns its exit code.

    0 done, 2 wrong input and nothing started, 3 finished with failed cells, 4 stopped and resumable, 5 the store
    needs repair.
    """
    given = sys.argv[1:] if arguments is None else arguments
    console = Console()
    try:
        run, base = parse(study, given)
        from sweeps.flow import execute  # noqa: PLC0415  (torch, ray and mlflow: seconds that --help does not need)

        return execute(run, base, given, console)
    except Fault as fault:
        console.print(str(fault), style="red", highlight=False, markup=False, soft_wrap=True)
        return fault.exit_code
    except KeyboardInterrupt:
        console.print(f"stopped; nothing is lost. To go on: {command(given)}", highlight=False, soft_wrap=True)
        return EXIT_RESUMABLE
