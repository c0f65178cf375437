"""A bundle as files: a closed list of names, each with its size and SHA-256 in a manifest that carries its own.

MANIFEST.json       a line with the SHA-256 of the rest: {format, files: {name: [bytes, SHA-256]}}
network.json        programs, each a list of layers of a closed set, and the teacher
weights.safetensors what the layers and the teacher name
rows.safetensors    certify pixels (unless they are brought), teacher rows, mean train row, digests of all rows
record.json         the claim, its settings, and where it comes from
environment.json    the machine that made it

Nothing here can hold code: JSON, and safetensors, which are a header and numbers. No file is unpickled or imported.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from certvae.errors import BundleFault, NoBundle

FORMAT = 2
"""2: bounds pay for every claim of the config, and `settings` says how many; 1 stated each at the whole delta."""
MANIFEST = "MANIFEST.json"
NETWORK, RECORD, ENVIRONMENT = "network.json", "record.json", "environment.json"
WEIGHTS, ROWS = "weights.safetensors", "rows.safetensors"
NAMES = frozenset({NETWORK, WEIGHTS, ROWS, RECORD, ENVIRONMENT})
Arrays = dict[str, np.ndarray]


def text(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces.

    Raises:
        ValueError: for NaN and infinities.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def write(folder: Path, documents: Mapping[str, Any], arrays: Mapping[str, Arrays]) -> str:
    """Writes a bundle into a new folder; returns its name, the SHA-256 of the manifest.

    Raises:
        NoBundle: the folder is there already.
    """
    files = {name: text(value) for name, value in documents.items()}
    files |= {name: safetensors.numpy.save(stored) for name, stored in arrays.items()}
    if files.keys() != NAMES:
        raise ValueError(f"a bundle is {sorted(NAMES)}, got {sorted(files)}")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise NoBundle(
            "a bundle is written into a new folder, and this one is there", "name another", where=str(folder)
        ) from None
    for name, data in files.items():
        (folder / name).write_bytes(data)
    listed = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
    told = text({"format": FORMAT, "files": listed})
    name = hashlib.sha256(told).hexdigest()
    (folder / MANIFEST).write_bytes(name.encode() + b"\n" + told)  # last: half a bundle has none
    return name


def read(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The name of a bundle and the bytes of its files, all of them verified.

    Raises:
        NoBundle: no bundle, or one of another version.
        BundleFault: a file too many or too few, or another byte anywhere.
    """
    try:
        return _read(folder)
    except OSError as error:
        raise BundleFault(
            f"the bundle cannot be read: {error}", "mend its modes, or copy it", where=str(folder)
        ) from error


def _read(folder: Path) -> tuple[str, dict[str, bytes]]:
    name, manifest = _manifest(folder)
    if (version := manifest.get("format")) != FORMAT:
        is_older = isinstance(version, int) and version < FORMAT
        raise NoBundle(
            f"the bundle has format {version!r}, this program reads format {FORMAT}",
            "make it again: `certvae bundle`, on the store"
            if is_older
            else "verify it with a newer version of certvae",
            where=str(folder),
        )
    with well_formed(MANIFEST):
        listed = {str(file): (int(size), str(sha)) for file, (size, sha) in manifest["files"].items()}
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    _refuse_names(folder, there, set(listed))
    return name, {file: _bytes(folder / file, *known) for file, known in listed.items()}


def document(files: Mapping[str, bytes], name: str) -> Any:
    """A JSON document of a bundle."""
    with well_formed(name):
        return json.loads(files[name])


def stored(files: Mapping[str, bytes], name: str) -> Arrays:
    """The arrays of a safetensors file of a bundle."""
    with well_formed(name):
        found = safetensors.numpy.load(files[name])
        for key, array in found.items():
            if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise ValueError(f"{key} holds {array.dtype}, or numbers that are not finite")
        return found


@contextlib.contextmanager
def well_formed(name: str) -> Iterator[None]:
    """Turns whatever goes wrong where a file is taken apart into a refusal that names the file."""
    try:
        yield
    except BundleFault:
        raise
    except (
        *(ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError),
        *(RuntimeError, RecursionError, MemoryError, SafetensorError),
    ) as error:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        said = said if said.isprintable() else ascii(said)  # a foreign text may hold codes for a terminal
        raise BundleFault(f"{name} is malformed: {said}", REMEDY, where=name) from error


REMEDY = "do not use it: ask for the bundle again, or make it again with `certvae bundle`"


def _manifest(folder: Path) -> tuple[str, dict[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file():
        raise NoBundle(f"there is no {MANIFEST}", "name a folder that `certvae bundle` wrote", where=str(folder))
    line, _, told = path.read_bytes().partition(b"\n")
    if hashlib.sha256(told).hexdigest().encode() != line:
        raise BundleFault(f"{MANIFEST} has another SHA-256 than its first line says", REMEDY, where=str(folder))
    with well_formed(MANIFEST):
        found = json.loads(told)
        if not isinstance(found, dict):
            raise TypeError("no object")
        return line.decode(), found


def _refuse_names(folder: Path, there: set[str], listed: set[str]) -> None:
    foreign = sorted((there | listed) - NAMES)
    if foreign:
        raise BundleFault(
            f"{', '.join(map(ascii, foreign[:3]))}: no file of a bundle, which holds numbers and texts and no code",
            "do not run it: nothing in a bundle needs to be run; remove it, or ask for the bundle again",
            where=str(folder),
        )
    if there != NAMES or listed != NAMES:
        missing = sorted((NAMES - there) | (NAMES - listed))
        raise BundleFault(f"{', '.join(missing)}: missing from the folder or its manifest", REMEDY, where=str(folder))


def _bytes(path: Path, size: int, sha: str) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BundleFault(f"{path.name} is no plain file", REMEDY, where=str(path))
    data = path.read_bytes() if path.stat().st_size == size else b""
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha:
        raise BundleFault(
            f"{path.name} is not what the manifest names: another size or SHA-256", REMEDY, where=str(path)
        )
    return data


def finite(value: Any) -> Any:
    """The same, or None for NaN and infinities, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
