"""Loads data sets: memory-mapped pixels with train, guard and certify rows.

    certify   official test rows (Tiny-ImageNet: official val rows); digits: 360 of the 1,797 rows, drawn once
    guard     guard_fraction of the official train rows, drawn once per data set
    train     the rest

The draws are fixed: they depend on the data set and its `Data` spec, never on a run's seed. A smaller limit keeps a
subset of the rows of a larger one. Data of one's own are split as `own` says.
"""

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Int64

from certvae.canonical import digest
from certvae.data.archives import is_visible
from certvae.data.cifar import CIFAR10, CIFAR100
from certvae.data.dataset import LAYOUT, Damaged, Dataset, open_dataset
from certvae.data.decoding import View, publish
from certvae.data.digits import DIGITS, DRAW_SEED
from certvae.data.download import download, downloads
from certvae.data.images import formats
from certvae.data.mnist import FASHION_MNIST, MNIST
from certvae.data.own import is_name, is_own, name_of, own, returned, source_of
from certvae.data.source import Contents, Official, Source, counted, joined
from certvae.data.tiny_imagenet import TINY_IMAGENET
from certvae.data.undecoded import Undecoded, published
from certvae.errors import DataFault
from certvae.spec.parts import Data, Description
from certvae.spec.validation import nearest
from certvae.store.disk import disk_faults
from certvae.store.folders import Cache, discard

ROOT_VARIABLE = "CERTVAE_DATA"
LARGEST_ZOOM = 4
MOST_LOOKED_AT = 100
_log = logging.getLogger(__name__)
BYTES = 1 / 255  # scale of images whose values are bytes
SOURCES: dict[str, Official] = {
    "digits": DIGITS,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "tiny-imagenet-200": TINY_IMAGENET,
}
"""Every data set that has a name. A new one is a file beside those of these, and a line here."""


def load(
    data: Data, root: Path | str | None = None, *, cache: Path | str, progress: bool = True, verify: bool = False
) -> Dataset:
    """Opens a data set; the first time it is found or downloaded, and decoded into a folder below `cache`.

    root is where official files are looked for, and only read: the argument, else the environment variable
    CERTVAE_DATA, else ./data, and always `download.downloads()`, where files are downloaded to. Where the official
    files are gone, the decoded folder serves alone. With `verify` every pixel is compared with its digest, else a
    sample. For data of one's own root, or CERTVAE_DATA, is the place that was described, and only needed before they
    are decoded.

    A decoded copy that is not what was written is thrown away and decoded again.

    Raises:
        DataFault: files absent and not to be downloaded, damaged, changed since they were decoded, or too few for the
            spec.
        DiskFault: `cache` or the folder of downloads cannot be written.
    """
    target = _decoded(data, cache)
    with disk_faults(f"load {data.name}"):
        is_decoded = target.exists()
        source = _source(data, root, is_decoded=is_decoded, progress=progress)
        if not is_decoded and source is not None:
            _decode(data, source, target, progress)
        try:
            dataset = open_dataset(target, verify=verify)
        except Damaged as damaged:
            _log.warning("%s; it is decoded again", damaged.what)
            source = source or _source(data, root, is_decoded=False, progress=progress)
            dataset = _decoded_again(data, source, target, progress)
        return _unchanged(dataset, source)


def foreseen(data: Data, root: Path | str | None = None, *, cache: Path) -> Dataset:
    """What `load` would give, but nothing is downloaded, decoded or written: a decoded copy, else `Undecoded`.

    Raises:
        DataFault: as `load`, as far as names and labels tell.
    """
    target = _decoded(data, cache)
    with disk_faults(f"look for {data.name}"):
        is_decoded = target.exists()
        source = _source(data, root, is_decoded=is_decoded, progress=False, fetch=False)
        with contextlib.suppress(Damaged):  # a run decodes it again
            return _unchanged(open_dataset(target), source) if is_decoded else _undecoded(data, source, target)
        return _undecoded(data, _source(data, root, is_decoded=False, progress=False, fetch=False), target)


def _decoded(data: Data, cache: Path | str) -> Path:
    """Where its decoded copy lies, once it is there."""
    return Path(cache).absolute() / f"{data.name}-{digest([LAYOUT, data])[:16]}"


def _unchanged(dataset: Dataset, source: Source | None) -> Dataset:
    """A decoded copy, compared with the files where these are there."""
    if source is not None and source.fingerprint != dataset.files:
        raise _changed(source.path, dataset)
    return dataset


