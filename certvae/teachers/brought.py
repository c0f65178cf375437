"""Teachers that a user brings: rows in a file, or features that a mixture is searched on, in a file or from a function.

    T         (n, K)  teacher rows: each a distribution, to the rounding of its dtype; smoothed here
    features  (n, d)  of whatever network                      images  (n, C, H, W)  float32 in [0, 1]

Rows stand in the order of `dataset.rows(split)`. Those of certify are kept with the teacher, since its file may be gone
when they are asked for; nothing is chosen on them, and quality control reads guard rows alone.
"""

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from certvae import foreign
from certvae.canonical import stage_seed
from certvae.certificate import EXACT_TOLERANCE, SUM_TOLERANCE
from certvae.data.dataset import SPLITS, Dataset, Split
from certvae.errors import DataFault
from certvae.foreign import called
from certvae.models import arithmetic
from certvae.quality import measure
from certvae.simplex import code_energy
from certvae.spec import files
from certvae.spec.teachers import TORCHVISION, FeatureGmm, Given
from certvae.store.artifact import Content
from certvae.store.store import Workbench
from certvae.teachers.kinds import FeatureTeacher
from certvae.teachers.mixture import Features, Rows, smooth
from certvae.teachers.searching import ENERGY_GAIN, search

ROWS = 256  # images per call of a function
DIGITS = 16
GIVEN, FEATURES = KEPT = "given", "feature_gmm"
"""Sources of teachers whose rows are kept, and cannot be made again from an image."""
Read = Callable[[Float[np.ndarray, "n C H W"]], Any]


def save_rows(path: Path | str, dataset: Dataset, read: Read, *, seen: Dataset | None = None) -> None:
    """Writes what a function makes of every image, with a digest of the image beside it.

    Args:
        path: an .npz file, for `Given` or `FeatureGmm`.
        read: images (n, C, H, W), float32 in [0, 1] -> (n, K) distributions, or (n, d) features.
        seen: the same rows at another size, for a function that reads larger images than the networks do.

    Raises:
        DataFault: what is seen has other rows.
    """
    shown = seen or dataset
    if (found := _counted(shown)) != (wanted := _counted(dataset)):
        told = f"{found} are seen, and {wanted} are wanted"
        raise _refused(str(path), told, "load both by one Data, with another size alone")
    found = {split: _rows(read, shown, split) for split in SPLITS}
    images = {f"images_{split}": _digests(dataset, split) for split in SPLITS}
    np.savez(path, allow_pickle=False, **found, **images)


def _counted(dataset: Dataset) -> str:
    rows = ", ".join(f"{len(dataset.rows(split))} {split}" for split in SPLITS)
    return f"{rows} rows of {dataset.name}"


def check_teacher(dataset: Dataset, teacher: Any) -> None:
    """Refuses rows or features of a user that cannot serve, before anything starts; passes all other teachers.

    Raises:
        ConfigFault: a file, a module or a network of torchvision that is not there, or is another one now.
        DataFault: rows of other images, rows that are no distributions or all equal, or a class that never occurs.
    """
    match teacher:
        case Given():
            _given_rows(dataset, teacher)
        case FeatureGmm() if teacher.is_file:
            _of_file(dataset, teacher.features, teacher.source)
        case FeatureGmm():
            few = _images(dataset, "train", slice(0, 2))
            _checked(teacher.features, _reader(teacher, 0, "cpu")(few), len(few))
        case _:
            pass


def given_content(dataset: Dataset, spec: Given) -> Content:
    """The artifact of a teacher whose rows lie in a file.

    Raises:
        ConfigFault, DataFault: see `check_teacher`.
    """
    rows = _given_rows(dataset, spec)
    smoothed = {split: smooth(found, spec.smoothing) for split, found in rows.items()}
    return _content(spec, GIVEN, smoothed, {}, {"chosen": {}, "candidates": []})


