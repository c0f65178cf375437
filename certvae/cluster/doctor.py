"""Checks whether this machine, or every node of a cluster, is fit for a long run. It changes nothing.

certvae doctor --store DIR
certvae doctor --store DIR --address 127.0.0.1:6390        every node of a cluster, one by one
"""

import os
import platform
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from certvae import machine
from certvae.errors import Fault
from certvae.installed import version
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt
from certvae.store.layout import STORE, is_safe, read_identity
from certvae.terminal import UI_PORT, certvae, check_home

LOCK = Path(__file__).parents[2] / "requirements.lock"
PORTS = {UI_PORT: "the MLflow UI", 6390: "the head of a cluster", 8265: "Ray's dashboard"}
SKEW_SECONDS = 5.0
LEAST_SHARED = 10**9  # bytes; Ray wants a third of the memory, and warns of less
PYTHONS = (3, 11), (3, 14)
"""The oldest and the newest that the lock has packages for."""
NODE_SECONDS = 180.0  # for all nodes to answer: torch is imported on each
HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""What makes GPUs invisible to a process."""
NETWORKED = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "ceph", "9p")

Verdict = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it. A note is no reason not to start."""

    what: str
    verdict: Verdict
    said: str
    remedy: str = ""
    host: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<5}{self.what:<10}{self.host and self.host + ': '}{self.said}"
        return f"{line}\n     -> {self.remedy}" if self.remedy else line


def examine(store: Path, needed_gb: float = 10.0) -> list[Finding]:
    """Everything that can be told from this machine alone.

    Args:
        store: the folder of results; it need not be there yet.
        needed_gb: free space that a run wants, in gigabytes.
    """
    return [
        *system(),
        *versions(LOCK),
        *cores(),
        *shared_memory(),
        *home(),
        *gpus(machine.gpus(), seen_gpus()),
        *disk(store, needed_gb),
        *store_folder(store),
        *clock(store),
        *token(),
        *(finding for port, of in PORTS.items() for finding in free_port(port, of)),
    ]


def cluster(address: str, store: Path, needed_gb: float = 10.0) -> list[Finding]:
    """The findings of every node, each with its host, and those of all of them together.

    Raises:
        RayFault: the cluster cannot be joined, or a node does not answer.
    """
    from certvae.cluster import join  # noqa: PLC0415  (ray: seconds that one machine need not wait)

    with join.driver_of(address):
        before = time.time()
        answers = join.ask(join.alive(), _on_node, str(store.absolute()), needed_gb, seconds=NODE_SECONDS)
        after = time.time()
    findings = [replace(finding, host=host) for host, _, found in answers for finding in found]
    return findings + together([(host, there) for host, there, _ in answers], before, after)


def together(clocks: Sequence[tuple[str, float]], before: float, after: float) -> list[Finding]:
    """Compares the clocks of nodes, in seconds, with the time between asking and hearing."""
    odd = [host for host, there in clocks if not before - SKEW_SECONDS <= there <= after + SKEW_SECONDS]
    if odd:
        said = f"{', '.join(odd)} differ from this machine by more than {SKEW_SECONDS:.0f} s"
        return [Finding("clocks", "bad", said, "set them by NTP (`timedatectl set-ntp true`)")]
    return [Finding("clocks", "ok", f"{len(clocks)} nodes agree")]


def system(name: str = "", processor: str = "") -> Iterator[Finding]:
    """Checks the operating system and processor: are they among those that the tests run on?

    Args:
        name, processor: as Python calls those of another machine.
    """
    name, processor = name or platform.system(), processor or platform.machine()
    said = f"{name} on {processor}"
    match name, processor:
        case "Linux", "x86_64" | "aarch64":
            yield Finding("system", "ok", said)
        case "Darwin", _:
            yield Finding("system", "note", said, "one host alone: several need Linux")
        case _:
            yield Finding("system", "bad", said, "use Linux on x86-64 or arm64; on Windows its subsystem WSL")


