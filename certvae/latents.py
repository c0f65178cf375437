"""Certify what was trained elsewhere: latent rows and features of the same images are all that is needed.

    import numpy as np
    from certvae import certify_latents

    train = np.load("z_train.npy"), np.load("f_train.npy")
    print(certify_latents(train, certify=(np.load("z.npy"), np.load("f.npy"))))

A teacher is fitted to features of the images, then the best affine head to the latents of the train rows; both are held
against certify rows, which neither has seen. So nobody needs to have trained a head, and what fails is the latent.

    z  (n, d)  posterior means, or any code of an encoder      f  (n, p)  features of the same rows
    T  (n, K)  teacher rows, a function of f                   logvar (n, d)  of q(z|x) = N(z, diag exp(logvar))

Features may be anything that is computed without the latent: those of another network, or pixels. Images are flattened.
They also tell images apart: a certify row whose features equal those of a train row, or of one before it, counts for no
bound, and with more than 1 % of the first there is no claim about the population; see `certvae.preconditions`. Where
nearly all train rows share features, as with labels, equal latents and features tell that two rows are of one image.
Where they share both, as those of a discrete code and labels, nothing tells, and that images differ is for the caller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Float

from certvae import answers
from certvae.answers import Channel, Head, Mean
from certvae.certificate import LEAST, Certificate, Pairs, Reference, View
from certvae.errors import ConfigFault
from certvae.evaluation import diagnostics
from certvae.evaluation.heads import AffineHead, affine_head
from certvae.preconditions import Preconditions, digests, warnings, withheld
from certvae.quality import TeacherQuality, Verdict, judge
from certvae.spec.rescue import WarmUpGmm
from certvae.spec.validation import refuse
from certvae.teachers import mixture
from certvae.teachers.mixture import Mixture
from certvae.teachers.searching import Candidate, search

HELD_OUT = 0.2  # share of the train rows that choose the teacher and stop the fit of a head
GRID = {"whitening": (0, 16), "regulariser": (1e-3, 1e-2), "initialisations": 1}
"""Of the usual teacher search: twelve fits, seconds for ten thousand rows."""
WIDE, NARROW = 1024, 64
"""Features of more columns, such as pixels, are read by so many principal components: the time of a mixture grows with
the cube of its columns."""
SMOOTHING = 0.01  # eps of the teacher that is fitted here
TELLING = 0.1
"""Share of train rows that must differ in what tells images apart: images in ten copies do, labels do not."""
BATCHES = 2, 4
"""Axes of one array of a list: of vectors, or of images, as Lightning's predict returns them. An image has 3 itself."""
WIDER = "\n         every posterior is wider than its prior: give logarithms of variances, if these are none"
LARGEST_LOGVAR = float(np.log(np.finfo(np.float32).max))
Rows = Float[np.ndarray, "n K"]


@dataclass(frozen=True, eq=False)
class FittedTeacher:
    """A mixture on features, tempered and smoothed: T as a function of features.

    quality  on the rows that chose it; verdict  what quality control says of it
    """

    mixture: Mixture
    chosen: Candidate
    smoothing: float
    quality: TeacherQuality
    verdict: Verdict

    def rows(self, features: Any) -> Rows:
        """T of these features, float32. Raises ConfigFault for rows that are not finite, or of another width."""
        found = _matrix("features", features)
        _same("features", found.shape[1:], "those that the teacher was fitted to", (self.mixture.columns,))
        return self.mixture.teacher(found, temperature=self.chosen.temperature, smoothing=self.smoothing)

    def __str__(self) -> str:
        read = self.mixture.arrays["means_"].shape[1]
        whole = "the features" if read == self.mixture.columns else f"{read} components of the features"
        kept = f"{self.chosen.whitening} whitened components" if self.chosen.whitening else whole
        return (
            f"mixture of K = {self.quality.classes} on {kept} ({self.chosen.covariance}), held-out I_T "
            f"{self.quality.info:.3f} nats; {self.verdict}"
        )


