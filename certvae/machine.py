"""Tells the cores, memory and GPUs of a machine, and what of them this process may use.

A container, a batch system or a user's slice limits processor time and memory by cgroups, of version 1 or 2, at any
level of their tree; Python and psutil look at the whole machine.
"""

import functools
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")


def cores() -> int:
    """CPU cores that this process may keep busy, at least one; a share of a core counts as one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([there, *_quotas()])))


def memory() -> int:
    """Bytes of memory that this process may fill, together with all others under the same limit."""
    limits = (*_read("", "memory.max"), *_read("memory", "memory.limit_in_bytes"))
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdigit())])


def cpu() -> str:
    """The model of the CPU, as the kernel names it; its architecture where it does not."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """What the NVIDIA driver lists, with its version; nothing where there is none."""
    return [f"{name}, {memory}, driver {version}" for name, memory, version in _listed()]


@functools.cache
def driver() -> str:
    """Version of the NVIDIA driver, or `unknown` where its `nvidia-smi` is not at hand."""
    return next((version for _, _, version in _listed()), "unknown")


def _listed() -> list[tuple[str, ...]]:
    """Name, memory and driver of every GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no program for this machine, or a driver that hangs
        return []
    rows = (tuple(line.split(", ")) for line in done.stdout.splitlines() if done.returncode == 0)
    return [row for row in rows if len(row) == 3]


def _quotas() -> Iterator[float]:
    """Cores' worth of processor time, by each limit that there is."""
    for text in _read("", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    for quota, period in zip(_read("cpu", "cpu.cfs_quota_us"), _read("cpu", "cpu.cfs_period_us"), strict=False):
        if quota.isdigit() and period.isdigit():  # -1: no limit
            yield int(quota) / int(period)


def _read(controller: str, name: str) -> Iterator[str]:
    """What a file says in the cgroup of this process and in all above it; nothing where there is none."""
    for folder in _folders(controller):
        try:
            yield (folder / name).read_text().strip()
        except OSError:
            continue


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup in the tree of one controller, from its own up; version 2 has one tree."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return  # no Linux
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controller in controllers.split(","):
            trees = (CGROUPS / (tree or "unified") for tree in (controllers, controller))
            root = next((tree for tree in trees if tree.is_dir()), CGROUPS)
            own = root / place.strip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))
