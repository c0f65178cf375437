"""Watches a cluster while cells run: nodes that come and go, and the head, without which nothing can be told.

Ray repeats the cells of a lost node by itself, and says nothing. Without its head it waits a minute and then ends the
driver in the middle of whatever it does; here the run ends before that, with the reason.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from ray.exceptions import RayError

from certvae.cluster.join import Node, alive
from certvae.cluster.nodes import Facts, ask, check
from certvae.errors import Fault, RayFault
from certvae.terminal import handled

SECONDS = 2.0  # between two looks
LAST_LOOK_SECONDS = 5.0  # for a look that has begun; with the head gone it may not end
PATIENCE = 5  # looks in a row at a head that does not answer; Ray's own patience is 60 s
CLEANUP_SECONDS = 20.0  # for a stopped run to clean up; with its head gone, Ray may wait for ever
ASKED_SECONDS = 0.2  # the same after SIGTERM: Ray, where it was sent that too, aborts its driver within a second or two

logger = logging.getLogger(__name__)


class Stopped(BaseException):
    """A run is ended from outside of its main thread. No `Exception`: Ray Tune would take it for its own."""

    def __init__(self, fault: Fault):
        self.fault = fault


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what Ray Tune logs of a lost worker: `Recovered` says it in a line; its traceback is in the store."""
    log = logging.getLogger("ray.tune.execution.tune_controller")
    earlier = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(earlier)


class Stop:
    """Ends a run with a fault, from any thread.

    Only the main thread can be interrupted. A run in another one is ended where it asks Ray next, or with the process:
    without its head Ray would end that a minute later, and say nothing.
    """

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.over = threading.Event()
        self._asked = False
        self._on_main_thread = threading.current_thread() is threading.main_thread()

    def __call__(self, fault: Fault) -> None:
        """Ends the run, or the process where the run does not end."""
        if self.fault or self.over.is_set():
            return
        self.fault = self.told(fault)
        if self._on_main_thread:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        if not self.over.wait(ASKED_SECONDS if self._asked else CLEANUP_SECONDS):
            print(self.fault, file=sys.stderr, flush=True)
            os._exit(self.fault.exit_code)

    def told(self, fault: Fault) -> Fault:
        """What to say of an end: whoever sends SIGTERM to all processes of a run ends its Ray as well."""
        return _ended() if self._asked else fault

    def interrupt(self, *_: object) -> None:
        """Handles SIGUSR2, which is sent once there is a fault."""
        if self.fault:
            raise Stopped(self.fault)

    def on_sigterm(self) -> AbstractContextManager[None]:
        """Within the block SIGTERM ends the run as Ctrl-C does; enter it after Ray, whose start takes it over."""

        def end(*_: object) -> None:
            self._asked = True
            os.kill(os.getpid(), signal.SIGINT)

        return handled(signal.SIGTERM, end)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Yields what ends the block with a fault, from any thread.

    Raises:
        Fault: the one that was given, or what Ray Tune has given up on.
    """
    stop = Stop()
    try:
        # Ray sets a handler of its own when it starts, and when it ends takes Python's away, unknown to Python.
        as_before = handled(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
        with handled(signal.SIGUSR2, stop.interrupt), as_before:
            yield stop
    except Stopped as stopped:
        raise stopped.fault from None
    except Exception as error:
        if stop.fault:  # what Ray says of a head that is lost
            raise stop.fault from error
        if isinstance(error.__cause__, RayError):  # as Ray Tune hands on what it does not foresee
            raise stop.told(given_up(error.__cause__)) from error
        raise
    finally:
        stop.over.set()


def _ended() -> RayFault:
    """As systemd, Slurm and `timeout` end all processes of a run: Ray is gone before it could be told to stop."""
    return RayFault(
        "the run and its Ray were asked to end; no result is lost",
        "run the same command again to go on: finished stages are in the store",
        where="this machine",
        cause="SIGTERM",
    )


class Watch:
    """Follows the nodes of a cluster while cells run. Use it as a context.

    Args:
        head: address of the head, as host:port.
        expected: what every node must be; one that joins and is not ends the run.
        probe: path of the store's probe file.
        stop: ends the run with a fault.
    """

    def __init__(self, head: str, expected: Facts, probe: str, stop: Callable[[Fault], None]):
        self._head, self._expected, self._probe, self._stop = head, expected, probe, stop
        self._nodes = {node["NodeID"]: node for node in alive()}
        self._over, self._in_ray = threading.Event(), threading.Lock()
        looks = (self._look_at_head, self._look_at_nodes, self._keep_fresh)
        self._threads = [threading.Thread(target=self._repeat, args=(look,), daemon=True) for look in looks]
        self._unheard = 0

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Waits for a look that asks Ray, which would end this process if it was gone meanwhile; none begins after."""
        self._over.set()
        if self._in_ray.acquire(timeout=LAST_LOOK_SECONDS):
            self._in_ray.release()

    @property
    def nodes(self) -> Sequence[Node]:
        """Those that are there, as of the last look."""
        return list(self._nodes.values())

    def _repeat(self, look: Callable[[], None]) -> None:
        while not self._over.wait(SECONDS):
            look()

    def _look_at_head(self) -> None:
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=SECONDS).close()
            self._unheard = 0
        except OSError:
            self._unheard += 1
        if self._unheard == PATIENCE:
            self._over.set()
            self._stop(head_lost(self._head))

    def _look_at_nodes(self) -> None:
        try:
            with self._in_ray:
                if not self._over.is_set():
                    self._compare()
        except Fault as fault:
            self._over.set()
            self._stop(fault)

    def _compare(self) -> None:
        """Takes up nodes that came and went.

        Raises:
            Fault: one that came is not what every node must be.
        """
        found = {node["NodeID"]: node for node in alive()}
        gone = [self._nodes[name] for name in self._nodes.keys() - found.keys()]
        come = [found[name] for name in found.keys() - self._nodes.keys()]
        for node in gone:
            logger.warning("node %s lost: its cells start again on other nodes", node["NodeManagerHostname"])
        check(self._expected, ask(come, self._probe))
        for node in come:
            logger.warning("node %s joined: its slots are used from now on", node["NodeManagerHostname"])
        self._nodes = found

    def _keep_fresh(self) -> None:
        """A probe file of a week ago would be swept as what somebody left behind, and the scratch of this run too."""
        with suppress(OSError):
            os.utime(self._probe)


def given_up(error: RayError) -> RayFault:
    """The fault for what Ray Tune does not foresee: most often a worker that Ray ended because memory ran low."""
    return RayFault(
        f"Ray gave the run up: {(str(error).strip() or type(error).__name__).splitlines()[0]}; no result is lost",
        "run the same command again, with fewer --workers if memory ran low: finished stages are in the store",
        where="the pool",
    )


def head_lost(head: str) -> RayFault:
    """The fault for a cluster whose head does not answer any more."""
    return RayFault(
        f"the head of the cluster has not answered for {PATIENCE * SECONDS:.0f} s; no result is lost",
        "bring it up again with `ray up` and run the same command: finished stages are in the store",
        where=head,
    )
