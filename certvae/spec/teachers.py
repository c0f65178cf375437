"""Teachers: where T(x) comes from. Each is fixed before alignment begins, and its source stands in every table."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from certvae import foreign
from certvae.canonical import fields_of
from certvae.installed import version
from certvae.quality import Thresholds
from certvae.spec import files
from certvae.spec.parts import Classes, Count, CountOrNone, Covariance, Positive, Several, Share, Weight
from certvae.spec.validation import refuse, spec

TORCHVISION = "torchvision:"


@spec
class Gmm:
    """Candidates for a teacher: Gaussian mixtures on frozen features."""

    classes: Classes = 10
    """K, the number of components."""
    whitening: Several[CountOrNone] = (0, 16, 32, 64)
    """PCA-whitening dimensions to try; 0 leaves the features as they are."""
    covariance: Several[Covariance] = ("diag", "tied", "spherical")
    """Shapes of the covariance to try."""
    regulariser: Several[Weight] = (1e-4, 1e-3, 1e-2)
    """Added to the diagonal of covariances."""
    temperature: Several[Positive] = (1.0, 2.0, 4.0)
    """Posterior logits are divided by it: larger is softer."""
    initialisations: Count = 3
    """Starts of k-means to try."""
    fit_rows: Annotated[int, Ge(2)] = 50_000
    """At most so many train rows are used for a fit."""
    max_iterations: Count = 100
    """Steps of EM at most."""
    smoothing: Share = 0.01
    """eps of T = (1 - eps) posterior + eps / K. The smoothed rows are the teacher."""
    thresholds: Thresholds = Thresholds()


@spec
class WarmUpGmm(Gmm):
    """Candidates for the teacher: Gaussian mixtures on frozen warm-up features (arXiv 2605.05813, teacher search).

    Every combination of whitening, covariance, regulariser and initialisation is one fit; each fit is read at every
    temperature. The best strict-feasible candidate on the guard rows wins; if there is none, the best of all is run as
    a stress case.
    """


def require_smoothing(where: str, eps: float) -> None:
    """Refuses teacher rows that may hold a zero.

    Raises:
        ConfigFault: eps is 0.
    """
    if eps == 0:
        raise refuse(f"{where}.smoothing", "> 0", eps, "the analytic code of a row with a zero is infinite; try 0.05")


@spec
class PcaGmm:
    """Candidates for a label-free teacher: Gaussian mixtures on principal components of the pixels.

    The paper asks for nontrivial information at a controlled log-odds energy and prints no grid. Every combination of
    whitening, covariance, regulariser and initialisation is one fit, read at every temperature. Among the candidates
    inside the thresholds and the energy budget the one with the largest I_T - energy_price e* on the guard rows wins;
    if there is none, the best of all is run as a stress case. K is fixed, because a larger K buys I_T by itself.
    """

    classes: Classes = 10
    """K, the number of components."""
    whitening: Several[Count] = (16, 32, 64)
    """Numbers of whitened principal components to try."""
    covariance: Several[Covariance] = ("diag", "tied", "full")
    """Shapes of the covariance to try."""
    regulariser: Several[Weight] = (1e-4, 1e-2)
    """Added to the diagonal of covariances."""
    temperature: Several[Positive] = (1.0, 2.0, 5.0)
    """Posterior logits are divided by it: raw posteriors in many dimensions are nearly one-hot."""
    initialisations: Count = 3
    """Starts of k-means to try."""
    fit_rows: Annotated[int, Ge(2)] = 20_000
    """At most so many train rows are used for a fit."""
    max_iterations: Count = 100
    """Steps of EM at most."""
    smoothing: Share = 0.05
    """eps of T = (1 - eps) posterior + eps / K, > 0: the analytic code needs strictly positive rows."""
    energy_budget: Positive = 1.0
    """Largest energy e* of the analytic code at gain beta = 5, nats."""
    energy_price: Weight = 1.0
    """Information that a nat of energy must buy."""
    shift: CountOrNone = 0
    """The teacher sees each image moved by up to so many pixels, one fixed draw per image; the student never does."""
    thresholds: Thresholds = Thresholds(info_share=0.3)

    def __post_init__(self) -> None:
        require_smoothing("PcaGmm", self.smoothing)


@spec
class Labels:
    """Smoothed true labels. Printed numbers of arXiv 2605.18224 for MNIST are those of this teacher: it is here to
    reproduce them, and every table names it."""

    classes: Classes = 10
    """K; must be the number of classes of the data."""
    smoothing: Share = 0.05
    """eps of T = (1 - eps) onehot + eps / K, > 0."""
    thresholds: Thresholds = Thresholds(info_share=0.3)

    def __post_init__(self) -> None:
        require_smoothing("Labels", self.smoothing)


@spec
class FeatureGmm(Gmm):
    """The same search on features that you bring, such as those of DINO or CLIP.

    FeatureGmm("features.npz")             arrays train, guard and certify, (rows, d): see `certvae.spec.files`
    FeatureGmm("mynets:features")          a function: images (n, C, H, W), float32 in [0, 1] -> (n, d)
    FeatureGmm("torchvision:resnet18")     what the last linear layer of a classifier of torchvision reads
    """

    features: str = field(kw_only=False)
    """A file, module:function, or torchvision:NAME."""
    pretrained: bool = True
    """torchvision's trained weights, which it downloads; random ones of the teacher's seed otherwise."""
    source: str = ""
    """Digest of the file's arrays or of the function's text, or the version of torchvision; read when absent."""

    def __post_init__(self) -> None:
        if self.is_file:
            object.__setattr__(self, "features", _whole(self.features))
        object.__setattr__(self, "source", self.source or self._source())

    @property
    def is_file(self) -> bool:
        """Whether features lie in a file: a name with a dot and without a colon."""
        return not foreign.is_reference(self.features)

    def identity(self) -> dict[str, Any]:
        """What names it: the content of a file, wherever it lies."""
        named = fields_of(self, later=())
        return {**named, "features": "file"} if self.is_file else named

    def _source(self) -> str:
        if self.features.startswith(TORCHVISION):
            return version("torchvision")
        if not self.is_file:
            return foreign.source(self.features)
        path = Path(self.features)
        return files.digest(path, files.stamp_of(path))


@spec
class Given:
    """Teacher rows as they are in a file: zero-shot posteriors of CLIP, say. `certvae.spec.files` says which arrays."""

    rows: str = field(default="", kw_only=False)
    """An .npz file with arrays train, guard and certify, (rows, K), each row a distribution; a row of a study, which
    holds no path, names the content alone."""
    classes: CountOrNone = 0
    """K; the number of columns of the file when 0."""
    smoothing: Share = 0.01
    """eps of T = (1 - eps) row + eps / K. The smoothed rows are the teacher."""
    thresholds: Thresholds = Thresholds()
    source: str = ""
    """Digest of the file's arrays; read when absent."""

    def __post_init__(self) -> None:
        path = Path(self.rows).expanduser().absolute()
        if self.rows or not self.source:
            object.__setattr__(self, "rows", str(path))
        if not self.source:
            object.__setattr__(self, "source", files.digest(path, files.stamp_of(path)))
        if not self.classes:
            object.__setattr__(self, "classes", files.wanted(path, self.source)["train"].shape[1])

    def identity(self) -> dict[str, Any]:
        """What names it: the content of the file, wherever it lies."""
        return {name: value for name, value in fields_of(self, later=()).items() if name != "rows"}


Fixed = PcaGmm | Labels | FeatureGmm | Given
"""Teachers that never see an encoder."""
Teacher = WarmUpGmm | Fixed


def _whole(path: str) -> str:
    return str(Path(path).expanduser().absolute())
