"""Ends the processes that carry a mark, and their children. Nothing else, whatever its name.

python -m certvae.cluster.processes SCRATCH         a process is marked when it was started with CERTVAE_SCRATCH=SCRATCH

Ray has no record of what it started: its own command goes by the names of processes, and so meets the clusters of
everybody on the machine.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

VARIABLE = "CERTVAE_SCRATCH"
GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1


def marked(mark: str) -> set[int]:
    """Processes of this user that were started under this mark, with all their descendants; never the caller's own."""
    parents = dict(_parents())
    wanted = f"{VARIABLE}={mark}".encode()
    found = {pid for pid in parents if wanted in _environment(pid)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - set(_ancestors(os.getpid(), parents))


def end(mark: str, grace_seconds: float = GRACE_SECONDS) -> int:
    """Asks marked processes to end, ends those that do not, and returns how many there were.

    Ray's workers hide how they were started, so whoever was seen once is watched until the end.
    """
    seen = marked(mark)
    _send(seen, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while left := {pid for pid in seen | marked(mark) if _lives(pid)}:
        seen |= left
        if time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return len(seen)


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.stat().st_uid == os.geteuid():
                    # The name of a process stands in parentheses and may hold anything.
                    yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue


def _environment(pid: int) -> list[bytes]:
    """What a process was started with; nothing for those of other users, and for those that have just ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid:
        yield pid
        pid = parents.get(pid, 0)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _send(pids: Iterable[int], what: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    print(f"ended {end(sys.argv[1])} processes of {sys.argv[1]}")
