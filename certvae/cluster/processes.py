"""Ends the processes that carry a mark, and their children, and no others.

python -m certvae.cluster.processes SCRATCH         a process is marked when it was started with CERTVAE_SCRATCH=SCRATCH

Ray has no record of what it started: its own command goes by the names of processes, and so meets the clusters of
everybody on the machine.
"""

import os
from collections.abc import Callable
from contextlib import suppress

import psutil
import tyro

VARIABLE = "CERTVAE_SCRATCH"
GRACE_SECONDS = 10.0


def marked(mark: str) -> set[psutil.Process]:
    """Processes of this user that were started under this mark, with all their descendants; never the caller's own."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.uids().effective == os.geteuid() and process.environ().get(VARIABLE) == mark:
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:  # it belongs to others, or has just ended
            continue
    here = psutil.Process()
    return found - {here, *here.parents()}


def end(mark: str, grace_seconds: float = GRACE_SECONDS) -> int:
    """Asks marked processes to end, ends those that do not, and returns how many there were.

    Ray's workers hide how they were started, so whoever was seen once is watched until the end.
    """
    seen, left = set(), marked(mark)
    while left - seen:  # whoever was started meanwhile
        for process in left - seen:
            _send(process, psutil.Process.terminate)
        seen |= left
        _, deaf = psutil.wait_procs(list(left), grace_seconds)
        for process in deaf:
            _send(process, psutil.Process.kill)
        psutil.wait_procs(deaf, grace_seconds)
        left = marked(mark)
    return len(seen)


def _send(process: psutil.Process, what: Callable[[psutil.Process], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        what(process)


def main(scratch: tyro.conf.Positional[str], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ends every process of this user that was started with CERTVAE_SCRATCH set to this folder, and its children.

    Args:
        scratch: The folder, as it was written.
        grace_seconds: Those that do not listen are killed after so long.
    """
    print(f"ended {end(scratch, grace_seconds)} processes of {scratch}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m certvae.cluster.processes")