def cores() -> Iterator[Finding]:
    """Cores and memory that a run may use, which in a container or a batch job are not those of the machine."""
    mine, there = machine.cores(), os.cpu_count() or 1
    memory, most = machine.memory(), psutil.virtual_memory().total
    said = f"{mine} of {there} cores, {memory / 1e9:.1f} of {most / 1e9:.1f} GB of memory"
    if mine < there or memory < most:
        yield Finding("cores", "note", f"{said}: a cgroup, or the affinity of this process, allows no more")
    else:
        yield Finding("cores", "ok", said)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108 - it is looked at
    """Where Ray keeps what its processes share; a container has 64 MB of it unless it is told otherwise."""
    if not folder.is_dir():
        yield Finding("shm", "ok", f"there is no {folder} on this system, and Ray uses a file")
        return
    size = shutil.disk_usage(folder).total
    said = f"{size / 1e9:.2f} GB at {folder}"
    if size < LEAST_SHARED:
        yield Finding("shm", "note", f"{said}: Ray uses a slower file", "start the container with --shm-size=2g")
    else:
        yield Finding("shm", "ok", said)


def home() -> Iterator[Finding]:
    """Checks the home folder: can libraries keep their settings and caches there?"""
    try:
        check_home()
    except Fault as fault:
        yield Finding("home", "bad", fault.what, fault.remedy)
        return
    folder = Path.home()
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Finding("home", "ok", f"{folder} can be written")
    except OSError as error:
        remedy = "set HOME to a folder that you can write: matplotlib and torch keep settings there"
        yield Finding("home", "note", f"{folder} cannot be written ({error.strerror})", remedy)


def versions(lock: Path) -> Iterator[Finding]:
    """Compares Python and every installed package with the lock."""
    oldest, newest = PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        wanted = " to ".join(".".join(map(str, python)) for python in PYTHONS)
        yield Finding("python", "bad", platform.python_version(), f"use Python {wanted}")
    else:
        yield Finding("python", "ok", platform.python_version())
    if not lock.exists():
        yield Finding("versions", "note", "there is no requirements.lock beside the program", "install from a checkout")
        return
    pinned: dict[str, set[str]] = {}  # several for a name, where Pythons or systems differ
    for name, pin in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE):
        pinned.setdefault(name, set()).add(pin)
    here = {name: found for name in pinned if (found := version(name))}
    odd = [
        f"{name} {found}, not {' or '.join(sorted(pinned[name]))}"
        for name, found in sorted(here.items())
        if found not in pinned[name]
    ]
    if odd:
        remedy = "install them hash for hash: `pip install --require-hashes -r requirements.lock`"
        yield Finding("versions", "bad", f"{len(odd)} differ from the lock: {'; '.join(odd[:4])}", remedy)
    else:
        yield Finding("versions", "ok", f"{len(here)} packages as in the lock")


def gpus(listed: Sequence[str], seen: Sequence[str]) -> Iterator[Finding]:
    """Compares the GPUs that the driver lists with those that torch computes on.

    Args:
        listed: what the driver says of each.
        seen: device names in torch.
    """
    chosen = {name: value for name in HIDING if (value := os.environ.get(name)) is not None}
    said = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
    if not listed and not seen:
        yield Finding("gpus", "note", "none: cells run on CPU cores", "")
    elif not seen and chosen:
        yield Finding(
            "gpus", "note", f"{len(listed)} hidden by {said}: cells run on CPUs", f"unset {next(iter(chosen))}"
        )
    elif len(seen) < len(listed) and not chosen:
        remedy = "update the driver (torch says what it needs: `python -c 'import torch; torch.zeros(1).cuda()'`)"
        yield Finding("gpus", "bad", f"the driver lists {len(listed)}, torch computes on {len(seen)}", remedy)
    elif len(set(seen)) > 1:
        remedy = "one run uses one model: choose with CUDA_VISIBLE_DEVICES"
        yield Finding("gpus", "bad", f"different models: {', '.join(sorted(set(seen)))}", remedy)
    else:
        hidden = f", {len(listed) - len(seen)} hidden by {said}" if len(seen) < len(listed) else ""
        yield Finding("gpus", "ok", f"{len(seen)} x {seen[0]}, computing{hidden}")


def seen_gpus() -> list[str]:
    """Names of the GPUs on which torch adds two numbers."""
    import torch  # noqa: PLC0415  (seconds, which other commands need not wait)

    found = []
    for index in range(torch.cuda.device_count()):
        try:
            if float((torch.ones(2, device=f"cuda:{index}") * 2).sum()) == 4.0:
                found.append(torch.cuda.get_device_name(index))
        except RuntimeError:
            continue
    return found


