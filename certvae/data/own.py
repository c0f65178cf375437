"""Loads the user's own data: a folder of images, arrays in files, or what a function returns.

    folder:PATH        see `images`
    npz:PATH           an .npz or .npy file, or a folder of .npy files; see `arrays`
    module:function    called in this process; returns x, (x, y), {"x_train": x, ...}, or a data set of such items

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
from certvae.data.arrays import Arrays, by_part, meaning_of, read_arrays
from certvae.data.images import ImageFolder
from certvae.data.progress import bar
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
        kind = data.name.partition("@")[0]
        named = "module:function" if kind == "module" else f"{kind}:PATH"
        raise DataFault(
            f"{data.name} was not decoded here before, and where it lies is not known",
            f"name it with --data {named}, or CERTVAE_DATA={named} where a command has no such option, or give load() "
            "the place of its description",
            where=str(place or ""),
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
    """What a function returns, as arrays; kept until it is described again, since its name is wanted before its rows.

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
            return _joined(place, {str(key): _named_part(place, str(key), value) for key, value in found.items()})
        case (x, y) if not isinstance(x, list | tuple) and _has_items(x) and _has_items(y):
            raise _refusal(f"{place} returns two data sets", place, 'say which is which: {"train": one, "test": other}')
        case (x, y):
            return {"x": _array(place, x), "y": _array(place, y)}
        case _:
            return _named_part(place, "x", found)


def _joined(place: str, parts: Mapping[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {}
    for key, arrays in parts.items():
        if twice := arrays.keys() & named.keys():
            told = f"{place} returns {min(twice)} twice, the second time as {key!r}"
            raise _refusal(told, place, "leave it out, or name it: train, val or test")
        named |= arrays
    return named


def _named_part(place: str, key: str, value: Any) -> dict[str, np.ndarray]:
    """One entry: an array, (x, y) of a part, or a data set of a part."""
    part, kind = meaning_of(key) or (part_of(key) or "train", "values")
    if isinstance(value, tuple) and len(value) == 2:
        return {f"x_{part}": _array(place, value[0]), f"y_{part}": _array(place, value[1])}
    if _has_items(value) and kind == "values":
        return _items(place, part, value)
    if not _is_array(value) and kind == "values":
        wanted = "x, (x, y), a mapping of arrays, or a data set of items, such as a torch Dataset"
        raise _refusal(f"{place} returns a {type(value).__name__}", place, f"return {wanted}")
    return {key: _array(place, value)}


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") or hasattr(value, "__array__")


def _has_items(value: Any) -> bool:
    """Whether it is a list, or a data set of a library that gives item after item."""
    is_sequence = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return is_sequence and not isinstance(value, str | bytes | Mapping) and not _is_array(value)


def _items(place: str, part: str, items: Any) -> dict[str, np.ndarray]:
    """A list, or a data set of torch or of Hugging Face, item by item."""
    found: list[tuple[np.ndarray, ...]] = []
    with bar(len(items), f"reading {place}") as advance:
        for number in range(len(items)):
            found.append(_item(place, called(items.__getitem__, number)))
            advance(1)
    shapes = {tuple(array.shape for array in item) for item in found}
    if len(shapes) != 1:
        told = f"{place} returns items of shapes {sorted(shapes)[:3]}"
        raise _refusal(told, place, "return items of one shape")
    return {f"{name}_{part}": np.stack(arrays) for name, arrays in zip("xy", zip(*found, strict=True), strict=False)}


def _item(place: str, item: Any) -> tuple[np.ndarray, ...]:
    """(x,) or (x, y) of x, (x,), (x, y), or of a mapping by the names of arrays, such as {"image": x, "label": y}."""
    match item:
        case Mapping():
            values, labels = by_part(Path(place), item)
            if len(values) != 1:
                told = f"items of {place} hold {', '.join(map(str, item))}"
                raise _refusal(told, place, "call one of them image or x, and its class label or y")
            if not labels and (others := [str(key) for key in item if str(key).lower().endswith(("label", "labels"))]):
                told = f"items of {place} hold {', '.join(others)}, and no label"
                raise _refusal(told, place, "return the one that is meant as label, or items without any")
            parts = (*values.values(), *labels.values())
        case (x,) if isinstance(item, tuple):
            parts = (x,)
        case (x, y):
            parts = (x, y)
        case _:
            parts = (item,)
    return tuple(_array(place, one) for one in parts)


def _array(place: str, value: Any) -> np.ndarray:
    """An array of whatever has numbers: tensors on any device, images of Pillow, data frames, sparse matrices, lists.

    Raises:
        DataFault: none can be made of it.
    """
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        found = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        told = f"no array can be made of the {type(value).__name__} that {place} returns: {error}".splitlines()[0]
        raise _refusal(told, place, "return rows of one shape, as bytes or as floats of 16, 32 or 64 bits") from error
    is_text = found.dtype == object and all(isinstance(one, str) for one in found.flat)
    return found.astype(str) if is_text else found


def _refusal(what: str, place: str, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=place, cause="the function was given as a data set")
