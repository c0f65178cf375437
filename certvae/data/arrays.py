"""Arrays of one's own: images or vectors, with or without labels, one array for each part.

    images    (n, H, W), (n, H, W, C) or (n, C, H, W)    uint8, or floats in [0, 1]
    vectors   (n, d)                                     floats of any range, or uint8; kept as (n, 1, 1, d)
    labels    (n,) or (n, 1)                             integers or texts; optional
    range     (2,)                                       the values that become 0 and 1; optional

Networks end in [0, 1]. Floats of another range are mapped there by their `range`, so the peak of every PSNR is its
width; where vectors come without one, it is that of their train rows, and every table says so.

Keys are `x_train`, `train_images`, `X`, `y_test`, ...: a part and a kind in any order, or a kind alone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from certvae.canonical import digest
from certvae.data.archives import entries
from certvae.data.dataset import BLOCK
from certvae.data.source import Contents, joined
from certvae.data.splits import PARTS, Part, part_of, rows_of
from certvae.errors import DAMAGED, DataFault, of_numpy

_VALUES = {"x", "image", "images", "img", "data", "features", "inputs", "samples", "vectors"}
_LABELS = {"y", "label", "labels", "target", "targets"}
_CHANNELS = (1, 2, 3, 4)
_SLACK = 1e-6  # of floats that were in [0, 1] before they were rounded
_ARCHIVE = "an .npz file, as numpy.savez writes it; what other files hold a function may return: --data mine:images"


@dataclass(frozen=True)
class Arrays:
    """Arrays of images or vectors by part (train, val, test), with their labels; `path` is for messages."""

    path: Path
    values: dict[Part, np.ndarray]
    labels: dict[Part, np.ndarray]
    range: tuple[float, float] | None = None

    @classmethod
    def of(cls, path: Path, named: Mapping[str, np.ndarray]) -> "Arrays":
        """Arrays by their names; those of other names are not looked at.

        Raises:
            DataFault: which array is wrong, what is wanted, and what was found.
        """
        values, labels = by_part(path, named)
        if not values:
            wanted = "x, or x_train with x_test or x_val, and y_train ... for labels"
            raise _refusal(f"no array of images or vectors among {', '.join(named) or 'nothing'}", path, wanted)
        for part, array in values.items():
            _require_values(path, f"the {part} values", array)
        _require_alike(path, values)
        for part in labels:
            _require_labels(path, part, labels[part], len(values.get(part, ())))
        if labels and labels.keys() != values.keys():
            what = f"labels for {', '.join(labels)}, and values for {', '.join(values)}"
            raise _refusal(what, path, "labels for every part, or for none")
        return cls(path, values, labels, _range(path, named))

    @cached_property
    def fingerprint(self) -> str:
        """Shapes, types and bytes of the arrays."""
        kinds = {"values": self.values, "labels": self.labels}
        found = {kind: {part: _digest(array) for part, array in arrays.items()} for kind, arrays in kinds.items()}
        return digest(found | {"range": self.range})

    @contextmanager
    def open(self) -> Iterator[Contents]:
        rows = rows_of({part: len(array) for part, array in self.values.items()}, self._names(), self.path)
        arrays = [_as_images(self.values[part]) for part in PARTS if part in self.values]
        is_bytes = arrays[0].dtype == np.uint8
        low, high = (0.0, 1.0) if is_bytes else self._bounds
        starts = np.cumsum([0, *map(len, arrays)])

        def read(chosen: Int64[np.ndarray, " m"]) -> np.ndarray:
            places = rows.order[chosen]
            found = np.empty((len(places), *arrays[0].shape[1:]), np.uint8 if is_bytes else np.float32)
            for start, array in zip(starts, arrays, strict=False):
                here = (places >= start) & (places < start + len(array))
                taken = array[places[here] - start]
                found[here] = taken if is_bytes else (taken - low) / (high - low)
            return found

        yield Contents(
            labels=rows.labels,
            n=len(rows.order),
            n_train=rows.n_train,
            n_guard=rows.n_guard,
            shape=arrays[0].shape[1:],
            classes=rows.classes,
            read=read,
            dtype=np.uint8 if is_bytes else np.float32,
            scale=1 / 255 if is_bytes else 1.0,
            deviation=joined(f"arrays of {self.path.name}", rows.note, self._mapped()),
        )

    def _names(self) -> np.ndarray | None:
        found = [self.labels[part].reshape(-1) for part in PARTS if part in self.labels]
        return np.concatenate(found) if found else None

    def _is_vectors(self) -> bool:
        return self.values["train"].ndim == 2

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        """What becomes 0 and 1.

        Raises:
            DataFault: pixels outside, values that are not finite, or vectors that are all one number.
        """
        extremes = {part: _extremes(array) for part, array in self.values.items()}
        for part, (least, most) in extremes.items():
            if not np.isfinite([least, most]).all():
                raise _refusal(f"the {part} values are not all finite", self.path, "finite numbers")
        if self._is_vectors():
            low, high = self.range or extremes["train"]
        else:
            low, high = self.range or (0.0, 1.0)
            for part, (least, most) in extremes.items():
                slack = _SLACK * (high - low)
                if least < low - slack or most > high + slack:
                    found = f"the {part} values are in [{least:g}, {most:g}]"
                    wanted = f"floats in [{low:g}, {high:g}], uint8, or an array `range` with the values of 0 and 1"
                    raise _refusal(found, self.path, wanted)
        if low >= high:
            raise _refusal(f"all train values are {low:g}", self.path, "values that differ")
        return low, high

    def _mapped(self) -> str | None:
        if self.values["train"].dtype == np.uint8 or not (self.range or self._is_vectors()):
            return None
        low, high = self._bounds
        drawn = "" if self.range else ", the range of the train rows"
        return f"values of [{low:.4g}, {high:.4g}] as [0, 1]: peak {high - low:.4g}{drawn}"


def read_arrays(path: Path) -> Arrays:
    """The arrays of an .npz file, a .npy file, or a folder of .npy files, which are mapped and not read.

    Raises:
        DataFault: no such file, a damaged one, or one that holds objects, which are never unpickled.
    """
    named: dict[str, np.ndarray] = {}
    if path.is_dir():
        files = {Path(name).stem: path / name for name, _ in entries(path) if name.endswith(".npy")}
        return Arrays.of(path, {name: _loaded(file, name) for name, file in sorted(files.items())})
    if path.suffix == ".npy":
        return Arrays.of(path, {"x": _loaded(path, "x")})
    archive = _opened(path)
    with archive:
        wanted = [key for key in archive.files if meaning_of(key) is not None or key == "range"]
        wanted = wanted or archive.files
        for key in wanted:
            named[key] = _member(archive, key, path)
    return Arrays.of(path, named)


def by_part(path: Path, named: Mapping[str, Any]) -> tuple[dict[Part, Any], dict[Part, Any]]:
    """Values and labels by part, from names such as `x_train`. One array alone may have any name."""
    names = {key: meaning_of(key) for key in named}
    if len(named) == 1 and None in names.values():
        names = dict.fromkeys(names, ("train", "values"))
    found: dict[str, dict[Part, Any]] = {"values": {}, "labels": {}}
    for key, meaning in names.items():
        if meaning is None:
            continue
        part, kind = meaning
        if part in found[kind]:
            raise _refusal(f"two arrays of {part} {kind}, the second is {key}", path, "one of them")
        found[kind][part] = named[key]
    return found["values"], found["labels"]


def meaning_of(key: str) -> tuple[Part, str] | None:
    """Part and kind that a key names: one word of each, or one of them alone."""
    words = [word for word in re.split(r"[^a-z]+", key.lower()) if word]
    parts: list[Part] = [part for word in words if (part := part_of(word))]
    kinds = ["values" if word in _VALUES else "labels" for word in words if word in _VALUES | _LABELS]
    if not words or len(parts) + len(kinds) != len(words) or len(parts) > 1 or len(kinds) > 1:
        return None
    return parts[0] if parts else "train", kinds[0] if kinds else "values"


def _require_values(path: Path, which: str, array: np.ndarray) -> None:
    wanted = "uint8 or floats of (n, d), (n, H, W), (n, H, W, C) or (n, C, H, W)"
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise _refusal(f"{which} have shape {array.shape}", path, wanted)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise _refusal(f"{which} are of {array.dtype}", path, wanted)
    if array.ndim == 4 and not _channel_axes(array):
        raise _refusal(f"{which} have shape {array.shape}, and no axis of 1 to 4 channels", path, wanted)


def _require_alike(path: Path, values: dict[Part, np.ndarray]) -> None:
    shapes = {part: (array.shape[1:], array.dtype == np.uint8) for part, array in values.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{part} {array.dtype} {array.shape}" for part, array in values.items())
        raise _refusal(f"parts of several kinds: {found}", path, "one type and one shape (n, ...) for all parts")


def _require_labels(path: Path, part: Part, labels: np.ndarray, n: int) -> None:
    if labels.shape not in ((n,), (n, 1)):
        raise _refusal(f"the {part} labels have shape {labels.shape}", path, f"({n},), one for each row")
    if labels.dtype.kind not in "iubSU":
        raise _refusal(f"the {part} labels are of {labels.dtype}", path, "integers or texts")


def _range(path: Path, named: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    if "range" not in named:
        return None
    found = np.asarray(named["range"])
    if found.shape != (2,) or found.dtype.kind not in "iuf" or not np.isfinite(found).all() or found[0] >= found[1]:
        raise _refusal(f"range is {found.tolist()}", path, "two numbers: the value of 0 and that of 1")
    return float(found[0]), float(found[1])


def _channel_axes(array: np.ndarray) -> list[int]:
    return [axis for axis in (3, 1) if array.shape[axis] in _CHANNELS]


def _as_images(array: np.ndarray) -> np.ndarray:
    """A view of shape (n, C, H, W). Where both ends could be channels, the last axis is, as images are stored."""
    if array.ndim == 2:
        return array[:, None, None, :]
    if array.ndim == 3:
        return array[:, None]
    return np.moveaxis(array, _channel_axes(array)[0], 1)


def _extremes(array: np.ndarray) -> tuple[float, float]:
    """Least and largest value; NaN where there is one."""
    blocks = [array[start : start + BLOCK] for start in range(0, len(array), BLOCK)]
    found = [(block.min(), block.max()) for block in blocks]
    return float(np.min([least for least, _ in found])), float(np.max([most for _, most in found]))


def _digest(array: np.ndarray) -> list[Any]:
    sha256 = hashlib.sha256()
    for start in range(0, len(array), BLOCK):
        sha256.update(np.ascontiguousarray(array[start : start + BLOCK]).data)
    return [array.dtype.name, list(array.shape), sha256.hexdigest()]


def _opened(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
    except DAMAGED as reason:
        raise _refusal(f"no archive of arrays: {of_numpy(reason)}", path, _ARCHIVE) from reason
    if not hasattr(found, "zip") or not any(name.endswith(".npy") for name in found.zip.namelist()):
        raise _refusal("no archive of arrays", path, _ARCHIVE)  # such as a file of torch, which is a zip as well
    return found


def _member(archive: Any, key: str, path: Path) -> np.ndarray:
    try:
        found = archive[key]
    except DAMAGED as reason:
        raise _unreadable(path, key, of_numpy(reason)) from reason
    if not isinstance(found, np.ndarray):
        raise _unreadable(path, key, "it is no array")
    return found


def _loaded(file: Path, key: str) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except DAMAGED as reason:
        raise _unreadable(file, key, of_numpy(reason)) from reason


def _unreadable(path: Path, key: str, reason: str) -> DataFault:
    wanted = "arrays of numbers: objects are not unpickled, since a pickle may run anything"
    return _refusal(f"{key} cannot be read: {reason}", path, wanted)


def _refusal(what: str, path: Path, wanted: str) -> DataFault:
    return DataFault(what, f"give {wanted}", where=str(path), cause="the arrays were given as a data set")
