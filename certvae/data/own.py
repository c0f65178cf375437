"""Loads the user's own data: a folder of images, arrays in files, or what a function returns.

    folder:PATH        see `images`
    npz:PATH           an .npz or .npy file, or a folder of .npy files; see `arrays`
    module:function    called in this process; returns x, (x, y), {"x_train": x, ...} or a torch Dataset

A spec must not say where something lies, or the same cell would have another key on another machine. So a spec says
*what* was brought, `folder@<digest of its content>`, and `load` is told *where* it lies: `describe` makes one of the
other. A folder that is renamed, copied or read elsewhere is the same data set, and one with a changed pixel is another.
A worker needs neither: it opens the decoded copy, whose name holds the digest.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from certvae import foreign
from certvae.data.arrays import Arrays, read_arrays
from certvae.data.images import ImageFolder
from certvae.data.source import Source
from certvae.data.splits import part_of
from certvae.errors import DataFault
from certvae.foreign import called
from certvae.spec.parts import DIGEST_LENGTH, OWN, Data


def is_own(name: str) -> bool:
    """Whether a text says where data of the user's own lie, in one of the three forms above."""
    kind, _, place = name.partition(":")
    return (place != "" and kind in ("folder", "npz")) or foreign.is_reference(name)


def name_of(place: str, source: Source) -> str:
    """The name by which a spec holds these data: their kind and the digest of their content."""
    return f"{_kind(place)}@{source.fingerprint[:DIGEST_LENGTH]}"


def is_name(name: str) -> bool:
    """Whether a name in a spec stands for data of the user's own."""
    return OWN.fullmatch(name) is not None


def source_of(place: str, size: int | None, *, progress: bool = True) -> Source:
    """Opens the data that lie at a place.

    Raises:
        DataFault: nothing, or what is no data set.
        ConfigFault, TheirFault: a function that is not there, or raises.
    """
    path = Path(place.partition(":")[2]).expanduser().absolute()
    match _kind(place):
        case "folder":
            return ImageFolder(path, size, progress)
        case "npz":
            return read_arrays(path)
        case _:
            return returned(place)


def own(data: Data, place: str | Path | None, *, progress: bool = True) -> Source:
    """Opens the data that lie at a place, and checks that they are what the spec names.

    Raises:
        DataFault: no place was named, or something else lies there.
    """
    if place is None or not is_own(str(place)):
        raise DataFault(
            f"{data.name} was not decoded here before, and where it lies is not known",
            f"name it with --data {'module:function' if data.name.startswith('module') else 'folder:PATH'}, "
            "or give load() the place of its description",
            where=str(place),
            cause="a spec names content and no place",
        )
    found = source_of(str(place), data.size, progress=progress)
    if name_of(str(place), found) != data.name:
        raise DataFault(
            f"{place} is {name_of(str(place), found)} now, and {data.name} is wanted",
            "bring the old content back, or start a study of the new one",
            where=str(place),
            cause="it was changed since, or another one was named",
        )
    return found


def _kind(place: str) -> str:
    kind = place.partition(":")[0]
    return kind if kind in ("folder", "npz") else "module"


@functools.lru_cache(maxsize=1)
def returned(place: str) -> Arrays:
    """What a function returns, as arrays; kept, since it is asked for its name first and for its rows then.

    Raises:
        DataFault: it returns something else.
        ConfigFault: it is not there, or its module does not import.
        TheirFault: it raises something.
    """
    with foreign.importable():  # what it imports when it runs may lie beside it
        return Arrays.of(Path(place), _named(place, called(foreign.brought(place))))


def _named(place: str, found: Any) -> dict[str, np.ndarray]:
    """Arrays by name, from whatever a function may return."""
    match found:
        case Mapping():
            parts = [_named_part(place, str(key), value) for key, value in found.items()]
            return {key: array for part in parts for key, array in part.items()}
        case (x, y):
            return {"x": _array(x), "y": _array(y)}
        case _:
            return _named_part(place, "x", found)


def _named_part(place: str, key: str, value: Any) -> dict[str, np.ndarray]:
    """One entry: an array, (x, y) of a part, or a data set of a part."""
    part = part_of(key) or "train"
    if isinstance(value, tuple) and len(value) == 2:
        return {f"x_{part}": _array(value[0]), f"y_{part}": _array(value[1])}
    if isinstance(value, str | bytes):
        raise _no_rows(place, value)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not hasattr(value, "dtype"):
        return _items(place, part, value)
    if not hasattr(value, "dtype"):
        raise _no_rows(place, value)
    return {key: _array(value)}


def _no_rows(place: str, value: Any) -> DataFault:
    wanted = "x, (x, y), a mapping of arrays, or a torch Dataset"
    return _refusal(f"{place} returns a {type(value).__name__}", place, f"return {wanted}")


def _items(place: str, part: str, items: Any) -> dict[str, np.ndarray]:
    """A torch Dataset, or a list: every item is x or (x, y)."""
    found = [called(items.__getitem__, number) for number in range(len(items))]
    is_labelled = bool(found) and isinstance(found[0], tuple | list) and len(found[0]) == 2
    values = [_array(item[0] if is_labelled else item) for item in found]
    shapes = {value.shape for value in values}
    if len(shapes) != 1:
        told = f"{place} returns items of shapes {sorted(shapes)[:3]}"
        raise _refusal(told, place, "return items of one shape")
    labels = {f"y_{part}": np.stack([_array(item[1]) for item in found])} if is_labelled else {}
    return {f"x_{part}": np.stack(values), **labels}


def _array(value: Any) -> np.ndarray:
    """An array of whatever has numbers: torch tensors on any device, images of Pillow, lists."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _refusal(what: str, place: str, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=place, cause="the function was given as a data set")
