"""Starts a Ray for one run: its own folder and token, on this machine alone, and nothing left afterwards.

A driver that is killed cannot tidy up, so whoever comes next removes the folders whose driver is dead.
"""

import functools
import logging
import math
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import ray
from ray._private import ray_constants  # no public call makes a Ray of one host listen on that host alone

from certvae.cluster import SETTLED
from certvae.cluster.guard import nobody_left
from certvae.cluster.join import check_free
from certvae.cluster.joined import Pool
from certvae.cluster.shutdown import end_ray
from certvae.cluster.slots import Slots
from certvae.cluster.watch import quiet, stoppable
from certvae.errors import Fault, RayFault
from certvae.fingerprint import ASKED, KERNELS
from certvae.installed import remedy
from certvae.store.process import is_dead, owner
from certvae.terminal import variables_kept, variables_unset

PREFIX = "certvae-"
OWNER = "owner"  # names who made a folder; a path that held it would be too long for Ray's sockets
SHARED = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects if it can
LOOPBACK = "127.0.0.1"
LOOPBACK_SECONDS = 5.0
VITAL = ("gcs_server", "raylet")
LOOK_SECONDS = 0.1
SOCKET = 103 if sys.platform == "darwin" else 107
"""The longest path of a socket, in bytes."""
BELOW = len("/certvae-12345678/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""What Ray needs of that below the folder that it is given."""
CAUSES = (
    (r"AF_UNIX|socket.*too long", "the path of its sockets is too long", "set TMPDIR to a short folder"),
    (
        r"Read-only file system|EROFS",
        "a folder that Ray writes to is read-only",
        "set TMPDIR to a folder that you can write, or run without Ray: --workers 0",
    ),
    (
        r"surrogates not allowed",
        "Ray takes names in UTF-8 alone, and one in the command is in another encoding",
        "rename it, or run without Ray: --workers 0",
    ),
    (r"No space left|ENOSPC|disk.*full", "a disk is full", "free space in the scratch folder and in /dev/shm"),
    (
        r"Cannot allocate memory|MemoryError|Resource temporarily unavailable|can't start new thread|std::bad_alloc",
        "memory, or the number of processes that this user may have, is used up",
        "give fewer --workers, or raise the limit (`ulimit -u`, the memory of the container)",
    ),
    (r"Permission denied|Operation not permitted", "this user may not write there", "set TMPDIR to your own folder"),
    (
        r"timed out|failed to start|did not start",
        "the machine is overloaded",
        "run the same command when it is less busy",
    ),
)
"""Words of Ray or the system -> what is wrong, and what to do."""
WARNINGS = "PYTHONWARNINGS"
"""Where it says that warnings are errors, processes of Ray end as they begin, of a warning of their own."""


@contextmanager
def _inherited() -> Iterator[None]:
    """What processes of Ray inherit: no warnings as errors, and kernels as this process began with."""
    with variables_unset(WARNINGS, *KERNELS):  # code of a user may have set them since
        os.environ.update(ASKED)
        yield


@contextmanager
def own_ray(slots: Slots) -> Iterator[Pool]:
    """Starts a Ray on this machine that ends with the block, and watches it.

    Raises:
        RayFault: it did not come up, or, later, it was lost; or this process has another one.
    """
    check_free()
    if not SETTLED:
        raise _came_first()
    _check_loopback()
    scratch = scratch_folder()
    try:
        with quiet(), stoppable() as stop, private_token(scratch), on_loopback():
            with _inherited():
                start(slots, scratch / "ray")
            with nobody_left():
                try:
                    with watched(stop), stop.on_sigterm():
                        yield Pool(scratch / "tune", slots, lambda: slots.count)
                finally:
                    end_ray()
    finally:
        end_ray()
        shutil.rmtree(scratch, ignore_errors=True)


def _check_loopback() -> None:
    """Ray would wait for minutes for an address that is not up, as in a namespace of its own or a host of IPv6 alone.

    Raises:
        RayFault: it is not.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=LOOPBACK_SECONDS).close()
    except OSError as error:
        raise RayFault(
            f"the processes of a Ray talk over {LOOPBACK}, and it does not answer: {error.strerror or error}",
            "bring it up (`ip link set lo up`), or run without Ray: --workers 0",
            where="this machine",
        ) from error


def scratch_folder() -> Path:
    """A private folder for this run, below the first place whose path leaves room for Ray's sockets.

    Raises:
        RayFault: no such place can be written.
    """
    places = short_places()
    for parent in places:
        with suppress(OSError):
            remove_abandoned(parent)
            scratch = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            (scratch / OWNER).write_text(owner())
            return scratch
    usual = _usual()
    raise RayFault(
        f"no folder for Ray's sockets: the path of TMPDIR has {len(os.fsencode(usual))} characters, at most "
        f"{SOCKET - BELOW} leave room for a socket of {SOCKET}, and {', '.join(map(str, places)) or 'no other place'} "
        "cannot be written",
        "set TMPDIR to a short folder that you can write, such as one below /tmp",
        where=str(usual),
        cause="the system bounds the path of a socket",
    )


def short_places() -> list[Path]:
    """Where Ray's sockets may lie: the usual temporary folder first, if its path is short enough."""
    named = (_usual(), "/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", Path.home() / ".certvae")  # noqa: S108
    short = [Path(one) for one in named if one and len(os.fsencode(one)) + BELOW <= SOCKET]
    # Of a home that this user may not enter, as that of root in a container, `Path.is_dir` raises.
    return [place for place in dict.fromkeys(short) if os.path.isdir(place)]  # noqa: PTH112


def _usual() -> Path:
    try:
        return Path(tempfile.gettempdir()).absolute()
    except FileNotFoundError:  # none of the usual ones can be written
        return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def remove_abandoned(parent: Path) -> None:
    """Removes scratch folders of this user whose driver was killed on this machine."""
    for note in parent.glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError):  # another run may be at it too
            if note.stat().st_uid == os.geteuid() and is_dead(note.read_text()):
                shutil.rmtree(note.parent, ignore_errors=True)


