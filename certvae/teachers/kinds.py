"""Teachers: a Gaussian mixture read on features of an encoder or on principal components of pixels; smoothed labels.

A frozen teacher is a mixture on the features of a frozen encoder: T is a function of x. A live teacher is the same
mixture on the features of the encoder that is being trained: it drifts with it (arXiv 2605.05813). The other two read
no encoder, so they are fixed before any network exists (arXiv 2605.18224). With `shift` > 0 the mixture on pixels sees
each image moved by one draw of its own, and the student sees it as it is: two views of one image.

    features (n, d)       posterior means of an encoder      T  (n, K)  teacher rows, float32, strictly positive
    images  (n, C, H, W)  uint8, times scale in [0, 1]       R  views of an image: all shifts by -s..s in both axes
    scores  (n, p)        principal components of pixels
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset, Split
from certvae.errors import ConfigFault
from certvae.quality import measure
from certvae.simplex import code_energy, smoothed_one_hot, view_gap
from certvae.spec.teachers import Labels, PcaGmm
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench
from certvae.teachers.mixture import FITTED, Features, Mixture, Rows
from certvae.teachers.searching import ENERGY_GAIN, search
from certvae.training.batches import Batch

SMALLEST_VARIANCE = 1e-6  # of the largest: a component that varies less is a constant pixel, and is not whitened
CHUNK = 2048  # images per block of scores
Shift = tuple[int, int]


@dataclass(frozen=True)
class FeatureTeacher:
    """The chosen mixture of a teacher search, tempered and smoothed: T as a function of features."""

    mixture: Mixture
    temperature: float
    smoothing: float
    device: str

    @classmethod
    def of(cls, teacher: Artifact, device: str) -> Self:
        """The teacher of the artifact of a search."""
        chosen, arrays = teacher.facts["chosen"], teacher.arrays
        fitted = {name: arrays[name] for name in (*FITTED, "pca_mean", "pca_map") if name in arrays}
        mixture = Mixture(chosen["covariance"], fitted)
        return cls(mixture, chosen["temperature"], teacher.facts["smoothing"], device)

    def rows(self, features: Features) -> Rows:
        """T of these features, float32."""
        return self.mixture.teacher(
            features, temperature=self.temperature, smoothing=self.smoothing, device=self.device
        )

    def __call__(self, batch: Batch, mu: Float[Tensor, "n d"]) -> Tensor:  # noqa: ARG002 - live: only the features count
        return torch.from_numpy(self.rows(mu.detach().cpu().numpy())).to(mu.device)


@dataclass(frozen=True)
class LabelTeacher:
    """(1 - eps) onehot(label) + eps / K: what the printed MNIST table was made with."""

    classes: int
    smoothing: float

    def rows(self, dataset: Dataset, split: Split) -> Rows:
        """T of every row of a split."""
        labels = dataset.labels[dataset.rows(split)]
        return smoothed_one_hot(labels, self.classes, self.smoothing).astype(np.float32)

    def view_gap(self, dataset: Dataset, split: Split) -> float:  # noqa: ARG002 - a label is the same in every view
        """0 nats: all views of an image have its label."""
        return 0.0


@dataclass(frozen=True)
class PixelScores:
    """Principal components of pixels, as features of a mixture."""

    mean: Float[np.ndarray, " D"]
    components: Float[np.ndarray, "D p"]

    @classmethod
    def fit(cls, images: UInt8[np.ndarray, "n C H W"], scale: float, most: int) -> Self:
        """Fits the first principal components, at most `most`, of those that vary at all."""
        pixels = images.reshape(len(images), -1) * scale
        mean = pixels.mean(axis=0)
        pixels -= mean
        variance, basis = np.linalg.eigh(pixels.T @ pixels / len(pixels))
        varies = int((variance > SMALLEST_VARIANCE * variance[-1]).sum())
        kept = max(1, min(most, varies))
        return cls(mean, np.ascontiguousarray(basis[:, ::-1][:, :kept]))

    def of(self, images: UInt8[np.ndarray, "n C H W"], scale: float) -> Features:
        """Scores of images, float64."""
        blocks = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
        return np.concatenate([(b.reshape(len(b), -1) * scale - self.mean) @ self.components for b in blocks])


@dataclass(frozen=True)
class PixelTeacher:
    """A chosen mixture on pixel scores, tempered and smoothed.

    shift   largest shift of the view that the teacher sees, in pixels
    seed    of the draw of one view per image
    """

    scores: PixelScores
    reader: FeatureTeacher
    shift: int
    seed: int

    def rows(self, dataset: Dataset, split: Split) -> Rows:
        """T of the view of every row of a split: of the image itself without a shift."""
        images, views = dataset.images[dataset.rows(split)], drawn_views(dataset, split, self.shift, self.seed)
        seen = np.empty_like(images)
        for view in shifts(self.shift):
            has = (views == view).all(axis=1)
            seen[has] = shifted(images[has], view)
        return self._read(seen, dataset.scale)

    def views(self, dataset: Dataset, split: Split) -> Float[np.ndarray, "n R K"]:
        """T of every view of every row of a split, float64: views are equally likely, so means over them are exact."""
        images = dataset.images[dataset.rows(split)]
        rows = [self._read(shifted(images, view), dataset.scale) for view in shifts(self.shift)]
        views = np.stack(rows, axis=1).astype(np.float64)
        return views / views.sum(axis=2, keepdims=True)

    def view_gap(self, dataset: Dataset, split: Split) -> float:
        """The floor of L_TS, nats: what the view tells the teacher and not the student (arXiv 2605.18224, view gap)."""
        return view_gap(self.views(dataset, split)) if self.shift else 0.0

    def _read(self, images: UInt8[np.ndarray, "n C H W"], scale: float) -> Rows:
        return self.reader.rows(self.scores.of(images, scale))


def drawn_views(dataset: Dataset, split: Split, most: int, seed: int) -> Int64[np.ndarray, "n 2"]:
    """The shift of the view of every row of a split, by up to so many pixels."""
    views = np.array(shifts(most))
    return views[np.random.default_rng(seed).integers(0, len(views), len(dataset.images))[dataset.rows(split)]]


def shifts(most: int) -> tuple[Shift, ...]:
    """All shifts (down, right) by up to so many pixels, (2 most + 1)^2 of them."""
    steps = range(-most, most + 1)
    return tuple(itertools.product(steps, steps))


def shifted(images: UInt8[np.ndarray, "n C H W"], shift: Shift) -> UInt8[np.ndarray, "n C H W"]:
    """Images moved down and right; pixels at the edge are repeated into the gap."""
    (down, right), (height, width) = shift, images.shape[2:]
    rows, columns = np.arange(height) - down, np.arange(width) - right
    return images[:, :, np.clip(rows, 0, height - 1)][:, :, :, np.clip(columns, 0, width - 1)]


def label_content(dataset: Dataset, spec: Labels) -> Content:
    """The artifact of a label teacher.

    Raises:
        ConfigFault: K is not the number of classes of the data.
    """
    check_classes(dataset, spec)
    teacher = LabelTeacher(spec.classes, spec.smoothing)
    facts = {"chosen": {}, "candidates": [], "source": "labels"}
    return _content(teacher, dataset, spec, {}, facts)


def pixel_content(dataset: Dataset, spec: PcaGmm, seed: int, bench: Workbench) -> Content:
    """The artifact of a PCA-GMM search: fitted on train rows, chosen on guard rows, never shifted while fitted.

    Raises:
        TeacherFault: fewer rows than components, no candidate that could be fitted, or a constant teacher.
    """
    drawn = stage_seed(seed, "teacher")
    train, guard = (dataset.images[dataset.rows(split)] for split in ("train", "guard"))
    fitted = np.sort(np.random.default_rng(drawn).permutation(len(train))[: spec.fit_rows])
    scores = PixelScores.fit(train[fitted], dataset.scale, max(spec.whitening))
    features, held_out = (scores.of(images, dataset.scale) for images in (train, guard))
    found = search(features, held_out, spec, seed=drawn, device=bench.device, report=bench.report)
    reader = FeatureTeacher(found.mixture, found.chosen.temperature, spec.smoothing, bench.device)
    teacher = PixelTeacher(scores, reader, spec.shift, drawn)
    arrays = {**found.mixture.arrays, "pixel_mean": scores.mean, "pixel_components": scores.components}
    facts = {**found.facts(), "source": "pca_gmm", "shift": spec.shift, "view_seed": drawn}
    return _content(teacher, dataset, spec, arrays, facts)


@dataclass(frozen=True)
class KeptTeacher:
    """A teacher that a user brought, as the rows that were kept of every split."""

    kept: Mapping[str, Rows]

    def rows(self, dataset: Dataset, split: Split) -> Rows:  # noqa: ARG002 - they were compared when they were kept
        """T of every row of a split."""
        return self.kept[f"targets_{split}"]

    def view_gap(self, dataset: Dataset, split: Split) -> float:  # noqa: ARG002 - there is one row per image
        """0 nats: the teacher sees what the student sees."""
        return 0.0


def read(teacher: Artifact, device: str) -> LabelTeacher | PixelTeacher | KeptTeacher:
    """The teacher of an artifact, as a function of images, of labels, or of rows."""
    facts, arrays = teacher.facts, teacher.arrays
    if "targets_certify" in arrays:
        return KeptTeacher(arrays)
    if "pixel_components" not in arrays:
        return LabelTeacher(facts["classes"], facts["smoothing"])
    scores = PixelScores(arrays["pixel_mean"], arrays["pixel_components"])
    return PixelTeacher(scores, FeatureTeacher.of(teacher, device), facts["shift"], facts["view_seed"])


def check_classes(dataset: Dataset, spec: Labels) -> None:
    """Refuses a label teacher whose K is not that of the data. Raises: ConfigFault, or DataFault without labels."""
    if len(dataset.labels) and spec.classes != dataset.classes:
        raise ConfigFault(
            f"classes must be {dataset.classes}, got {spec.classes}",
            f"set --teacher.classes {dataset.classes}, or keep fewer classes (--data.classes)",
            where="Labels.classes",
            cause=f"{dataset.name} has {dataset.classes} classes, and this teacher is their labels",
        )


def _content(
    teacher: LabelTeacher | PixelTeacher,
    dataset: Dataset,
    spec: Labels | PcaGmm,
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
) -> Content:
    """Q of every train and guard row is cached in row order; certify rows are read when that split is opened."""
    targets = {f"targets_{split}": teacher.rows(dataset, split) for split in ("train", "guard")}
    guard = targets["targets_guard"].astype(np.float64)
    quality = {**asdict(measure(guard)), "code_energy": code_energy(guard, ENERGY_GAIN)}
    known = {"classes": spec.classes, "smoothing": spec.smoothing, "quality": quality}
    return Content({**arrays, **targets}, {**known, **facts})
