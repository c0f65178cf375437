"""Rows by split in a file that a user brings: an .npz with arrays `train`, `guard` and `certify`, named by its content.

`certvae.teachers.save_rows` writes one, with a digest of the image beside each row, `images_train` and so on: they are
compared with the images of a study, and are no part of the name.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from certvae.errors import DAMAGED, ConfigFault, of_numpy

PARTS = ("train", "guard", "certify")
DIGITS = 16
REMEDY = (
    "write it by certvae.teachers.save_rows(path, dataset, function), whose rows are those of a data set, or by "
    "numpy.savez(path, train=..., guard=..., certify=...) from rows that you have"
)


@functools.lru_cache(maxsize=4)
def read(path: Path, stamp: tuple[int, int] | None = None) -> Mapping[str, np.ndarray]:  # noqa: ARG001 - a part of the key
    """The arrays of a file: two dimensions, floating-point numbers, as many columns in each split.

    Args:
        stamp: `stamp_of(path)`, by which a file that was read before is known.

    Raises:
        ConfigFault: no such file, or another one.
    """
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise _refused(path, f"an .npz file of arrays is wanted, and this is one array {opened.shape}")
        with opened:
            found = {name: opened[name] for name in opened.files}
    except DAMAGED as error:
        raise _refused(path, f"an .npz file of arrays is wanted: {of_numpy(error)}") from error
    if missing := [part for part in PARTS if part not in found]:
        raise _refused(path, f"it has no array {', '.join(missing)}; it has {', '.join(found) or 'none'}")
    for part in PARTS:
        if found[part].ndim != 2 or found[part].dtype.kind != "f" or found[part].shape[1] != found["train"].shape[1]:
            shown = f"{found[part].shape} {found[part].dtype}"
            raise _refused(
                path, f"{part} must be (rows, {found['train'].shape[-1]}) floating-point numbers, got {shown}"
            )
    return found


@functools.lru_cache(maxsize=16)
def digest(path: Path, stamp: tuple[int, int] | None = None) -> str:
    """The first digits of the SHA-256 over the three arrays. Raises like `read`."""
    told = hashlib.sha256()
    for part in PARTS:
        array = np.ascontiguousarray(read(path, stamp)[part])
        told.update(f"{part} {array.shape} {array.dtype.str}\0".encode())
        told.update(array.data)
    return told.hexdigest()[:DIGITS]


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Time and size of a file, which change when it is written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def wanted(path: Path, content: str) -> Mapping[str, np.ndarray]:
    """The arrays of a file that a spec names by its content.

    Raises:
        ConfigFault: it holds others now, or is not here.
    """
    if (found := digest(path, stamp_of(path))) != content:
        raise ConfigFault(
            f"the rows of {path.name} are {found} here and now, and {content} is wanted",
            "bring the old file back, or start the command again: other rows are another result",
            where=str(path),
            cause="it was written again, or it is another file on this host",
        )
    return read(path, stamp_of(path))


def _refused(path: Path, what: str) -> ConfigFault:
    return ConfigFault(what, REMEDY, where=str(path))