def disk(store: Path, needed_gb: float) -> Iterator[Finding]:
    """Free space where the store is, or will be."""
    place = _nearest(store)
    free = shutil.disk_usage(place).free / 1e9
    said = f"{free:.0f} GB free at {place}"
    if free < needed_gb:
        yield Finding("disk", "bad", said, f"free {needed_gb:.0f} GB, or choose another --store; see `--plan`")
    else:
        yield Finding("disk", "ok", said)


def store_folder(store: Path) -> Iterator[Finding]:
    """Checks the folder of the store: safe, writable, and on what kind of file system?"""
    store = store.absolute()
    place = _nearest(store)
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding("store", "bad", f"{place} cannot be written by this user", "choose another --store, or its owner")
        return
    kind = _file_system(place)
    if kind.startswith(NETWORKED):
        said = f"{place} is on a shared file system ({kind})"
        yield Finding("store", "note", said, "needed by several hosts; on one host a local disk is faster")
    if place != store:
        yield Finding("store", "ok", f"{store} is not there yet and can be made")
    elif not is_safe(store, os.geteuid()):
        yield Finding("store", "bad", f"others own it or can write it: {store}", f"run `chmod go-w {store}`")
    else:
        yield _identity(store)


def clock(store: Path) -> Iterator[Finding]:
    """Compares this clock with that of the file system, which a file server keeps."""
    place = _nearest(store)
    probe = place / f".certvae-{uuid.uuid4().hex}"
    try:
        probe.touch(mode=0o600)
        skew = probe.stat().st_mtime - time.time()
        probe.unlink()
    except OSError as error:
        yield Finding("clock", "note", f"no file can be made at {place} ({error.strerror})")
        return
    if abs(skew) > SKEW_SECONDS:
        said = f"the file system of {place} is {skew:+.0f} s away from this machine"
        yield Finding("clock", "bad", said, "set both by NTP (`timedatectl set-ntp true`)")
    else:
        yield Finding("clock", "ok", "this machine and the store's file system agree")


def token() -> Iterator[Finding]:
    """Checks that the secret of a Ray cluster is readable by this user alone."""
    names = (os.environ.get("RAY_AUTH_TOKEN_PATH"), "~/.certvae/token", "~/.ray/auth_token")
    paths = (Path(os.path.expanduser(name)) for name in names if name)  # noqa: PTH111 - leaves ~ where there is no home
    found = [path for path in paths if os.path.exists(path)]  # noqa: PTH110 - in a home that this user may not enter
    if not found:
        yield Finding("token", "ok", "none here: runs on this machine make their own")
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("token", "bad", f"{path} has mode {mode:04o}: others can read it", f"run `chmod 600 {path}`")
        else:
            yield Finding("token", "ok", f"{path} is private")


def free_port(port: int, of: str) -> Iterator[Finding]:
    """Checks a port: if it cannot be listened on, something has it, perhaps a cluster of ours."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            remedy = "if it is not yours, choose another with --port" if port == UI_PORT else "fine while yours runs"
            yield Finding("ports", "note", f"{port}, for {of}, is in use", remedy)
        else:
            yield Finding("ports", "ok", f"{port}, for {of}, is free")


def verdict(findings: Iterable[Finding]) -> int:
    """Exit code: 0 fit, 1 not."""
    return int(any(finding.verdict == "bad" for finding in findings))


def _on_node(store: str, needed_gb: float) -> tuple[str, float, list[Finding]]:
    findings = [finding for finding in examine(Path(store), needed_gb) if finding.what != "ports"]
    return platform.node(), time.time(), findings


def _identity(store: Path) -> Finding:
    try:
        identity = read_identity(Disk(store))
    except Corrupt as damage:
        repair = certvae("store", "repair", "--store", str(store.absolute()))
        return Finding("store", "bad", f"{STORE} is damaged: {damage.reason}", f"run `{repair}`")
    except Fault as fault:
        return Finding("store", "bad", fault.what, fault.remedy)
    if identity is None and any(store.iterdir()):
        return Finding("store", "bad", f"{store} is no store and not empty", "choose another or a new folder")
    return Finding("store", "ok", f"{store} is {'empty' if identity is None else f'store {identity.id[:8]}'}, writable")


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _file_system(path: Path) -> str:
    """Its kind, as the kernel names it; nothing where it does not tell."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    fields = [line.split() for line in mounts.read_text().splitlines()]
    above = [(len(at), kind) for _, at, kind, *_ in fields if path.is_relative_to(at.replace("\\040", " "))]
    return max(above)[1] if above else ""
