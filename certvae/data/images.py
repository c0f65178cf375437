"""Reads a folder of the user's own images, in any format that Pillow reads.

    PATH/*.png                             flat: no labels
    PATH/<class>/**/*.png                  a folder a class
    PATH/train/..., PATH/val/..., test     official parts, flat or with class folders in each

Only images are read, and only read: what a system leaves beside them (Thumbs.db, desktop.ini, @eaDir, ._a.png) is no
part of the data set. Grey images make one channel, all others three. They stand upright, as their cameras noted, and
what is transparent lies on white: so do viewers show them. Without `size` all images are of one size; with it they are
cut to a square about their centre and scaled.
"""

import functools
import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from certvae.canonical import digest
from certvae.data.archives import entries
from certvae.data.progress import bar
from certvae.data.source import Contents, Unreadable, joined
from certvae.data.splits import PARTS, Part, Rows, part_of, rows_of
from certvae.errors import DAMAGED, DataFault

UNREADABLE = (*DAMAGED, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises for images that are cut, changed or huge."""
_PROGRAMS = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
_OTHERS = frozenset((".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".svg"))
"""Suffixes of images that Pillow does not read by itself."""
LYING = (1, 2, 3, 4)
"""Orientations of a camera, as Exif numbers them, that leave width and height what they are."""
_Row = tuple[int, str, str]  # the place of its part in PARTS, its class folder or "", its name
_GREY, _COLOUR = {"1", "L", "LA"}, {"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB"}


@functools.cache
def formats() -> frozenset[str]:
    """Suffixes that Pillow opens by itself: without those that ask another program, or know no pixels."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, form in suffixes.items() if form in Image.OPEN and form not in _PROGRAMS)


@dataclass(frozen=True)
class Header:
    """What is known of an image before a pixel is decoded; its size is that of the image upright."""

    sha256: str
    size: tuple[int, int]
    mode: str
    is_turned: bool
    is_transparent: bool


@dataclass(frozen=True)
class Index:
    """Which image is which row.

    top      the folders that all images lie in, as `a/b/`: they say nothing
    names    (n,) relative paths, counted through train, val and test
    classes  (n,) the class folder of each, or None
    ignored  names of folders with images that are no part, and how many images are of formats that are not read
    """

    top: str
    names: tuple[str, ...]
    parts: dict[Part, int]
    classes: np.ndarray | None
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder, scaled to `size` pixels where that is given; `progress` shows a bar."""

    path: Path
    size: int | None = None
    progress: bool = field(default=True, compare=False)

    @cached_property
    def index(self) -> Index:
        """Raises DataFault for no images, or for some with a class and some without."""
        return _index(self.path)

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """Of every image in the order of the index; every file is read once."""
        label = f"reading {self.path.name}" if self.progress else None
        return _headers(self.path, self.index.names, label)

    @cached_property
    def fingerprint(self) -> str:
        """Names and bytes of the images, and what is done to some of them."""
        names = (name.removeprefix(self.index.top) for name in self.index.names)
        images = {name: header.sha256 for name, header in zip(names, self.headers, strict=True)}
        treated = {what: True for what in (self._turned, self._on_white) if what}
        return digest({"images": images, "parts": self.index.parts, **treated})

    @property
    def _turned(self) -> str | None:
        n = sum(header.is_turned for header in self.headers)
        return f"{n:,} turned upright" if n else None

    @property
    def _on_white(self) -> str | None:
        return "what is transparent lies on white" if any(header.is_transparent for header in self.headers) else None

    @contextmanager
    def open(self) -> Iterator[Contents]:
        index, rows = self.index, rows_of(self.index.parts, self.index.classes, self.path)
        mode = self._mode()
        width, height = (self.size, self.size) if self.size else self._side()
        shape = (1 if mode == "L" else 3, height, width)

        def read(chosen: Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m C H W"]:
            return _pixels(self.path, [index.names[row] for row in rows.order[chosen]], shape, mode, self.size)

        yield Contents(
            labels=rows.labels,
            n=len(rows.order),
            n_train=rows.n_train,
            n_guard=rows.n_guard,
            shape=shape,
            classes=rows.classes,
            read=read,
            deviation=self._deviation(rows),
        )

    def _mode(self) -> str:
        modes = {header.mode for header in self.headers}
        for name, header in zip(self.index.names, self.headers, strict=True):
            if header.mode not in _GREY | _COLOUR:
                raise _refusal(
                    f"{name} has pixels of mode {header.mode}, which are no bytes",
                    self.path,
                    "bring such images as floats in [0, 1], by --data npz:PATH",
                )
        return "L" if modes <= _GREY else "RGB"

    def _side(self) -> tuple[int, int]:
        sizes = [header.size for header in self.headers]
        usual, _ = Counter(sizes).most_common(1)[0]
        others = [name for name, size in zip(self.index.names, sizes, strict=True) if size != usual]
        if others:
            first, (width, height) = others[0], sizes[self.index.names.index(others[0])]
            raise _refusal(
                f"{len(others):,} of {len(sizes):,} images are not of {usual[0]} x {usual[1]} pixels; "
                f"first: {first}, of {width} x {height}",
                self.path,
                "cut and scale all of them with --data.size 64, say",
            )
        return usual

    def _deviation(self, rows: Rows) -> str | None:
        sizes = {header.size for header in self.headers}
        scaled = f"cut and scaled to {self.size} pixels" if self.size and sizes != {(self.size, self.size)} else None
        ignored = f"{', '.join(self.index.ignored)} not read" if self.index.ignored else None
        return joined(f"images of {self.path.name}", rows.note, scaled, self._turned, self._on_white, ignored)


def _index(path: Path) -> Index:
    files = [(name, Path(name).suffix.lower()) for name, _ in entries(path)] if path.is_dir() else []
    names = sorted(name for name, suffix in files if suffix in formats())
    if not names:
        raise _empty(path)
    others = Counter(suffix for _, suffix in files if suffix in _OTHERS - formats())
    top = _top(names)
    inside = {name: name.removeprefix(top).split("/") for name in names}
    parts = {first: part_of(first) for first, *rest in inside.values() if rest}
    is_split = "train" in parts.values() and len(set(parts.values()) - {None}) > 1
    rows: list[_Row] = []
    for name, words in inside.items():
        part = parts.get(words[0]) if is_split else "train"
        below = words[1:] if is_split else words
        if part is not None:
            rows.append((PARTS.index(part), below[0] if len(below) > 1 else "", name))
    rows, unlabelled = _labelled(sorted(rows))
    _check_once(path, [name for _, _, name in rows])
    ignored = [first for first, part in parts.items() if is_split and (part is None or part in unlabelled)]
    return Index(
        top=top,
        names=tuple(name for _, _, name in rows),
        parts={part: sum(number == place for number, _, _ in rows) for place, part in enumerate(PARTS)},
        classes=_classes(rows, path),
        ignored=(*sorted(ignored), *(f"{count:,} of {suffix}" for suffix, count in sorted(others.items()))),
    )


def _check_once(path: Path, names: list[str]) -> None:
    """Raises DataFault where a link gives a folder of images a second name, as `latest` beside `v2`."""
    known: dict[str, str] = {}
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        if (first := known.setdefault(os.path.realpath(path / folder), folder)) != folder:
            what = f"{first}/ and {folder}/ are one folder, whose images would be there twice"
            raise _refusal(what, path, "take the link away, or name a folder that holds one of them")


def _labelled(rows: list[_Row]) -> tuple[list[_Row], set[Part]]:
    """Without val and test images that say no class where train images do: `test/images/*`, published to be guessed."""
    labels = [{label for number, label, _ in rows if number == place} for place in range(len(PARTS))]
    train, *_ = labels
    without = {place for place, found in enumerate(labels) if len(train) > 1 and len(found) == 1 and not found & train}
    return [row for row in rows if row[0] not in without], {PARTS[place] for place in without}


def _top(names: list[str]) -> str:
    """The folders that all images lie in, as `name/`: archives put everything below one, some below two."""
    top = ""
    while True:
        firsts = {name.removeprefix(top).partition("/")[0] for name in names}
        is_folder = all("/" in name.removeprefix(top) for name in names)
        if len(firsts) > 1 or not is_folder:
            return top
        top += f"{next(iter(firsts))}/"


def _classes(rows: list[_Row], path: Path) -> np.ndarray | None:
    classes = np.array([label for _, label, _ in rows])
    if (classes == "").all():
        return None
    loose = [name for _, label, name in rows if label == ""]
    if loose:
        raise _refusal(
            f"{len(loose):,} of {len(rows):,} images lie in no class folder; first: {loose[0]}",
            path,
            "name a folder where all of them do, or none: --data folder:PATH/train, say",
        )
    return classes


def _headers(path: Path, names: tuple[str, ...], label: str | None) -> tuple[Header, ...]:
    headers: list[Header] = []
    unreadable: list[str] = []
    with bar(len(names), label) as advance:
        for name in names:
            try:
                headers.append(_header((path / name).read_bytes()))
            except UNREADABLE as reason:
                unreadable.append(f"{name} ({reason or type(reason).__name__})")
            advance(1)
    if unreadable:
        what = f"{len(unreadable):,} of {len(names):,} images are unreadable; first: {unreadable[0]}"
        raise _refusal(what, path, "name a folder without them, such as a copy of the others")
    return tuple(headers)


def _header(content: bytes) -> Header:
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("no image" if content else "empty") from None
    with opened as image:
        turned = _orientation(image)
        size = image.size if turned in LYING or _has_upright_size(image) else (image.height, image.width)
        return Header(hashlib.sha256(content).hexdigest(), size, image.mode, turned != 1, image.has_transparency_data)


def _has_upright_size(image: Image.Image) -> bool:
    """Whether Pillow gives the size that an image has once it is turned: that of a TIFF, by its own tag."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and ExifTags.Base.Orientation in image.tag_v2


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8; a PNG says so before its pixels, which are not decoded to learn it."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    with warnings.catch_warnings(), suppress(*UNREADABLE):  # whose pixels may be whole
        warnings.simplefilter("ignore")
        found = image.getexif().get(ExifTags.Base.Orientation)
        return found if isinstance(found, int) and 1 <= found <= 8 else 1
    return 1


def _pixels(
    path: Path, names: list[str], shape: tuple[int, int, int], mode: str, size: int | None
) -> UInt8[np.ndarray, "m C H W"]:
    """One block of images. Raises Unreadable."""
    channels, height, width = shape
    pixels = np.empty((len(names), height, width, channels), dtype=np.uint8)

    def read(name: str) -> np.ndarray:
        return decode(path / name, mode, (width, height), cut=size is not None).reshape(pixels.shape[1:])

    fill(pixels, names, read)
    return pixels.transpose(0, 3, 1, 2)


def fill(pixels: UInt8[np.ndarray, "m ..."], names: Sequence[str], read: Callable[[str], np.ndarray]) -> None:
    """Reads images one by one into their places.

    Raises:
        Unreadable: some cannot be read; all of them are named, with the reason.
    """
    unreadable: list[str] = []
    for place, name in zip(pixels, names, strict=True):
        try:
            place[:] = read(name)
        except UNREADABLE as reason:
            unreadable.append(f"{name} ({reason or type(reason).__name__})")
    if unreadable:
        raise Unreadable(unreadable)


def decode(path: Path, mode: str, size: tuple[int, int], *, cut: bool) -> np.ndarray:
    """One image as (H, W) of mode L or (H, W, 3) of mode RGB.

    Raises:
        ValueError: another size, where it is not cut.
        OSError: not an image, or a broken one.
    """
    with Image.open(path) as image:
        if cut:
            image.draft(mode, (2 * size[0], 2 * size[1]))
        pixels = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        if pixels.has_transparency_data:
            pixels = pixels.convert("RGBA")
            pixels = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
        pixels = pixels if pixels.mode == mode else pixels.convert(mode)
        if not cut and pixels.size != size:
            raise ValueError(f"{pixels.width} x {pixels.height} pixels instead of {size[0]} x {size[1]}")
        return np.asarray(_fitted(pixels, size) if cut else pixels)


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrinks by the mean over areas, enlarges bilinearly, as `decoding.resized` does."""
    if image.size == size:
        return image
    method = Image.Resampling.BOX if min(image.size) > min(size) else Image.Resampling.BILINEAR
    return ImageOps.fit(image, size, method)


def _empty(path: Path) -> DataFault:
    if not path.is_dir():
        what = "it is a file" if path.exists() else "it is not there"
        return _refusal(f"no folder of images: {what}", path, "name a folder, as --data folder:PATH")
    found = sorted({Path(name).suffix or name for name, _ in entries(path)})
    shown = f", but files of {', '.join(found[:5])}" if found else ": it is empty"
    bring = f"bring images: {', '.join(sorted(formats()))}"
    arrays = f"take arrays as they are: --data npz:{path}" if ".npy" in found else bring
    return _refusal(f"no images in this folder{shown}", path, arrays)


def _refusal(what: str, path: Path, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=str(path), cause="the folder was given as a data set of images")