@np.errstate(under="ignore")
def fit_teacher(features: Any, *, classes: int = 10, smoothing: float = SMOOTHING, seed: int = 0) -> FittedTeacher:
    """The best of several Gaussian mixtures on features, by the quality control of studies (arXiv 2605.05813).

    Args:
        features: (n, p) rows that were seen in training; a fifth of them, drawn by the seed, chooses.
        classes: K, components of the mixture.

    Raises:
        ConfigFault: rows that are not finite numbers, or a K below 2.
        TeacherFault: fewer rows than components, nothing that could be fitted, or a teacher without information.
    """
    rows = _matrix("features", features)
    fitted, held = _halves(len(rows), seed)
    return _fitted(rows[fitted], rows[held], classes, smoothing, seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentCertificate:
    """What latents of certify rows show, by level: the head, the mean, the channel (see `certvae.answers`).

    on_means       of the affine head that was fitted to latents; its three claims are those of any certificate
    on_draws       of one that reads draws; None where there are none
    gain           Lipschitz constant of the head on means, nats per unit of z
    posterior_std  mean standard deviation of q(z|x); None where neither logvar nor draws are given
    kl_rate        nats against N(0, I); None without logvar
    least_logvar   of all rows; None without them
    rows           which certify rows count
    """

    teacher: FittedTeacher
    on_means: Certificate
    on_draws: Certificate | None
    gain: float
    posterior_std: float | None
    kl_rate: float | None
    least_logvar: float | None
    n_train: int
    rows: Preconditions

    @property
    def head(self) -> Head | None:
        """Whether the fitted head follows the teacher in the population."""
        return answers.head(self.as_row())

    @property
    def mean(self) -> Mean | None:
        """Whether the latents vary with the image in a way that matters."""
        return answers.mean(self.as_row())

    @property
    def channel(self) -> Channel | None:
        """Whether draws carry information; None where there are neither draws nor logvar."""
        return answers.channel(self.as_row())

    @property
    def collapsed(self) -> bool:
        """Only a dead channel is a collapse."""
        return answers.collapsed(self.as_row())

    def as_row(self) -> dict[str, Any]:
        """All numbers as one flat dict, by the names that rows of a study have; no bound where there is no claim."""
        draws = self.on_draws
        found = {
            **self.on_means.as_row(),
            "affine_margin": self.on_means.margin,
            "affine_population_bound": self.on_means.population_bound,
            "affine_gain": self.gain,
            "sampled_affine_margin": None if draws is None else draws.margin,
            "sampled_affine_population_bound": None if draws is None else draws.population_bound,
            "posterior_std": self.posterior_std,
            "kl_rate": self.kl_rate,
            "teacher_status": self.teacher.verdict.status,
            "withheld": (why := withheld(self.rows.facts)) or None,
            "preconditions": "; ".join(self._warnings) or None,
        }
        return {name: None if why and name.endswith("_bound") else value for name, value in found.items()}

    @property
    def _warnings(self) -> list[str]:
        return warnings(self.rows.facts, self.on_means.classes)

    def summary(self) -> str:
        """Teacher, head, mean and channel in words, each with its numbers."""
        found, row = self.on_means, self.as_row()
        spread = answers.spread_bound(row) or 0.0
        noise = "unknown without logvar" if self.posterior_std is None else f"{self.posterior_std:.3g}"
        drawn = "no draws" if self.on_draws is None else f"lower bound on draws {_bound(row, 'sampled_affine_')}"
        rate = "" if self.kl_rate is None else f", KL rate {self.kl_rate:.4g} nats"
        wide = "" if (self.least_logvar or 0.0) <= 0 else WIDER
        sure = f"confidence {1 - found.delta:g}, looks {found.looks}"
        return (
            f"teacher  {self.teacher}\n"
            + "".join(f"rows     {line}\n" for line in self._warnings)
            + f"head     {self.head or 'no claim'}: margin {found.margin:+.4f} of I_T {found.info:.4f}, lower bound "
            f"{_bound(row)} ({sure}),\n"
            f"         an affine head fitted to {self.n_train} train rows, held against {found.n} certify rows; nats\n"
            f"mean     {self.mean or 'no claim'}: spread of the latents at least {spread:.3g}, posterior standard "
            f"deviation {noise}, gain {self.gain:.3g}\n"
            f"channel  {self.channel or 'not looked at'}: {drawn}{rate}{wide}"
        )

    def __str__(self) -> str:
        return self.summary()

    __repr__ = __str__


def _bound(row: Mapping[str, Any], head: str = "") -> str:
    bound = row[f"{head}population_bound"]
    return "withheld" if bound is None else f"{bound:+.4f}"


Latents = tuple[Any, Any]


@np.errstate(under="ignore")
def certify_latents(
    train: Latents,
    certify: Latents,
    *,
    draws: Any = None,
    logvar: tuple[Any, Any] | None = None,
    teacher: FittedTeacher | None = None,
    classes: int = 10,
    delta: float = 0.05,
    looks: int = 1,
    seed: int = 0,
) -> LatentCertificate:
    """Head, mean and channel of an encoder that was trained elsewhere.

    Arrays, tensors (with gradients too), data frames and sparse matrices are taken. Train and certify rows must be of
    other images: rows with equal features (where nearly all train rows share theirs: with equal latents too) are
    counted, and with more than 1 % of them there is no claim about the population.

    Args:
        train: (z, f), latents and features of rows that training has seen; a fifth is held out of every fit.
        certify: (z, f) of rows that neither training nor any choice has seen.
        draws: z ~ q(z|x) of the certify rows; or a pair, of the train rows, to which a head is fitted, and of these.
        logvar: of the train and of the certify rows: tells the KL rate and, where no draws are given, makes them.
        teacher: from `fit_teacher`, where K or the features are chosen beforehand; the features are then its own.
        classes: K of the teacher that is fitted here.
        delta: one minus the confidence of each bound.
        looks: how often these certify rows were looked at, this time included.
        seed: of the rows that are held out, the starts of the mixture, and the draws.

    Raises:
        ConfigFault: rows that do not belong together, or are not finite numbers; an option out of range; draws that
            say more than their KL rate.
        TeacherFault: see `fit_teacher`.
    """
    _check_options(delta, looks)
    (z, f), (z_certify, f_certify) = _pair("train", train), _pair("certify", certify)
    _same("certify: latents", z_certify.shape[1:], "train: latents", z.shape[1:])
    _same("certify: features", f_certify.shape[1:], "train: features", f.shape[1:])
    fitted, held = _halves(len(z), seed)
    taught = teacher or _fitted(f[fitted], f[held], classes, SMOOTHING, seed)
    T, T_certify = taught.rows(f), taught.rows(f_certify)
    rows = _tested((z, f), (z_certify, f_certify), map(_fewer_digits, train, certify))
    given = _Given(T, T_certify, fitted, held, taught.smoothing, delta, looks, rows)
    variances = None if logvar is None else _logvars(logvar, z, z_certify)
    drawn = _draws(draws, variances, z, z_certify, seed)
    head = given.head(z)
    found = LatentCertificate(
        teacher=taught,
        on_means=given.certificate(head, z_certify, "mu"),
        on_draws=None if drawn is None else given.certificate(given.head(drawn[0]), drawn[1], "sampled"),
        gain=head.gain,
        posterior_std=_posterior_std(variances, drawn, z_certify),
        kl_rate=None if variances is None else diagnostics.kl_rate(z_certify, variances[1]),
        least_logvar=None if variances is None else float(min(rows.min() for rows in variances)),
        n_train=len(z),
        rows=rows,
    )
    if draws is not None and variances is not None:
        _check_draws(found, z_certify, variances[1])
    return found


def _check_draws(found: LatentCertificate, mu: np.ndarray, logvar: np.ndarray) -> None:
    """Draws of q(z|x) tell of the image what their KL rate is at most (arXiv 2605.05813; Barber and Agakov 2003)."""
    if (bound := found.as_row()["sampled_affine_population_bound"]) is None:
        return
    counted = found.rows.counted  # what the bound rests on
    if bound > (rate := diagnostics.kl_rate(mu[counted], logvar[counted])):
        raise ConfigFault(
            f"draws carry at least {bound:.3g} nats, and q(z|x) of these means and logvar at most {rate:.3g}",
            "give draws mu + exp(logvar / 2) * noise, or leave draws away: logvar makes them",
            where="draws",
            cause="what is no draw, such as the mean, can say more than the channel carries",
        )


def _fewer_digits(*given: Any) -> np.dtype:
    """The type of fewest digits that arrays came in: what is kept in float16 equals itself in float32."""
    floats = (kind for kind in (_on_host(one).dtype for one in given) if kind.kind == "f")
    return min(floats, key=lambda kind: kind.itemsize, default=np.dtype(np.float64))


def _tested(
    train: tuple[np.ndarray, np.ndarray], certify: tuple[np.ndarray, np.ndarray], kinds: Iterable[np.dtype]
) -> Preconditions:
    """Which certify rows are of an image that is among the train rows, or among the certify rows before them.

    Args:
        kinds: of latents and of features, in which they are compared.

    Features alone tell unless nearly all train rows share theirs: the latent of an image that was encoded again is
    another one by rounding. Labels, or coarse features, are shared by images; then latents tell them apart. Where those
    are few as well, as of a code that is constant or discrete, nothing tells: every row is its own, and that is said.
    """
    of_z, of_f = kinds  # where a small negative number may round to -0
    train, certify = ((z.astype(of_z) + 0.0, f.astype(of_f) + 0.0) for z, f in (train, certify))
    for seen, shown in ((train[1], certify[1]), (np.hstack(train), np.hstack(certify))):
        names = digests(seen)
        if len(np.unique(names)) >= TELLING * len(names):
            return Preconditions.of(digests(shown), names, names[:0])
    numbers = digests(np.arange(len(names) + len(certify[1])))
    found = Preconditions.of(numbers[len(names) :], numbers[: len(names)], numbers[:0])
    return replace(found, facts={**found.facts, "untold": True})


def _check_options(delta: float, looks: int) -> None:
    if not (isinstance(looks, Integral) and looks >= 1):
        raise refuse("looks", "a whole number >= 1", looks, "count how often these certify rows were opened")
    if not LEAST <= delta / looks < 1:
        raise refuse("delta", "a share in (0, 1)", delta, "give one minus the confidence, such as 0.05")


@dataclass(frozen=True)
class _Given:
    """Teacher rows of both splits, and which train rows are held out."""

    T: Rows
    T_certify: Rows
    fitted: np.ndarray
    held: np.ndarray
    smoothing: float
    delta: float
    looks: int
    rows: Preconditions

    def head(self, z: np.ndarray) -> AffineHead:
        return affine_head(z[self.fitted], self.T[self.fitted], z[self.held], self.T[self.held])

    def certificate(self, head: AffineHead, z: np.ndarray, view: View) -> Certificate:
        pairs = Pairs.from_logits(self.T_certify, head.logits(z), split="certify", view=view)
        reference = Reference(teacher=self.T, split="train")
        return self.rows.certify(pairs, delta=self.delta, looks=self.looks, eps=self.smoothing, reference=reference)


def _fitted(rows: np.ndarray, held: np.ndarray, classes: int, smoothing: float, seed: int) -> FittedTeacher:
    spec = WarmUpGmm(classes=classes, smoothing=smoothing, fit_rows=max(2, len(rows)), **GRID)
    basis = mixture.principal(rows, NARROW, seed) if rows.shape[1] > WIDE else {}
    narrow, narrow_held = mixture.whiten(rows, basis), mixture.whiten(held, basis)
    found = search(narrow, narrow_held, spec, seed=seed, device="cpu", report=lambda _: None)
    verdict = judge(found.quality, spec.thresholds)
    return FittedTeacher(found.mixture.behind(basis), found.chosen, smoothing, found.quality, verdict)


def _halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit to, and rows to hold out."""
    if seed < 0:
        raise refuse("seed", "0 or more", seed, "give any other whole number")
    order = np.random.default_rng(seed).permutation(n)
    held = round(HELD_OUT * n)
    return np.sort(order[held:]), np.sort(order[:held])


def _draws(
    draws: Any, logvar: tuple[np.ndarray, np.ndarray] | None, z: np.ndarray, z_certify: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows that the head on draws is fitted to, draws of the certify rows)."""
    if draws is not None:
        return _beside("draws", draws if isinstance(draws, tuple) else (z, draws), z, z_certify)
    if logvar is None:
        return None
    noise = np.random.default_rng([seed, 1])
    return diagnostics.sampled(z, logvar[0], noise), diagnostics.sampled(z_certify, logvar[1], noise)


def _posterior_std(
    logvar: tuple[np.ndarray, np.ndarray] | None, drawn: tuple[np.ndarray, np.ndarray] | None, z: np.ndarray
) -> float | None:
    """Mean standard deviation, told by logvar or seen in the draws."""
    if logvar is not None:
        return float(np.exp(0.5 * logvar[1]).mean())
    return None if drawn is None else float(np.sqrt(np.square(drawn[1] - z).mean()))


def _logvars(given: Latents, z: np.ndarray, z_certify: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = _beside("logvar", given, z, z_certify)
    if (largest := max(rows.max() for rows in found)) > LARGEST_LOGVAR:
        raise ConfigFault(
            f"logvar must be {LARGEST_LOGVAR:.4g} at most, got {largest:.4g}",
            "look for overflow in the encoder",
            where="logvar",
            cause="float32 holds no such variance",
        )
    return found


def _beside(name: str, given: Latents, z: np.ndarray, z_certify: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of train and of certify, each with the shape of their latents."""
    _check_pair(name, given, "(of the train rows, of the certify rows)")
    found = _matrix(f"{name} of train", given[0]), _matrix(f"{name} of certify", given[1])
    for split, rows, latents in (("train", found[0], z), ("certify", found[1], z_certify)):
        _same(f"{name} of {split}", rows.shape, "their latents", latents.shape)
    return found


def _pair(name: str, given: Latents) -> tuple[np.ndarray, np.ndarray]:
    _check_pair(name, given, "(z, f), latents and features of the same rows")
    z, f = _matrix(f"{name}: latents", given[0]), _matrix(f"{name}: features", given[1])
    _same(f"{name}: features", (len(f),), "latents", (len(z),))
    return z, f


def _check_pair(name: str, given: Any, wanted: str) -> None:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ConfigFault(f"{name} must be {wanted}", "give two arrays in a tuple", where=name)


def _matrix(name: str, given: Any) -> Float[np.ndarray, "n d"]:
    """Rows of numbers, float64; what has more axes than two is flattened."""
    if isinstance(given, list | tuple) and given and getattr(given[0], "ndim", 1) in BATCHES:
        raise ConfigFault(
            f"{name} must be one array, found a {type(given).__name__} of arrays of shape {tuple(given[0].shape)}",
            "join batches by torch.cat or numpy.concatenate, and rows of one image each by torch.stack or numpy.stack",
            where=name,
        )
    try:
        found = _on_host(given).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigFault(
            f"{name} must be numbers, found {type(given).__name__}: {str(error).splitlines()[0]}",
            "give an array, a tensor, a data frame or a sparse matrix of numbers; turn bfloat16 into float32 first, "
            "and a distribution into its mean",
            where=name,
        ) from error
    if found.ndim < 2 or not found.size:
        raise ConfigFault(
            f"{name} must have shape (n, d), got {found.shape}", "give one row of numbers per image", where=name
        )
    rows = found.reshape(len(found), -1) + 0.0  # -0 is 0, by its bytes as well
    if bad := int((~np.isfinite(rows)).any(axis=1).sum()):
        raise ConfigFault(
            f"{bad} of {len(rows)} rows of {name} are not finite", "look for overflow in the encoder", where=name
        )
    return rows


def _on_host(given: Any) -> np.ndarray:
    dense = given.toarray() if hasattr(given, "toarray") else given
    return np.asarray(dense.detach().cpu() if hasattr(dense, "detach") else dense)


def _same(name: str, found: tuple[int, ...], other: str, wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise ConfigFault(
            f"{name} have shape {found}, {other} {wanted}",
            "give arrays of the same images, in one order, from one encoder",
            where=name,
        )
