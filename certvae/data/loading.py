"""Data sets -> memory-mapped pixels with train, guard and certify rows.

    certify   official test rows (Tiny-ImageNet: official val rows); digits: 360 of the 1,797 rows, drawn once
    guard     guard_fraction of the official train rows, drawn once per data set
    train     the rest

The draws are fixed: they depend on the data set and its `Data` spec, never on a run's seed. A smaller limit keeps a
subset of the rows of a larger one.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from certvae.canonical import digest
from certvae.data import cifar, mnist, tiny_imagenet
from certvae.data.dataset import LAYOUT, Dataset, Split, open_dataset
from certvae.data.decoding import View, publish
from certvae.data.digits import _DRAW_SEED, Digits
from certvae.data.download import Pinned, download
from certvae.data.source import Contents, counted, joined
from certvae.errors import DataFault
from certvae.spec.parts import Data, DataName
from certvae.store.disk import disk_faults

__all__ = ["Dataset", "Split", "load"]

ROOT_VARIABLE = "CERTVAE_DATA"
LARGEST_ZOOM = 4


Source = Digits | mnist.Idx | cifar.Cifar | tiny_imagenet.TinyImageNet


def load(data: Data, root: Path | None = None, *, cache: Path, progress: bool = True, verify: bool = False) -> Dataset:
    """Opens a data set; the first time it is found or downloaded, and decoded into a folder below `cache`.

    root is where official files are looked for and downloaded to: the argument, else the environment variable
    CERTVAE_DATA, else ./data. Where the official files are gone, the decoded folder serves alone. With `verify` every
    pixel is compared with its digest, else a sample.

    Raises:
        DataFault: files absent and not to be downloaded, damaged, unsafe, changed since they were decoded, or too few
            for the spec.
        DiskFault: `cache` or root cannot be written.
    """
    target = Path(cache).absolute() / f"{data.name}-{digest([LAYOUT, data])[:16]}"
    with disk_faults(f"load {data.name}"):
        source = find(data.name, _root(root))
        if not target.exists():
            source = source or _fetched(data.name, _root(root), progress)
            _decode(data, source, target, progress)
        dataset = open_dataset(target, verify=verify)
        if source is not None and source.fingerprint != dataset.files:
            raise _changed(source.path, dataset)
    return dataset


def find(name: DataName, root: Path) -> Source | None:
    """The official files below root, or None."""
    match name:
        case "digits":
            return Digits()
        case "mnist" | "fashion-mnist":
            return mnist.find(name, root)
        case "cifar10" | "cifar100":
            return cifar.find(name, root)
        case "tiny-imagenet-200":
            return tiny_imagenet.find(root)


def pins(name: DataName) -> tuple[Pinned, ...]:
    """What is downloaded when a data set is absent."""
    match name:
        case "digits":
            return ()
        case "mnist" | "fashion-mnist":
            return mnist.pins(name)
        case "cifar10" | "cifar100":
            return (cifar.layout(name).archive,)
        case "tiny-imagenet-200":
            return (tiny_imagenet.ARCHIVE,)


def view(data: Data, contents: Contents) -> View:
    """The rows that a spec keeps, with the split of each.

    Raises:
        DataFault: more rows, more classes or another size than the data set can give, or a split without rows.
    """
    _check_size(data, contents)
    classes = _classes(data, contents)
    kept = np.flatnonzero(contents.labels < classes)
    train = _draw(data, kept[kept < contents.n_train], "limit")
    certify = _draw(data, kept[kept >= contents.n_train], "certify_limit")
    n_guard = round(len(train) * data.guard_fraction)
    _check_splits(data, len(train) - n_guard, n_guard, len(certify))
    rows = np.concatenate([train, certify])
    splits = np.repeat(np.arange(3, dtype=np.uint8), [len(train) - n_guard, n_guard, len(certify)])
    order = np.argsort(rows)
    return View(contents=contents, rows=rows[order], splits=splits[order], classes=classes, size=data.size)


def _root(root: Path | None) -> Path:
    return Path(root or os.environ.get(ROOT_VARIABLE) or "data").absolute()


def _fetched(name: DataName, root: Path, progress: bool) -> Source:
    for pinned in pins(name):
        if not (root / pinned.place).exists():
            download(pinned, root, progress=progress)
    source = find(name, root)
    if source is None:
        raise FileNotFoundError(errno.ENOENT, "removed right after it was downloaded", str(root))
    return source


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
        "substitute": joined(contents.shortfall, *_choices(data, contents)),
    }


def _choices(data: Data, contents: Contents) -> Iterator[str | None]:
    """How the spec departs from the whole data set."""
    kept = contents.labels < _classes(data, contents)
    n_train, n_test = int(kept[: contents.n_train].sum()), int(kept[contents.n_train :].sum())
    if data.classes:
        yield counted(data.classes, contents.classes, "classes")
    if data.limit:
        yield counted(data.limit, n_train, "train images drawn")
    if data.certify_limit:
        yield counted(data.certify_limit, n_test, "test images drawn")
    if data.size and data.size != contents.shape[1]:
        yield f"resized from {contents.shape[1]} to {data.size} pixels"


def _classes(data: Data, contents: Contents) -> int:
    classes = data.classes or contents.classes
    if classes > contents.classes:
        raise _impossible(data, f"classes must be <= {contents.classes}, got {classes}", "keep fewer classes")
    return classes


def _draw(
    data: Data, rows: Int64[np.ndarray, " n"], field: Literal["limit", "certify_limit"]
) -> Int64[np.ndarray, " m"]:
    limit = data.limit if field == "limit" else data.certify_limit
    if limit is not None and limit > len(rows):
        raise _impossible(data, f"{field} must be <= {len(rows):,}, got {limit:,}", "lower it, or leave it out")
    return np.random.default_rng(_DRAW_SEED).permutation(rows)[:limit]


def _check(contents: Contents, path: Path) -> None:
    labels = contents.labels
    if not 0 < contents.n_train < len(labels) or labels.min() < 0 or labels.max() >= contents.classes:
        raise DataFault(
            7,
            f"{contents.n_train:,} train and {len(labels) - contents.n_train:,} test images, "
            f"labels {labels.min(initial=0)} to {labels.max(initial=0)} for {contents.classes} classes",
            where=str(path),
            cause="the files were cut off, or are those of another data set",
            remedy=f"remove {path} and run the same command: the official files are downloaded",
        )


def _check_size(data: Data, contents: Contents) -> None:
    side = contents.shape[1]
    if data.name == "digits" and data.size not in (None, side):
        raise _impossible(data, f"size must be {side}, got {data.size}: 17 grey levels are not resized", "leave it out")
    if data.size is not None and data.size > LARGEST_ZOOM * side:
        raise _impossible(data, f"size must be <= {LARGEST_ZOOM * side}, got {data.size}", "choose a smaller size")


def _check_splits(data: Data, n_train: int, n_guard: int, n_certify: int) -> None:
    if min(n_train, n_guard, n_certify) < 1:
        found = f"{n_train:,} train, {n_guard:,} guard and {n_certify:,} certify rows: each split needs one"
        raise _impossible(data, found, "raise limit, certify_limit or guard_fraction")


def _impossible(data: Data, what: str, remedy: str) -> DataFault:
    return DataFault(8, what, where=f"Data({data.name})", cause="the spec asks for what is not there", remedy=remedy)


def _changed(path: Path, dataset: Dataset) -> DataFault:
    return DataFault(
        4,
        f"{path.name} is not what it was when {dataset.path.name} was decoded from {dataset.source}",
        where=str(path),
        cause="files were added, removed or replaced, or this is another copy of the data set",
        remedy=f"bring the old files back, or start anew from these: rm -r {dataset.path}",
    )