@contextmanager
def watched(stop: Callable[[Fault], None]) -> Iterator[None]:
    """Watches the processes without which Ray cannot work, and ends the run when one of them has ended.

    They are children of this process, so they are looked at and not asked: Ray ends a driver with a raw line within
    seconds of losing one of them.
    """
    over = threading.Event()
    vital = [child for child in psutil.Process().children() if child.name() in VITAL]

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            if not all(map(_lives, vital)):
                stop(lost())
                return

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def on_loopback() -> Iterator[None]:
    """Lets a Ray that is started within the block listen on this host alone.

    Ray takes 127.0.0.1 for a mistake and listens everywhere, unless it is told that there are no clusters here.
    """
    earlier = ray_constants.ENABLE_RAY_CLUSTER
    with variables_kept(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR):
        os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = earlier


def start(slots: Slots, folder: Path) -> None:
    """A Ray on this machine that ends with this process; a busy machine may need a second try.

    Raises:
        RayFault: it did not come up, or what came up of it the first time does not end.
    """
    shared = {} if os.access(SHARED, os.W_OK) else {"_plasma_directory": str(folder.parent)}
    attempt = partial(
        ray.init,
        **shared,
        address="local",
        num_cpus=max(1, math.ceil(slots.count * slots.cpus)),  # for what was rounded away a lane would wait for ever
        num_gpus=math.ceil(slots.count * slots.gpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
        _temp_dir=str(folder),
    )
    try:
        attempt()
    except Exception as first:  # Ray raises bare ones, after half a minute that cannot be set
        if not end_ray():
            raise _not_started(folder, first, "; then run it in a new Python") from first
        try:
            attempt()
        except Exception as error:
            raise _not_started(folder, error) from error


@functools.cache
def secret() -> str:
    """The token of every Ray that this process starts: Ray reads the one of a process once."""
    return os.urandom(32).hex()


@contextmanager
def _asked_anew() -> Iterator[None]:
    """Ray keeps the first token that a process has read: within the block it would keep that of an earlier Ray of the
    user's own program, and afterwards ours. No public call forgets it.

    Raises:
        RayFault: this Ray keeps it elsewhere.
    """
    try:
        from ray._raylet import AuthenticationTokenLoader  # noqa: PLC0415  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise RayFault(
            f"Ray {ray.__version__} keeps the token of a process where this version of certvae does not look",
            f"for the Ray that it knows {remedy('ray')}, or run without Ray: --workers 0",
            where="ray._raylet",
        ) from error
    keeper = AuthenticationTokenLoader.instance()
    keeper.reset_cache()
    try:
        yield
    finally:
        keeper.reset_cache()


@contextmanager
def private_token(scratch: Path) -> Iterator[None]:
    """A token of this process alone, readable by this user alone: nobody else's jobs, and none of ours elsewhere."""
    token = scratch / "token"
    token.touch(mode=0o600)
    token.write_text(secret())
    with variables_kept("RAY_AUTH_TOKEN_PATH"), _asked_anew():
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        yield


def _came_first() -> RayFault:
    return RayFault(
        "Ray was imported before certvae, and has read its settings: it would start without a token, open to others",
        "import certvae.engine first, or set RAY_AUTH_MODE=token for the whole process",
        where="this process",
        cause="Ray reads its environment once, when it is imported",
    )


def _not_started(folder: Path, error: Exception, where_again: str = "") -> RayFault:
    """Ray itself says little: why it did not start stands in the logs of its processes, which go with the folder."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    logged = _complaints(folder)
    words = f"{said}\n{logged}"
    cause, remedy = next(
        ((cause, remedy) for pattern, cause, remedy in CAUSES if re.search(pattern, words, re.IGNORECASE)),
        ("not known to this program; the words are Ray's own", "mend what they name, and run the same command again"),
    )
    return RayFault(
        f"Ray did not start: {said}" + (f"; its log ends with: {logged}" if logged else ""),
        f"{remedy}{where_again}; nothing is lost",
        where=f"this machine, scratch folder {folder}",
        cause=cause,
    )


def _complaints(folder: Path) -> str:
    """The last line of an error in the logs of Ray's processes."""
    found = ""
    for path in sorted(folder.glob("session_2*/logs/*.[oe][ur][tr]")):
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        found = next((line for line in reversed(lines) if re.search(r"\b[EF] |rror|FATAL", line)), found)
    return found[:300]


def lost() -> RayFault:
    """The fault for a Ray of our own that has ended while cells ran."""
    return RayFault(
        "the Ray of this run has ended; no result is lost",
        "run the same command again, with fewer --workers if memory ran out: finished stages are in the store",
        where="this machine",
        cause="its processes were killed, most often because memory ran out",
    )
