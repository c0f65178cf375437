"""Hidden siblings in which a file or folder is written before it is renamed to its place.

A killed process leaves its draft behind, and it may be gigabytes. The name of a draft says whose it is, so whoever
writes the same target next removes the drafts of the dead, and of nobody else.
"""

import contextlib
import shutil
import uuid
from pathlib import Path

from certvae.owner import is_dead, owner


def draft_of(target: Path) -> Path:
    """A fresh hidden name beside the target, on the same file system."""
    return target.with_name(f".{target.name}.{owner()}.{uuid.uuid4().hex}")


def remove_dead_drafts(target: Path) -> None:
    """Removes what killed processes of this host left of the target."""
    prefix = f".{target.name}."
    for draft in target.parent.iterdir():
        if draft.name.startswith(prefix) and is_dead(draft.name.removeprefix(prefix).partition(".")[0]):
            remove(draft)


def remove(draft: Path) -> None:
    """Removes a draft that is there; what cannot be removed is left for the next writer."""
    with contextlib.suppress(OSError):
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink()