def _undecoded(data: Data, source: Source | None, target: Path) -> Undecoded:
    if source is None:
        pins, rows = named(data.name).pins, view(data, published(named(data.name)))
        place, substitute = urlsplit(pins[0].url).hostname, joined(*_choices(data, rows.contents))
    else:
        pins = ()
        with source.open() as contents:
            _check(contents, source.path)
            rows = view(data, contents)
            place, substitute = source.path, joined(contents.deviation, *_choices(data, contents))
    return Undecoded(
        name=data.name,
        path=target,
        digest="",
        shape=rows.shape[1:],
        classes=rows.classes,
        scale=rows.contents.scale,
        mean=(),
        std=(),
        files="",
        source=str(place),
        substitute=substitute,
        view=rows,
        fetched=sum(pinned.size for pinned in pins),
    )


def describe(name: str, *, size: int | None = None) -> Description:
    """What presets and specs must know of a data set, without decoding a pixel: its name in a spec, shape and classes.

    Args:
        name: one of SOURCES, whose files are not looked at, or `folder:PATH`, `npz:PATH` or `module:function`.
        size: side that images are scaled to.

    Raises:
        DataFault: no such data set, or what lies there is none.
        ConfigFault, TheirFault: a function that is not there, or raises.
    """
    if not is_own(name):
        official = named(name)
        shape, classes, n, place = official.shape, official.classes, sum(official.rows), None
    else:
        returned.cache_clear()  # a notebook that describes it again may have changed what it reads
        with disk_faults(f"read {name}"):
            source = source_of(name, size)
            with source.open() as contents:
                shape, classes, n, place = contents.shape, contents.classes, contents.n, name
            name = name_of(name, source)
    shape = (shape[0], size, size) if size else shape
    return Description(name=name, shape=shape, classes=classes, n=n, place=place)


def _decoded_again(data: Data, source: Source | None, target: Path, progress: bool) -> Dataset:
    discard(Cache(target.parent), target)
    if source is not None:
        _decode(data, source, target, progress)
    return open_dataset(target)


def _source(
    data: Data, root: Path | str | None, *, is_decoded: bool, progress: bool, fetch: bool = True
) -> Source | None:
    """Files to decode, or to compare the decoded copy with: a name of somebody's own data is a digest already.

    Args:
        fetch: False stops before a download, with None.
    """
    if is_name(data.name):
        return None if is_decoded else own(data, root or os.environ.get(ROOT_VARIABLE), progress=progress)
    official, root = named(data.name), None if root is None else Path(root)
    source = found(official, root)
    if source is not None or is_decoded:
        return source
    _require_no_near_miss(data.name, official, _root(root), is_named=root is not None)
    return _fetched(official, progress) if fetch else None


def named(name: str) -> Official:
    """The data set of this name.

    Raises:
        DataFault: there is none.
    """
    if name not in SOURCES:
        raise DataFault(
            f"no data set is called {name!r}",
            nearest(name, tuple(SOURCES)),
            where="data",
            cause=f"the data sets are {', '.join(SOURCES)}, and data of your own",
        )
    return SOURCES[name]


def found(official: Official, root: Path | None) -> Source | None:
    """The official files below root, or among the downloads, or None."""
    if (there := official.find(_root(root))) is not None:
        return there
    is_fetched = official.pins and all((downloads() / pinned.place).exists() for pinned in official.pins)
    return official.find(downloads()) if is_fetched else None


def view(data: Data, contents: Contents) -> View:
    """The rows that a spec keeps, with the split of each.

    Raises:
        DataFault: more rows, more classes or another size than the data set can give, or a split without rows.
    """
    _check_size(data, contents)
    kept = _kept(data, contents)
    own_guard = contents.n_train - contents.n_guard
    train = _draw(data, kept[kept < own_guard], "limit")
    certify = _draw(data, kept[kept >= contents.n_train], "certify_limit")
    guard = kept[(kept >= own_guard) & (kept < contents.n_train)]
    if not contents.n_guard:
        train, guard = np.split(train, [len(train) - round(len(train) * data.guard_fraction)])
    _check_splits(data, len(train), len(guard), len(certify))
    rows = np.concatenate([train, guard, certify])
    splits = np.repeat(np.arange(3, dtype=np.uint8), [len(train), len(guard), len(certify)])
    order = np.argsort(rows)
    return View(
        contents=contents,
        rows=rows[order],
        splits=splits[order],
        classes=data.classes or contents.classes,
        size=data.size,
    )


def _root(root: Path | None) -> Path:
    named = root or os.environ.get(ROOT_VARIABLE) or "data"
    return Path("data" if is_own(str(named)) else named).absolute()  # data of one's own have no official files


def _fetched(official: Official, progress: bool) -> Source:
    for pinned in official.pins:
        download(pinned, downloads(), progress=progress)
    source = official.find(downloads())
    if source is None:
        raise FileNotFoundError(errno.ENOENT, "removed right after it was downloaded", str(downloads()))
    return source


