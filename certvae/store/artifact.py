"""Holds what a stage returns (`Content`) and how later stages refer to it (`Artifact`).

    Content     arrays and facts in memory          Artifact    (stage, key, digest, path): small, immutable, picklable

On disk a content is `arrays.safetensors` (no metadata: with two or more entries its bytes differ between processes)
and `facts.json` (canonical JSON). Never a pickle.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from certvae.canonical import canonical_json
from certvae.errors import NumberFault
from certvae.store.disk import Disk
from certvae.store.folders import Corrupt, Folder, give_up, open_folder

ARRAYS = "arrays.safetensors"
FACTS = "facts.json"
ARTIFACT = "artifact"
"""Names, in the inputs of a stage, one that another stage made."""
_KINDS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64", "complex64")


@dataclass(frozen=True)
class Content:
    """Result of a stage: arrays of any shape by name, and facts that are plain finite JSON."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def files(self) -> dict[str, bytes]:
        """The two files; equal contents give equal bytes.

        Raises:
            TypeError: for an array whose type has no place in a safetensors file.
            ConfigFault: for a fact that is not plain finite JSON.
        """
        arrays = {name: _stored(name, self.arrays[name]) for name in sorted(self.arrays)}
        return {ARRAYS: safetensors.numpy.save(arrays), FACTS: canonical_json(self.facts)}


@dataclass(frozen=True)
class Artifact:
    """A published result. Every access to `facts` or `arrays` reads the files again and verifies what it read.

    Both raise `Corrupt` when the bytes are not the published ones, after the object was moved to quarantine: inside
    `Store.call` and `Store.healing` the store then computes it again, elsewhere the next run does.
    """

    stage: str
    key: str
    digest: str
    """Content digest: what later stages put into their keys."""
    path: Path
    programs: tuple[str, ...] = field(default=(), compare=False)
    """Digests of the texts of the program that had a part in it, or in what it was made from."""
    reading: bool = field(default=False, compare=False)
    """Whether it lies in a store that is only read, in which nothing is moved."""

    def identity(self) -> dict[str, str]:
        """An artifact is named by what it holds, not by how it was made or where it lies."""
        return {ARTIFACT: self.digest}

    @property
    def facts(self) -> dict[str, Any]:
        """The facts; the arrays are not read."""
        return self._verified(read_facts)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, by name; the caller owns the memory."""
        return self._verified(read_arrays)

    def _verified(self, read: Any) -> Any:
        disk = Disk(self.path.parent.parent, reading=self.reading)
        try:
            folder = open_folder(disk, self.path)
            if folder is None:
                raise Corrupt(self.path, "it is gone")
            if folder.digest != self.digest:
                raise Corrupt(self.path, f"its content digest is {folder.digest} instead of {self.digest}")
            return read(folder)
        except Corrupt as corrupt:
            give_up(disk, corrupt)


def read_content(folder: Folder) -> Content:
    """Both files of a folder, verified.

    Raises:
        Corrupt: when they are not the published ones.
    """
    return Content(read_arrays(folder), read_facts(folder))


def read_facts(folder: Folder) -> dict[str, Any]:
    """The facts of a folder, verified."""
    return json.loads(_bytes(folder, FACTS))


def read_arrays(folder: Folder) -> dict[str, np.ndarray]:
    """The arrays of a folder, verified."""
    try:
        return safetensors.numpy.load(_bytes(folder, ARRAYS))
    except SafetensorError as error:
        raise Corrupt(folder.path, f"{ARRAYS} cannot be parsed: {error}") from error


def refuse_non_finite(stage: str, arrays: dict[str, np.ndarray]) -> None:
    """A result with NaN or infinities is not stored: later stages would carry it on in silence.

    Raises:
        NumberFault: names the array and how many of its values are not finite.
    """
    for name, array in arrays.items():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        if bad:
            raise NumberFault(
                f"{bad} of {array.size} values of {name!r} are NaN or infinite",
                "stop the stage where the first such number appears, and say so in its facts",
                where=f"stage {stage}",
                cause="the stage returned numbers that no later stage can use",
            )


def _bytes(folder: Folder, name: str) -> bytes:
    if name not in folder.files:
        raise Corrupt(folder.path, f"it was published without {name}")
    return folder.read(name)


def _stored(name: str, array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype.name not in _KINDS + _FLOATS:
        found = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"array {name!r} must be a numpy array of {', '.join(_KINDS + _FLOATS)}, got {found}")
    return np.require(array, requirements="C")