def feature_content(dataset: Dataset, spec: FeatureGmm, seed: int, bench: Workbench) -> Content:
    """The artifact of a search on features: fitted on train rows, chosen on guard rows.

    Raises:
        TeacherFault: fewer rows than components, no candidate that could be fitted, or a constant teacher.
        ConfigFault, DataFault: see `check_teacher`.
    """
    drawn = stage_seed(seed, "teacher")
    features = _features(dataset, spec, drawn, bench)
    found = search(features["train"], features["guard"], spec, seed=drawn, device=bench.device, report=bench.report)
    reader = FeatureTeacher(found.mixture, found.chosen.temperature, spec.smoothing, bench.device)
    rows = {split: reader.rows(found) for split, found in features.items()}
    return _content(spec, FEATURES, rows, found.mixture.arrays, found.facts())


def _content(
    spec: Given | FeatureGmm,
    source: str,
    rows: Mapping[str, Rows],
    arrays: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
) -> Content:
    guard = rows["guard"].astype(np.float64)
    energy = {"code_energy": code_energy(guard, ENERGY_GAIN)} if guard.min() > 0 else {}
    known = {"classes": spec.classes, "smoothing": spec.smoothing, "source": source}
    targets = {f"targets_{split}": found.astype(np.float32) for split, found in rows.items()}
    return Content({**arrays, **targets}, {**known, "quality": {**asdict(measure(guard)), **energy}, **facts})


def _given_rows(dataset: Dataset, spec: Given) -> dict[str, Float[np.ndarray, "n K"]]:
    """Rows of a file, float64, each of sum one."""
    found = _of_file(dataset, spec.rows, spec.source)
    if (columns := found["train"].shape[1]) != spec.classes:
        raise _refused(spec.rows, f"{columns} columns for {spec.classes} classes", f"set --teacher.classes {columns}")
    rows = {split: _distributions(spec.rows, split, array) for split, array in found.items()}
    if never := np.flatnonzero(rows["train"].max(axis=0) <= 0).tolist():
        told = f"classes {', '.join(map(str, never[:8]))} of {spec.classes} occur in no train row"
        raise _refused(spec.rows, told, "leave their columns out: nothing can be learned of them")
    if (rows["train"] == rows["train"][0]).all():
        told = "all train rows are equal, so T carries no information (I_T = 0 nats)"
        raise _refused(spec.rows, told, "give rows that vary with the image: no head can be certified against these")
    return rows


def _distributions(place: str, split: str, found: np.ndarray) -> Float[np.ndarray, "n K"]:
    rows, tolerance = found.astype(np.float64), SUM_TOLERANCE.get(found.dtype.name, EXACT_TOLERANCE)
    lowest, total = rows.min(axis=1), rows.sum(axis=1)
    bad = np.flatnonzero(~((lowest >= 0) & (np.abs(total - 1) <= tolerance)))
    if len(bad):
        row = int(bad[0])
        told = (
            f"{len(bad)} of {len(rows)} {split} rows are no distributions: row {row} has the lowest entry "
            f"{lowest[row]:.6g}, wanted is >= 0, and the sum {total[row]:.6g}, wanted is 1 within "
            f"{tolerance:g} for {found.dtype}"
        )
        raise _refused(place, told, "give probabilities: a softmax of logits, or counts over their sum")
    return rows / total[:, None]


def _features(dataset: Dataset, spec: FeatureGmm, seed: int, bench: Workbench) -> dict[str, Features]:
    if spec.is_file:
        return _of_file(dataset, spec.features, spec.source)
    read = _reader(spec, seed, bench.device)
    return {split: _rows(read, dataset, split) for split in SPLITS}


def _of_file(dataset: Dataset, place: str, content: str) -> dict[str, np.ndarray]:
    """The arrays of a file, whose rows are those of the data set: as many, and of the same images where it says."""
    held = files.wanted(Path(place), content)
    for split in SPLITS:
        wanted, found = len(dataset.rows(split)), len(held[split])
        if found != wanted:
            raise _refused(place, f"{found} {split} rows for {wanted} images of {dataset.name}", files.REMEDY)
        if dataset.is_decoded and (images := held.get(f"images_{split}")) is not None:
            other = np.flatnonzero(images != _digests(dataset, split))
            if len(other):
                told = f"{len(other)} of {wanted} {split} rows belong to other images, row {other[0]} the first"
                raise _refused(place, told, files.REMEDY)
    return {split: held[split] for split in SPLITS}