def _require_no_near_miss(name: str, official: Official, root: Path, *, is_named: bool) -> None:
    """Looks one level up and one down before anything is fetched: there is where a root that is wrong often is."""
    if is_named and not root.exists():
        raise _elsewhere(name, root, "which is not there", "name a folder that is, or none")
    below = [entry for entry in _listed(root) if entry.is_dir() and is_visible(entry.name)]
    for other in (root.parent, *below):
        if official.find(other) is not None:
            raise _elsewhere(name, root, f"but {other} has it", f"name that: --data-root {other}")
    if any(Path(entry.name).suffix.lower() in formats() for folder in (root, *below) for entry in _listed(folder)):
        raise _elsewhere(name, root, "but images of another data set", f"take them as they are: --data folder:{root}")


def _listed(folder: Path) -> list[Path]:
    return list(itertools.islice(folder.iterdir(), MOST_LOOKED_AT)) if folder.is_dir() else []


def _elsewhere(name: str, root: Path, what: str, remedy: str) -> DataFault:
    return DataFault(f"{name} is not below {root}, {what}", remedy, where=str(root), cause="the root is another one")


def _decode(data: Data, source: Source, target: Path, progress: bool) -> None:
    with source.open() as contents:
        _check(contents, source.path)
        label = source.path.name if progress else None
        publish(target, view(data, contents), _about(data, contents, source), label=label)


def _about(data: Data, contents: Contents, source: Source) -> dict[str, str | None]:
    return {
        "name": data.name,
        "source": str(source.path),
        "files": source.fingerprint,
        "substitute": joined(contents.deviation, *_choices(data, contents)),
    }


def _choices(data: Data, contents: Contents) -> Iterator[str | None]:
    """How the spec departs from the whole data set."""
    kept = _kept(data, contents)
    n_train, n_test = int((kept < contents.n_train - contents.n_guard).sum()), int((kept >= contents.n_train).sum())
    if data.classes and contents.classes:
        yield counted(data.classes, contents.classes, "classes")
    if data.limit:
        yield counted(data.limit, n_train, "train images drawn")
    if data.certify_limit:
        yield counted(data.certify_limit, n_test, "test images drawn")
    if data.size and data.size != contents.shape[1]:
        yield f"resized from {contents.shape[1]} to {data.size} pixels"


def _kept(data: Data, contents: Contents) -> Int64[np.ndarray, " m"]:
    """Rows of the first so many classes."""
    if data.classes is None:
        return np.arange(contents.n)
    if contents.labels is None or contents.classes is None:
        raise _impossible(data, f"classes must be absent, got {data.classes}: there are no labels", "leave it out")
    if data.classes > contents.classes:
        wanted = f"classes must be <= {contents.classes}, got {data.classes}"
        raise _impossible(data, wanted, "keep fewer classes")
    return np.flatnonzero(contents.labels < data.classes)


def _draw(
    data: Data, rows: Int64[np.ndarray, " n"], field: Literal["limit", "certify_limit"]
) -> Int64[np.ndarray, " m"]:
    limit = data.limit if field == "limit" else data.certify_limit
    if limit is not None and limit > len(rows):
        raise _impossible(data, f"{field} must be <= {len(rows):,}, got {limit:,}", "lower it, or leave it out")
    return np.random.default_rng(DRAW_SEED).permutation(rows)[:limit]


def _check(contents: Contents, path: Path) -> None:
    labels, classes = contents.labels, contents.classes
    found, fits = "", True
    if labels is not None and classes is not None:
        least, most = labels.min(initial=0), labels.max(initial=0)
        found, fits = f", labels {least} to {most} for {classes} classes", least >= 0 and most < classes
    if not 0 < contents.n_train < contents.n or not fits:
        raise DataFault(
            f"{contents.n_train:,} train and {contents.n - contents.n_train:,} test images{found}",
            "bring the official files again, or name another folder with --data-root",
            where=str(path),
        )


def _check_size(data: Data, contents: Contents) -> None:
    side = contents.shape[1]
    is_image = contents.scale == BYTES and contents.shape[1] > 1
    if not is_image and data.size not in (None, side):
        why = "17 grey levels, floats and vectors are not resized"
        raise _impossible(data, f"size must be {side}, got {data.size}: {why}", "leave it out")
    if data.size is not None and data.size > LARGEST_ZOOM * side:
        raise _impossible(data, f"size must be <= {LARGEST_ZOOM * side}, got {data.size}", "choose a smaller size")


def _check_splits(data: Data, n_train: int, n_guard: int, n_certify: int) -> None:
    if min(n_train, n_guard, n_certify) < 1:
        found = f"{n_train:,} train, {n_guard:,} guard and {n_certify:,} certify rows: each split needs one"
        raise _impossible(data, found, "raise limit, certify_limit or guard_fraction, or bring more rows")


def _impossible(data: Data, what: str, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=f"Data({data.name})")


def _changed(path: Path, dataset: Dataset) -> DataFault:
    return DataFault(
        f"{path.name} is not what it was when {dataset.path.name} was decoded from {dataset.source}",
        f"bring the old files back, or start anew from these: rm -r {dataset.path}",
        where=str(path),
    )
