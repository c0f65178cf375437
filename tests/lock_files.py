"""Whether the key of a store is locked: asked without waiting, and without making the file."""

import fcntl
from pathlib import Path


def busy(store: Path, key: str) -> bool:
    """Whether somebody, this process included, holds the key at this moment."""
    try:
        with (store / "lock" / key).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
