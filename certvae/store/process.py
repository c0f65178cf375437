"""Owner of a temporary entry: host digest, process id, start of the process. It tells a dead owner from a busy one.

A process id alone is used again sooner or later; together with the start of the process it is not.
"""

import functools
import hashlib
import os
import platform
from pathlib import Path

_UNKNOWN_START = "0"


def owner() -> str:
    """Names this process: `<host>-<pid>-<start>`, lower-case letters, digits and hyphens."""
    pid = os.getpid()
    return f"{_host()}-{pid}-{_start(pid) or _UNKNOWN_START}"


def is_dead(name: str) -> bool:
    """True when the owner ran on this host and does not run any more; False for every other host."""
    host, _, process = name.partition("-")
    pid, _, start = process.partition("-")
    if host != _host() or not pid.isdigit():
        return False
    return _start(int(pid)) != start


@functools.cache
def _host() -> str:
    """Digest of what makes process ids comparable: host name, boot, and process namespace (of a container)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [platform.node(), boot.read_text() if boot.exists() else ""]
    parts.append(str(namespace.readlink()) if namespace.is_symlink() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start(pid: int) -> str | None:
    """Start of a running process in clock ticks since boot; None when there is none, or only its zombie."""
    if not Path("/proc/self/stat").exists():
        return _UNKNOWN_START if _runs(pid) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