def _rows(read: Read, dataset: Dataset, split: Split) -> np.ndarray:
    """What a function makes of the rows of a split."""
    n = len(dataset.rows(split))
    parts = [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]
    return np.concatenate(
        [_checked(split, called(read, _images(dataset, split, part)), part.stop - part.start) for part in parts]
    )


def _images(dataset: Dataset, split: Split, part: slice) -> Float[np.ndarray, "n C H W"]:
    return dataset.images[dataset.rows(split)[part]].astype(np.float32) * np.float32(dataset.scale)


def _checked(place: str, found: Any, n: int) -> np.ndarray:
    array = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found)
    if array.ndim != 2 or len(array) != n or array.dtype.kind != "f":
        told = f"({n}, d) floating-point numbers are wanted for {n} images, got {array.shape} {array.dtype}"
        raise _refused(place, told, "return one row per image")
    return array


def _reader(spec: FeatureGmm, seed: int, device: str) -> Read:
    """A function of images, be it of the user or of torchvision."""
    if spec.features.startswith(TORCHVISION):
        return _Classifier(spec.features.removeprefix(TORCHVISION), seed if not spec.pretrained else None, device)
    with arithmetic.kept():
        theirs = torch.no_grad()(foreign.function(spec.features, spec.source))
    return lambda images: called(theirs, torch.from_numpy(images).to(device))


class _Classifier:
    """What the last linear layer of a classifier of torchvision reads.

    Args:
        seed: of random weights; None for the trained ones.
    """

    def __init__(self, name: str, seed: int | None, device: str):
        from torchvision import models  # noqa: PLC0415 - only who asks for it needs it

        known = models.list_models(models)
        if name not in known:
            close = difflib.get_close_matches(name, known) or known[:6]
            remedy = f"choose one of {', '.join(close)}; torchvision.models.list_models() has them all"
            raise _refused(f"{TORCHVISION}{name}", f"torchvision has no classifier {name}", remedy)
        weights = models.get_model_weights(name)["DEFAULT"]
        made = _trained(name, weights) if seed is None else _drawn(name, seed)
        layers = [layer for layer in made.modules() if isinstance(layer, nn.Linear)]
        if not layers:
            told, remedy = f"{name} of torchvision has no linear layer", "choose another, such as resnet18 or vit_b_16"
            raise _refused(f"{TORCHVISION}{name}", told, remedy)
        self._model, self._prepare, self._device = made.to(device).eval(), weights.transforms(), device
        self._read: list[Tensor] = []
        layers[-1].register_forward_pre_hook(lambda _, given: self._read.append(given[0]))

    @torch.inference_mode()
    def __call__(self, images: Float[np.ndarray, "n C H W"]) -> Tensor:
        x = torch.from_numpy(images).to(self._device)
        self._read.clear()
        self._model(self._prepare(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x))
        return self._read[-1].flatten(1)


def _trained(name: str, weights: Any) -> nn.Module:
    from torchvision import models  # noqa: PLC0415

    try:
        return models.get_model(name, weights=weights)
    except OSError as error:
        raise DataFault(
            f"the trained weights of {name} could not be fetched: {error}",
            f"bring {Path(weights.url).name} to {torch.hub.get_dir()}/checkpoints, or say --teacher.no-pretrained",
            where=weights.url,
        ) from error


def _drawn(name: str, seed: int) -> nn.Module:
    from torchvision import models  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return models.get_model(name, weights=None)


def _digests(dataset: Dataset, split: Split) -> np.ndarray:
    """The first digits of the SHA-256 over each image."""
    images = (dataset.images[row] for row in dataset.rows(split))
    told = (hashlib.sha256(image.tobytes()).hexdigest()[:DIGITS] for image in images)
    return np.array(list(told), dtype=f"U{DIGITS}")


def _refused(place: str, what: str, remedy: str) -> DataFault:
    return DataFault(what, remedy, where=place)
