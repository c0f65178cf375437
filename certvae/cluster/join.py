"""Joins a Ray cluster that is there already, and asks all its nodes the same question."""

import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from certvae.cluster.shutdown import end_ray, hangs
from certvae.errors import RayFault

KNOCK_SECONDS = 10.0
Node = Mapping[str, Any]
"""What Ray says of a node."""


@contextmanager
def driver_of(address: str) -> Iterator[None]:
    """Makes this process a driver of a cluster for the length of the block; the cluster goes on afterwards.

    Args:
        address: host:port of its head, or auto.

    Raises:
        RayFault: it cannot be joined, or this process is a driver already.
    """
    check_free()
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises connection, authentication, version and bare errors
        raise _refused(address, error) from error
    try:
        yield
    finally:
        end_ray()


def check_free() -> None:
    """Leaves a Ray alone that the caller's own program has started or joined: a process is a driver of one only.

    Raises:
        RayFault: there is one, or an earlier one of ours is still ending.
    """
    if hangs():
        raise RayFault(
            "the Ray of an earlier run in this process has not ended yet, and would take the next one along",
            "run the same again in a new Python (in a notebook, restart its kernel), or without Ray: workers=0",
            where="this process",
        )
    if ray.is_initialized():
        raise RayFault(
            "a process is a driver of one Ray, and this one is already",
            "call ray.shutdown() before, run the study in a process of its own, or without Ray: workers=0",
            where="this process",
            cause="its program called ray.init, or used Ray, which calls it",
        )


def alive() -> list[Node]:
    """The nodes that Ray believes to be there."""
    return [node for node in ray.nodes() if node["Alive"]]


def ask(nodes: Iterable[Node], question: Callable[..., Any], *given: Any, seconds: float) -> list[Any]:
    """What `question(*given)` says on each of these nodes, all asked at once.

    Raises:
        RayFault: some do not answer within so many seconds.
    """
    asked = {_named(node): _on(node, question).remote(*given) for node in nodes}
    if not asked:
        return []  # where there is none, `ray.get` would start a Ray of its own
    answered, silent = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
    if silent:
        names = ", ".join(name for name, answer in asked.items() if answer in silent)
        raise RayFault(
            f"no answer within {seconds:.0f} s from {names}",
            "look at them with `certvae doctor` there, or leave them out, and run the command again",
            where="the nodes of the cluster",
        )
    return ray.get(answered)


def _knock(address: str) -> None:
    """Returns at once when somebody listens at host:port; Ray itself would wait for minutes for a head that is gone."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _named(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})"


def _on(node: Node, question: Callable[..., Any]) -> Any:
    there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)  # Ray's own annotation leaves it out
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(question)


def _refused(address: str, error: Exception) -> RayFault:
    return RayFault(
        f"the cluster cannot be joined: {(str(error) or type(error).__name__).strip().splitlines()[0]}",
        "run the same command on the head: `~/certvae/certvae/cluster/node.sh python ...` has all of these",
        where=f"--address {address}",
    )
