"""Names processes by host, process id and start, so that a dead owner can be told from a busy one.

A process id alone is used again sooner or later; together with the start of the process it is not.
"""

import functools
import hashlib
import os
import platform
from pathlib import Path

import psutil

UNKNOWN = "0"
"""Start of a process that the system does not tell."""


def owner() -> str:
    """Names this process: `<host>-<pid>-<start>`, lower-case letters, digits and hyphens."""
    pid = os.getpid()
    return f"{_host()}-{pid}-{start(pid) or UNKNOWN}"


def is_dead(name: str) -> bool:
    """True when the owner ran on this host and does not run any more; False for every other host."""
    pid, began = _here(name)
    now = start(pid) if pid else began
    return now is None or (UNKNOWN not in (now, began) and now != began)


def running(name: str) -> psutil.Process | None:
    """The process of an owner; None for one that is dead, hidden, or of another host."""
    pid, began = _here(name)
    try:
        return psutil.Process(pid) if pid and start(pid) == began else None
    except psutil.Error:
        return None


def start(pid: int) -> str | None:
    """Start of a running process in hundredths of a second; None when there is none, or only its zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # On Linux psutil adds the boot time, which moves when somebody sets the clock; a start must not.
        return str(round(100 * (process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0))))
    except (psutil.Error, OSError):
        return UNKNOWN if _runs(pid) else None  # hidden from this user, or a system without /proc


def _here(name: str) -> tuple[int, str]:
    """Process id and start of an owner of this host; of any other the id is 0."""
    host, _, process = name.partition("-")
    pid, _, began = process.partition("-")
    return (int(pid), began) if host == _host() and pid.isdigit() else (0, began)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@functools.cache
def _host() -> str:
    """Digest of what makes process ids comparable: host name, boot, and process namespace (of a container)."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [platform.node(), boot.read_text() if boot.exists() else ""]
    parts.append(str(namespace.readlink()) if namespace.is_symlink() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
