"""A Ray of one run alone: a folder and a token of its own, and nothing of it left afterwards.

A driver that is killed cannot tidy up, so whoever comes next removes the folders whose driver is dead.
"""

import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import ray

from certvae.cluster.joined import Room
from certvae.cluster.slots import Slots
from certvae.errors import RayFault
from certvae.store.process import is_dead, owner

PREFIX = "certvae-"
OWNER = "owner"  # names who made a folder; a path that held it would be too long for Ray's sockets


@contextmanager
def own_ray(slots: Slots) -> Iterator[Room]:
    """Starts a Ray on this machine that ends with the block.

    Raises:
        RayFault: it did not come up.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    scratch = Path(tempfile.mkdtemp(prefix=PREFIX))
    (scratch / OWNER).write_text(owner())
    try:
        with private_token(scratch):
            start(slots, scratch / "ray")
            yield Room(scratch / "tune", slots, lambda: slots.count)
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Removes scratch folders of this user whose driver was killed on this machine."""
    for note in parent.glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError):  # another run may be at it too
            if note.stat().st_uid == os.geteuid() and is_dead(note.read_text()):
                shutil.rmtree(note.parent, ignore_errors=True)


def start(slots: Slots, folder: Path) -> None:
    """A Ray on this machine that ends with this process; a busy machine may need a second try.

    Raises:
        RayFault: it did not come up.
    """
    attempt = partial(
        ray.init,
        address="local",
        num_cpus=max(1, round(slots.count * slots.cpus)),
        num_gpus=round(slots.count * slots.gpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )
    try:
        attempt()
    except Exception:  # Ray raises bare ones, after half a minute that cannot be set
        ray.shutdown()
        try:
            attempt()
        except Exception as error:
            raise _not_started(folder, error) from error


@functools.cache
def secret() -> str:
    """The token of every Ray that this process starts: Ray reads the one of a process once."""
    return os.urandom(32).hex()


@contextmanager
def private_token(scratch: Path) -> Iterator[None]:
    """A token of this process alone, readable by this user alone: nobody else's jobs, and none of ours elsewhere."""
    token = scratch / "token"
    token.touch(mode=0o600)
    token.write_text(secret())
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]


def _not_started(folder: Path, error: Exception) -> RayFault:
    return RayFault(
        2,
        f"Ray did not start: {str(error).splitlines()[0]}",
        where=f"this machine, scratch folder {folder}",
        cause="the machine is overloaded, or out of memory, disk or processes",
        remedy="run the same command again when it is less busy; nothing is lost",
    )
