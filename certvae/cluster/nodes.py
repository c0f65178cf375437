"""What every node of a cluster must be before a cell starts on it: the same program, on the same store.

Ray compares its own version and Python's when a node joins. It does not compare what computes the numbers, and a folder
that is not shared would become a second store, silently.
"""

import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from certvae import fingerprint
from certvae.cluster import join
from certvae.cluster.join import Node
from certvae.errors import RayFault
from certvae.installed import version
from certvae.store.process import owner
from certvae.store.program import program_digest

PACKAGES = ("ray", *fingerprint.PACKAGES)
SEPARATE = "its folder is another one"
SECONDS = 120.0  # a node that has not answered by then is lost or far too slow
SHORT = 12  # digits of a digest in a message
SHOWN = 4  # differences in a message


@dataclass(frozen=True)
class Facts:
    """What is compared between nodes."""

    host: str
    python: str
    packages: Mapping[str, str]
    program: str
    """Digest of the program's text."""
    store: str = ""
    """Why the store cannot be used from here, or nothing."""
    kernels: Mapping[str, str] = field(default_factory=dict)
    """Variables that choose how libraries compute."""


@contextmanager
def probe_file(store: str) -> Iterator[str]:
    """Keeps a file in the store for as long as a run lasts: a node that cannot see it sees another folder."""
    path = Path(store, "tmp", f"probe.{owner()}.{uuid.uuid4().hex}")
    path.touch(mode=0o600)
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def look(probe: str) -> Facts:
    """The facts of the host that this runs on.

    Args:
        probe: path of the store's probe file; an answer is written beside it and removed.
    """
    return Facts(
        host=platform.node(),
        python=platform.python_version(),
        packages={name: version(name) or "absent" for name in PACKAGES},
        program=program_digest()[:SHORT],
        store=_reach(Path(probe)),
        kernels=fingerprint.ASKED,
    )


def ask(nodes: Iterable[Node], probe: str) -> list[Facts]:
    """The facts of nodes, asked all at once.

    Raises:
        RayFault: some do not answer.
    """
    return join.ask(nodes, look, probe, seconds=SECONDS)


def check(expected: Facts, found: Sequence[Facts]) -> None:
    """Compares the facts of nodes with those of the driver.

    Raises:
        RayFault: one is odd: the message names its host and what differs.
    """
    odd = {facts.host: difference for facts in found if (difference := list(differences(expected, facts)))}
    if odd:
        told = "; ".join(f"{host}: {', '.join(how)}" for host, how in sorted(odd.items())[:SHOWN])
        raise RayFault(
            f"{len(odd)} of {len(found)} nodes differ from the driver on {expected.host}: {told}",
            "run `ray up` with the same cluster file again, and give --store a folder that every host sees",
            where="the nodes of the cluster",
        )


def differences(expected: Facts, facts: Facts) -> Iterator[str]:
    """In words, what is different on a node."""
    if facts.store:
        yield f"the store cannot be used: {facts.store}"
    if facts.python != expected.python:
        yield f"Python {facts.python}, not {expected.python}"
    for name, wanted in expected.packages.items():
        if facts.packages.get(name) != wanted:
            yield f"{name} {facts.packages.get(name)}, not {wanted}"
    if facts.program != expected.program:
        yield f"other source code ({facts.program}, not {expected.program})"
    if facts.kernels != expected.kernels:
        here, there = (", ".join(f"{name}={value}" for name, value in one.kernels.items()) for one in (expected, facts))
        yield f"kernels by {there or 'default'}, not by {here or 'default'}: set such variables alike on every host"


def no_store_here(probe: str) -> RayFault:
    """The fault of a worker that does not see the driver's store."""
    return RayFault(
        f"this node sees another folder under {Path(probe).parents[1]} than the driver",
        "mount it and run the same command again",
        where=platform.node(),
    )


def _reach(probe: Path) -> str:
    """Why this store cannot be used from here, or nothing."""
    answer = probe.with_name(f"answer.{owner()}.{uuid.uuid4().hex}")
    try:
        if not probe.exists():
            return f"{probe.parents[1]} on this host is {SEPARATE}" if probe.parents[1].exists() else "it is not there"
        answer.touch(mode=0o600)
        answer.unlink()
    except OSError as error:
        return f"{error.strerror} ({probe.parents[1]}, user {os.geteuid()})"
    return ""
