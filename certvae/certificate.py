"""The certificate against constant collapse. Trusted base: numpy only, nothing of ours is imported.

A head S that reads the latent and nothing else cannot come closer to the teacher T than the best constant row
does, unless it varies over the inputs. Closeness is therefore evidence, exact on the rows it was measured on:

    Lemma 1      E KL(T || s) = I_T + KL(Tbar || s) >= I_T     for every constant row s
    Theorem 1    G_0 = I_T - L_TS > 0                          implies that S, hence the latent, is not constant

A margin that is not positive proves nothing. The words are "certified" and "not certified".

Legend. E is the plain mean over the rows of ONE split: Lemma 1 holds for the empirical measure of those rows, so
Tbar, I_T and L_TS never come from different ones. Logarithms are natural, information is in nats, 0 log 0 = 0.
All sums are float64 and none goes through BLAS: no bit depends on the number of threads.

    n, K        rows, classes                     Tbar  (K,)   mean teacher row
    T  (n, K)   teacher rows, on the simplex      I_T          info   = H(Tbar) - E H(T)
    S  (n, K)   student rows of the raw head      L_TS         loss   = E KL(T || S)
    tau         safety buffer                     G_0, G_tau   margin = I_T - L_TS, and margin - tau
    eps         smoothing the rows T contain      eta          share of the uniform row mixed into S inside the bounds
    c  (n,)     strata of a condition, if any     r  (K,)      reference row, fixed before the rows were seen

With strata (one stratum where none are given) every Tbar is that of the row's own stratum: Lemma 1 holds in each of
them, a head that reads c and nothing else has G_0 <= 0, and G_0 > 0 says that S reads more than c.

References
    paper A     arXiv 2605.05813: Lemmas 1 and 2, Theorem 1, Corollary 1, the margins
    betting     Waudby-Smith and Ramdas, arXiv 2010.09686, Theorem 3; means of e-values: Vovk and Wang, 1912.06116
    bounds      McDiarmid (1989); Maurer and Pontil (2009), arXiv 0907.3740, Theorem 4
    meaning     Barber and Agakov (2003): G_0 = H(Tbar) - CE(T, S) <= I(C; Z) for C ~ T
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from numbers import Integral, Real
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

View = Literal["mu", "sampled"]

FLOAT_SLACK = 1e-9  # nats; the best constant student scores about +-1e-13, where "> 0" would toss a coin
SUM_TOLERANCE = {"float32": 1e-5, "float16": 1e-2}  # by the type that came in: what its rounding can do to a row
EXACT_TOLERANCE = 1e-6  # any other type, since rows may have been float32 once; all rows are renormalised
LEAST = 1e-12  # of delta / looks, eta and eps: below, a float64 cannot tell the confidence from 1
ORDERS = 20  # in which the bound by betting reads the rows
CHUNK = 32  # factors multiplied before a logarithm is taken: each lies in [1/4, 16], their product in float64
AIM = math.log(100)  # log odds that the bets of an e-value are made for; it is one whatever it aims at
TILTS = 0.4, 0.1, 0.02  # a Renyi divergence of order 1 - tilt bounds KL(p || r): large for few rows, small for a far r
SMALLEST = np.finfo(np.float64).tiny  # a teacher entry below is 0: its mean over rows could underflow to 0
PAPER_TAU = 0.10  # nats; the buffer in every CIFAR-100 row of paper A
CLAIM_SPLIT = "certify"  # the rows that teacher, student and model selection have not seen
WORDS = {True: "certified", False: "not certified", None: "no claim"}
_underflow_is_zero = np.errstate(under="ignore")  # whatever a caller told numpy to make of one


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Teacher rows and raw log-student rows of the same inputs, one split: the only evidence `certify` takes.

    teacher      (n, K) probabilities, rows sum to 1 within 1e-6 (float32: 1e-5, float16: 1e-2)
    log_student  (n, K) log-probabilities of the raw head, -inf allowed, rows have logsumexp 0 within the same
    split        name of the rows; only those of "certify" carry a population claim
    view         "mu": the head read the posterior mean; "sampled": it read one posterior draw per row

    Arrays, lists, data frames and tensors (also with gradients) are taken; they are copied to float64, renormalised
    and made read-only. Raises ValueError for unequal shapes, n < 1, K < 2, complex or masked numbers, an unknown
    view, or a row that is not a distribution (the first one is named).
    """

    teacher: Float[np.ndarray, "n K"]
    log_student: Float[np.ndarray, "n K"]
    split: str
    view: View = "mu"

    def __post_init__(self) -> None:
        if self.view not in get_args(View):
            raise ValueError(f"view must be one of {get_args(View)}, got {self.view!r}.")
        teacher, log_student = _paired_rows(self.teacher, self.log_student)
        object.__setattr__(self, "teacher", teacher)
        object.__setattr__(self, "log_student", log_student)

    @classmethod
    def from_logits(cls, teacher: Any, logits: Any, *, split: str, view: View = "mu") -> "Pairs":
        """Pairs of a head that returns logits (n, K), through a float64 log-softmax. Raises like `Pairs`."""
        wide = _numbers(logits, "logits").astype(np.float64)
        log_student = wide - _log_sum_exp(wide) if wide.ndim == 2 and wide.size else wide
        return cls(teacher=teacher, log_student=log_student, split=split, view=view)


@_underflow_is_zero
def _paired_rows(teacher: Any, log_student: Any) -> tuple[np.ndarray, np.ndarray]:
    t, log_s = _numbers(teacher, "teacher"), _numbers(log_student, "student")
    if t.ndim != 2 or t.shape != log_s.shape or t.shape[0] < 1 or t.shape[1] < 2:
        raise ValueError(
            f"teacher and student must share one shape (n, K) with n >= 1 and K >= 2, got {t.shape} and "
            f"{log_s.shape}: pass both for the same rows of one split."
        )
    rows = _on_simplex(t), _on_log_simplex(log_s)
    for array in rows:
        array.setflags(write=False)
    return rows


def _numbers(rows: Any, name: str) -> np.ndarray:
    """What came in as an array of real numbers, in its own type: its tolerance depends on it."""
    try:
        found = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows)
        kind = "masked" if isinstance(rows, np.ma.MaskedArray) else str(found.dtype)
    except (TypeError, ValueError) as error:
        found, kind = np.empty(0, object), str(error)
    if kind == "masked" or found.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} rows must be real numbers in a rectangle, found {kind}: fill or drop masked rows, take the real "
            "part of complex ones, and turn any other type into float32 or float64 first."
        )
    return found


def _on_simplex(found: np.ndarray) -> np.ndarray:
    rows, tolerance = found.astype(np.float64, copy=False), SUM_TOLERANCE.get(found.dtype.name, EXACT_TOLERANCE)
    lowest, total = rows.min(axis=1), rows.sum(axis=1)
    valid = (lowest >= 0) & (np.abs(total - 1) <= tolerance)  # false for NaN and infinities as well
    if (row := _first(~valid)) is not None:
        raise ValueError(
            f"teacher row {row} has smallest entry {lowest[row]} and sum {total[row]}; entries must be >= 0 and "
            f"sum to 1 within {tolerance:g} for {found.dtype}: pass probabilities, not logits or counts; if they are, "
            "divide each row by its sum: rows / rows.sum(axis=1, keepdims=True)."
        )
    rows = rows / total[:, None]
    rows[rows < SMALLEST] = 0.0
    return rows


def _on_log_simplex(found: np.ndarray) -> np.ndarray:
    log_rows, tolerance = found.astype(np.float64, copy=False), SUM_TOLERANCE.get(found.dtype.name, EXACT_TOLERANCE)
    normaliser = _log_sum_exp(log_rows)
    valid = np.abs(normaliser[:, 0]) <= tolerance  # false for NaN and infinities as well
    if (row := _first(~valid)) is not None:
        raise ValueError(
            f"student row {row} has logsumexp {normaliser[row, 0]}; it must be 0 within {tolerance:g} for "
            f"{found.dtype}: pass log-probabilities, or logits through Pairs.from_logits; if it is nan or inf, the "
            "head overflowed."
        )
    return log_rows - normaliser


def _log_sum_exp(rows: np.ndarray) -> np.ndarray:
    """(n, 1), in float64; NaN for a row with NaN, +inf or nothing but -inf, which the caller refuses."""
    top = rows.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", under="ignore"):
        shifted = rows - top
        return top + np.log(np.exp(shifted, out=shifted).sum(axis=1, keepdims=True))


def _first(flags: np.ndarray) -> int | None:
    return int(flags.argmax()) if flags.any() else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Teacher rows of another split, seen before the rows that are judged: their mean row, per stratum, becomes r.

    teacher  (m, K) rows as in `Pairs`: the train rows;  split  their name
    strata   (m,) labels of the condition, where the judged rows have them; a stratum absent here gets the uniform row
    """

    teacher: Float[np.ndarray, "m K"]
    split: str
    strata: Any = None

    def __post_init__(self) -> None:
        found = _numbers(self.teacher, "reference")
        if found.ndim != 2 or found.shape[0] < 1:
            raise ValueError(f"reference rows must have shape (m, K) with m >= 1, got {found.shape}.")
        object.__setattr__(self, "teacher", _on_simplex(found))

    def rows(self, names: list[str] | None) -> Float[np.ndarray, "S K"]:
        """r of each named stratum, then of strata without a name here; of the one stratum where names is None."""
        mean = self.teacher.mean(axis=0, keepdims=True)
        if names is None or self.strata is None:
            return mean.repeat(1 if names is None else len(names) + 1, axis=0)
        known, codes = _strata(self.strata, len(self.teacher))
        own = dict(zip(known, _within(self.teacher, codes), strict=True))
        uniform = np.full_like(mean[0], 1 / mean.size)
        return np.stack([*(own.get(name, uniform) for name in names), *own.values(), uniform])


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What these rows show, in nats, without a bound; properties derive the rest."""

    teacher_entropy_mean: float  # E H(T)
    mean_teacher_entropy: float  # H(Tbar)
    cross_entropy: float  # E[-sum_k T_k log S_k]
    student_info: float  # I_S = H(Sbar) - E H(S): diagnostic, part of no claim

    @property
    def info(self) -> float:
        """I_T = H(Tbar) - E H(T): the loss of the best constant student (paper A, Lemma 1)."""
        return self.mean_teacher_entropy - self.teacher_entropy_mean

    @property
    def loss(self) -> float:
        """L_TS = E KL(T || S), teacher first."""
        return self.cross_entropy - self.teacher_entropy_mean

    @property
    def margin(self) -> float:
        """G_0 = I_T - L_TS, in which E H(T) cancels (paper A, Theorem 1)."""
        return self.mean_teacher_entropy - self.cross_entropy


@dataclass(frozen=True, kw_only=True)
class Certificate(Observed):
    """What one `Pairs` shows: measured facts and lower confidence bounds, in nats; properties derive the rest.

    Each bound but the normal limit errs with probability at most delta / looks. L4 speaks of the Brier margin (a
    squared distance, S as it is), the others of the population margin with S smoothed by eta. None means
    unavailable: L1 and L2 need teacher rows smoothed by eps > 0, L2 and the normal limit need n >= 2, L2 needs one
    stratum, the trace a finite log S. A student that excludes what the teacher holds possible has loss = inf,
    margin = -inf.
    """

    split: str
    view: View
    n: int
    classes: int  # K
    strata: int  # 1 without a condition
    single_rows: int  # strata with one row: no information, all their loss
    trace_covariance: float | None  # tr Cov(T, a) = E<T - Tbar, log S>; never below the margin
    brier_margin: float  # G_B = E||T - Tbar||^2 - E||T - S||^2; <= 0 for a constant S
    smoothed_margin: float  # G_eta, the margin of (1 - eta) S + eta / K
    mcdiarmid_bound: float | None  # L1
    bernstein_bound: float | None  # L2, empirical Bernstein
    betting_bound: float  # the bound declared for the population claim
    brier_bound: float  # L4
    wald_bound: float | None  # the normal limit: descriptive, no finite-sample guarantee
    eps: float
    eta: float
    delta: float
    looks: int  # how often this split has been opened, this time included
    reference: str  # the split whose mean teacher row is r, or "uniform"

    @property
    def population_bound(self) -> float:
        """The lower bound of the population margin that claims rest on: betting, for every teacher and every n."""
        return self.betting_bound

    @property
    def imbalance(self) -> float:
        """KL(Tbar || U) = ln K - H(Tbar): minus the margin of the uniform student."""
        return math.log(self.classes) - self.mean_teacher_entropy

    @property
    def effective_clusters(self) -> float:
        """exp H(Tbar), a count between 1 and K."""
        return math.exp(self.mean_teacher_entropy)

    def at(self, tau: float) -> float:
        """G_tau = I_T - L_TS - tau, nats. Raises ValueError unless 0 <= tau < ln K: no margin exceeds ln K."""
        if not 0 <= tau < math.log(self.classes):
            raise ValueError(f"tau must lie in [0, ln K) = [0, {math.log(self.classes):.4f}), got {tau}.")
        return self.margin - tau

    @property
    def certified_rows(self) -> bool | None:
        """On these rows S takes at least two values; exact, no statistical error (paper A, Theorem 1).

        None for the sampled view: draws that ignore the input can match n teacher rows by chance.
        """
        return self.certified_at(0.0)

    def certified_at(self, tau: float) -> bool | None:
        """The claim about these rows with the safety buffer tau of paper A; None for the sampled view."""
        buffered = self.at(tau)
        return buffered > FLOAT_SLACK if self.view == "mu" else None

    @property
    def certified_population(self) -> bool | None:
        """The population margin is positive with confidence 1 - delta, by `population_bound` alone.

        None on a split other than "certify": there the bound is descriptive, because the teacher, the student or the
        choice between students has seen the rows.
        """
        return self.population_bound > 0 if self.split == CLAIM_SPLIT else None

    def as_row(self) -> dict[str, str | int | float | bool | None]:
        """Every fact that needs no tau, as one flat dict of plain values; loss and margin may be infinite."""
        return asdict(self) | {
            "info": self.info,
            "loss": self.loss,
            "margin": self.margin,
            "imbalance": self.imbalance,
            "effective_clusters": self.effective_clusters,
            "population_bound": self.population_bound,
            "certified_rows": self.certified_rows,
            "certified_population": self.certified_population,
        }

    def summary(self, tau: float = PAPER_TAU) -> str:
        """The three claims in words, with split, view, n and what the bound is about. Raises ValueError like `at`."""
        role = "" if self.split == CLAIM_SPLIT else " (descriptive)"
        strata = f", strata {self.strata} ({self.single_rows} of one row)" if self.strata > 1 else ""
        return (
            f"split {self.split}{role}, view {self.view}, n = {self.n}, K = {self.classes}{strata}; "
            "information in nats\n"
            f"  on these rows      {WORDS[self.certified_rows]}: margin {self.margin:+.4f}\n"
            f"  at tau = {tau:<9g} {WORDS[self.certified_at(tau)]}: margin - tau {self.at(tau):+.4f}\n"
            f"  in the population  {WORDS[self.certified_population]}: lower bound "
            f"{self.population_bound:+.4f}, confidence {1 - self.delta:g}, looks {self.looks}\n"
            f"  the bound is about the student mixed with {self.eta:g} of the uniform row, margin "
            f"{self.smoothed_margin:+.4f}; reference row: {self.reference}"
        )

    def __str__(self) -> str:
        return self.summary()

    __repr__ = __str__


@_underflow_is_zero
def observe(pairs: Pairs, strata: Any = None) -> Observed:
    """What `certify` measures before it bounds anything: a number of a curve costs a tenth of a certificate."""
    teacher, log_student, codes = pairs.teacher, pairs.log_student, _strata(strata, len(pairs.teacher))[1]
    both = ((teacher, _log(teacher)), (np.exp(log_student), log_student))
    (of_mean, mean), (of_mean_student, mean_student) = (_entropies(*rows, codes) for rows in both)
    return Observed(
        mean_teacher_entropy=of_mean,
        teacher_entropy_mean=mean,
        cross_entropy=float(cross_entropies(teacher, log_student).mean()),
        student_info=of_mean_student - mean_student,
    )


@_underflow_is_zero
def certify(
    pairs: Pairs,
    *,
    delta: float = 0.05,
    looks: int = 1,
    eps: float = 0.0,
    eta: float = 0.01,
    reference: Reference | None = None,
    strata: Any = None,
) -> Certificate:
    """Measure the margin of `pairs` and bound its population value from below.

    delta      error probability, shared equally by all looks;  looks  openings of this split, this one included
    eps        label smoothing, (1 - eps) T + eps / K, that the teacher rows already contain; only L1 and L2 need it
    eta        share of the uniform row mixed into the student inside the bounds: costs at most -log(1 - eta) nats
    reference  teacher rows that were seen before, which make r; the uniform row where none are given
    strata     (n,) labels of a condition that the head may read: the margin is then the mean margin within strata

    Raises TypeError for anything but `Pairs`; ValueError for a parameter out of range, a teacher row below eps / K, a
    reference of the same split. Source: paper A, Lemma 1 and Theorem 1; each bound is documented where it is computed.
    """
    _check(pairs, delta, looks, eps, eta)
    teacher, student = pairs.teacher, np.exp(pairs.log_student)
    n, classes = teacher.shape
    codes = _strata(strata, n)[1]
    shares, means, variances = np.bincount(codes) / n, _within(teacher, codes), _within(teacher, codes, np.var)
    seen = observe(pairs, strata)
    brier = float((shares * variances.sum(axis=1)).sum() - np.square(teacher - student).sum(axis=1).mean())
    smoothed = _smoothed_loss(teacher, student, eta)
    scores = _constant_loss(teacher, means, codes) - smoothed
    box = (means[0], variances[0]) if strata is None else None
    level = delta / looks
    return Certificate(
        split=pairs.split,
        view=pairs.view,
        n=n,
        classes=classes,
        strata=len(shares),
        single_rows=0 if strata is None else int((np.bincount(codes) == 1).sum()),
        **asdict(seen),
        trace_covariance=_trace_covariance(
            shares[:, None] * means, _within(pairs.log_student, codes), seen.cross_entropy
        ),
        brier_margin=brier,
        smoothed_margin=float(scores.mean()),
        betting_bound=_evidence(pairs, reference, strata, eta, smoothed).bound(level),
        brier_bound=brier - 4 * _radius(n, level),  # per-row terms lie in [-2, 2]
        **_plug_in_bounds(scores, box, classes, eps, eta, level),
        eps=float(eps),
        eta=float(eta),
        delta=float(delta),
        looks=int(looks),
        reference="uniform" if reference is None else reference.split,
    )


def _plug_in_bounds(
    scores: np.ndarray, box: tuple[np.ndarray, np.ndarray] | None, classes: int, eps: float, eta: float, level: float
) -> dict[str, Any]:
    """L1, L2 and the normal limit from the scores at r = Tbar; box: mean and variance of T, if there is one stratum."""
    many = len(scores) > 1
    width = math.log(classes / eta) + math.log(classes / eps) if eps > 0 else None
    return {
        "mcdiarmid_bound": None if width is None else _mcdiarmid(scores, width, level),
        "bernstein_bound": _bernstein(scores, *box, width, eps, level) if width and many and box else None,
        "wald_bound": _wald(scores, level) if many else None,
    }


@_underflow_is_zero
def evidence(pairs: Pairs, *, reference: Reference | None = None, strata: Any = None, eta: float = 0.01) -> "Evidence":
    """The scores behind the bound by betting that `certify` states of the same arguments. Raises like it."""
    _check(pairs, 0.5, 1, 0.0, eta)
    return _evidence(pairs, reference, strata, eta, _smoothed_loss(pairs.teacher, np.exp(pairs.log_student), eta))


def _evidence(pairs: Pairs, reference: Reference | None, strata: Any, eta: float, smoothed: np.ndarray) -> "Evidence":
    (n, classes), (names, codes) = pairs.teacher.shape, _strata(strata, len(pairs.teacher))
    given = reference or Reference(teacher=np.full((1, classes), 1 / classes), split="uniform")
    if given.split == pairs.split or given.teacher.shape[1] != classes or (strata is None and given.strata is not None):
        raise ValueError(
            f"reference: wanted rows of another split than {pairs.split!r} with {classes} classes, and strata only if "
            f"the pairs have them, found split {given.split!r} with {given.teacher.shape[1]} classes; pass train rows: "
            "a reference that has seen the judged rows bounds nothing."
        )
    rows = (1 - eta) * given.rows(names if strata is not None else None) + eta / classes
    means, mine = _within(pairs.teacher, codes), rows[: len(names)]
    apart = cross_entropies(means, np.log(mine)) - cross_entropies(means, _log(means))
    return Evidence(
        scores=_constant_loss(pairs.teacher, rows, codes) - smoothed,
        rows=rows,
        divergence=max(0.0, float((np.bincount(codes) * apart).sum() / n)),
        eta=float(eta),
    )


def _check(pairs: Pairs, delta: float, looks: int, eps: float, eta: float) -> None:
    if not isinstance(pairs, Pairs):
        raise TypeError(f"certify takes Pairs, teacher and raw student on the same rows, got {type(pairs)}.")
    _share("delta", delta, "pass one minus the confidence, such as 0.05")
    _share("eta", eta, "pass the share of the uniform row mixed into the student, such as 0.01")
    if not isinstance(looks, Integral) or isinstance(looks, bool) or looks < 1:
        raise ValueError(f"looks: wanted a whole number >= 1, found {looks!r}; count how often the split was opened.")
    _share("delta / looks", delta / looks, "no data set can carry so many looks at so small a delta")
    if isinstance(eps, bool) or eps != 0:
        _share("eps", eps, "pass the smoothing the teacher rows contain, 0 if none")
    # Rounding of float32 rows and renormalisation can lower an entry by 2e-5 of itself, which moves no printed digit.
    floor, lowest = eps / pairs.teacher.shape[1], pairs.teacher.min(axis=1)
    if (row := _first(lowest < floor * (1 - 2e-5))) is not None:
        raise ValueError(
            f"teacher row {row} has an entry {lowest[row]}, wanted >= eps / K = {floor}: eps states the smoothing "
            "the rows contain already; smooth the teacher before training, or pass the eps it was given."
        )


def _share(name: str, value: Any, remedy: str) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not LEAST <= float(value) < 1:
        raise ValueError(f"{name}: wanted a number in [{LEAST:g}, 1), found {value!r}; {remedy}.")


def _strata(labels: Any, n: int) -> tuple[list[str], np.ndarray]:
    """Names of the strata, sorted, and the stratum of each row; one stratum where labels is None."""
    if labels is None:
        return ["all"], np.zeros(n, np.intp)
    found = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if found.shape != (n,) or found.dtype.kind not in "iubfUSO" or (found != found).any():
        raise ValueError(
            f"strata: wanted one label, a number or a text, for each of the {n} rows, found shape {found.shape} of "
            f"{found.dtype}; pass the condition of each row, with a label of its own where it is missing."
        )
    names, codes = np.unique(found.astype(str), return_inverse=True)
    return names.tolist(), codes


def _within(rows: np.ndarray, codes: np.ndarray, statistic: Any = np.mean) -> np.ndarray:
    """(S, K): the statistic over the rows of each stratum."""
    strata = codes.max() + 1
    return np.stack([statistic(rows[codes == s] if strata > 1 else rows, axis=0) for s in range(strata)])


def _log(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def cross_entropies(p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """-sum_k p_k log q_k of each row, (n,); a class with p_k = 0 adds nothing, even where q_k = 0."""
    return -np.multiply(p, log_q, out=np.zeros_like(p), where=p > 0).sum(axis=1)


def _entropies(p: np.ndarray, log_p: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """H(E p), averaged over strata, and E H(p)."""
    shares, means = np.bincount(codes) / len(codes), _within(p, codes)
    return float((shares * cross_entropies(means, _log(means))).sum()), float(cross_entropies(p, log_p).mean())


def _trace_covariance(means: np.ndarray, log_students: np.ndarray, cross_entropy: float) -> float | None:
    """E<T - Tbar, log S>: KL(T || softmax a) is convex in the logits a, so this is an upper bound on the margin."""
    if not np.isfinite(log_students).all():
        return None
    return float(-(means * log_students).sum() - cross_entropy)


# Bounds. The n rows are independent draws, used once; T and S were fixed before they were drawn. With p = E T let
#     d_i(r) = sum_k T_ik log(S_ik / r_k);    population margin E d(p),  plug-in min_r mean_i d_i(r), at r = Tbar.
# The plug-in is at most mean_i d_i(p): its bias is on the safe side. S smoothed by eta reads only z if S does, and is
# constant iff S is. For T >= eps/K and S >= eta/K each d_i(Tbar) lies in an interval of W = log(K/eta) + log(K/eps).


def _constant_loss(teacher: np.ndarray, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """-sum_k T_ik log r_k, (n,) nats; rows (S, K): r of each stratum."""
    return cross_entropies(teacher, _log(rows) if len(rows) == 1 else _log(rows)[codes])


def _smoothed_loss(teacher: np.ndarray, student: np.ndarray, eta: float) -> np.ndarray:
    """-sum_k T_ik log S_ik for the student smoothed by eta, (n,) nats; d_i(r) is `_constant_loss` minus this."""
    return cross_entropies(teacher, _log((1 - eta) * student + eta / student.shape[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that the bound by betting reads; kept, it gives the bound at any other delta.

    For a row r fixed before the rows were seen, E d(p) = E d(r) - KL(p || r). The first term is bounded from below on
    two thirds of delta, the second from above on the third that is left. T needs no smoothing; r has it.
    """

    scores: Float[np.ndarray, " n"]  # d_i(r), nats
    rows: Float[np.ndarray, "S K"]  # r of each stratum, entries >= eta / K
    divergence: float  # mean over rows of KL(Tbar || r) in their stratum, nats; scores.mean() minus it is the plug-in
    eta: float

    def bound(self, delta: float) -> float:
        """Lower bound of the population margin, nats, wrong with probability at most delta. Raises like `certify`."""
        _share("delta", delta, "pass one minus the confidence, such as 0.05")
        low = math.log(self.eta / self.rows.shape[1]) - math.log(self.rows.max())
        width = -math.log(self.rows.min()) - low  # of an interval that holds every d_i(r), of any T and S
        scaled = np.clip((self.scores - low) / width, 0, 1)
        mean = low + width * _betting(scaled, math.log(1.5 / delta))
        return float(mean - self._divergence_bound(math.log(3 / delta)))

    def _divergence_bound(self, log_odds: float) -> float:
        """Upper bound of KL(p || r), nats, wrong with probability at most exp(-log_odds): the best of the tilts.

        For a tilt a let rho = sum_k p_k^(1-a) r_k^a. By Jensen E exp(a <T, log(r/p)>) <= rho, so Markov's inequality
        for the product over rows gives -log rho <= log_odds / n + a KL(Tbar || r): a Renyi divergence (arXiv
        1206.2459). With t = p / r both KL and 1 - rho are sums of r f(t) with f >= 0, whose ratio grows with t
        (that of the second derivatives is t^a / (a (1-a))): KL <= (1 - rho) * ratio at the largest t possible.
        Over strata all of it holds in the mean, with the shares of the population. Each tilt gets its part of the odds.
        """
        share = (log_odds + math.log(len(TILTS))) / len(self.scores)
        bounds = [-math.log(self.rows.min())]  # of any p
        for tilt in TILTS:
            short = -math.expm1(-(share + tilt * self.divergence))  # bounds 1 - rho
            t = 1 / self.rows.min() if len(self.rows) > 1 else _largest_ratio(self.rows[0], short, tilt)
            bounds.append(short * (t * math.log(t) - t + 1) / float(_renyi_term(np.array([t]), tilt)[0]))
        return min(bounds)


def _renyi_term(t: np.ndarray, tilt: float) -> np.ndarray:
    return (1 - tilt) * t + tilt - t ** (1 - tilt)


def _largest_ratio(r: np.ndarray, short: float, tilt: float) -> float:
    """The largest p_k / r_k that one class can have: r_k f(t) <= short for each class alone, and p_k <= 1."""
    low, high = np.full_like(r, 1.001), 1 / r  # at t = 1 the ratio of the two terms is 0 / 0
    for _ in range(60):
        middle = (low + high) / 2
        beyond = r * _renyi_term(middle, tilt) > short
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return float(high.max())


def _betting(x: np.ndarray, log_odds: float) -> float:
    """Lower bound of the mean of n draws from [0, 1], wrong with probability at most exp(-log_odds).

    For each m the capital of a game that is fair if the mean is m, and no better if it is less, is an e-value; so is
    its mean over several orders. Both fall as m grows. The bound is the largest m at which the mean reaches
    exp(log_odds) (Markov's inequality). Orders are a function of n: a choice among orders would break the bound.
    """
    x, bets = _games(x, log_odds)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        rejected = _log_capital(x, bets, middle) >= log_odds
        low, high = (middle, high) if rejected else (low, middle)
    return low


def _games(x: np.ndarray, log_odds: float) -> tuple[np.ndarray, np.ndarray]:
    """The draws in every order, and the bets before them; a bet of 0, which fills the last chunk, changes nothing."""
    x = x[_orders(len(x))]
    bets, spare = _bets(x, log_odds), ((0, 0), (0, -len(x[0]) % CHUNK))
    return np.pad(x, spare).reshape(ORDERS, CHUNK, -1), np.pad(bets, spare).reshape(ORDERS, CHUNK, -1)


@lru_cache(maxsize=1)
def _orders(n: int) -> np.ndarray:
    """(ORDERS, n): permutations from the raw output of a published generator, whose stream is fixed for good."""
    orders = np.stack([np.argsort(np.random.PCG64(order).random_raw(n), kind="stable") for order in range(ORDERS)])
    orders.setflags(write=False)
    return orders


def _bets(x: np.ndarray, log_odds: float) -> np.ndarray:
    """sqrt(2 log_odds / (n var_{t-1})) before draw t, from a running mean and variance that start at 1/2 and 1/4."""
    n = x.shape[1]
    seen = np.arange(2, n + 2)
    mean = (0.5 + x.cumsum(axis=1)) / seen
    variance = (0.25 + np.square(x - mean).cumsum(axis=1)) / seen
    before = np.concatenate([np.full((len(x), 1), 0.25), variance[:, :-1]], axis=1)
    return np.sqrt(2 * log_odds / (n * before))


def _log_capital(x: np.ndarray, bets: np.ndarray, m: float) -> float:
    """Logarithm of the mean over orders of prod_t (1 + bet_t (x_t - m)), bets cut at 3 / (4 m): no factor is below 1/4.

    That makes every factor fall as m grows, with the bet cut or not.
    """
    factors = np.minimum(bets, 0.75 / m)
    factors *= x - m
    factors += 1
    capital = np.log(factors.prod(axis=1)).sum(axis=1)
    return float(capital.max() + math.log(np.exp(capital - capital.max()).mean()))


def improvement(better: Pairs, worse: Pairs, *, eta: float = 0.01) -> float:
    """Evidence that in the population the student of `better` has less loss than that of `worse`, both smoothed by eta.

    The logarithm of an e-value: while the loss is no less, it reaches log(1/delta) with probability at most delta, for
    every delta at once (Markov's inequality). H(T) and the constant row cancel, so nothing else has to be bounded.
    Raises ValueError for pairs of other rows, or eta out of range.
    """
    _share("eta", eta, "pass the share of the uniform row mixed into the student, such as 0.01")
    if not np.array_equal(better.teacher, worse.teacher):
        raise ValueError("improvement: wanted two students on the same rows, found other teacher rows; pass one split.")
    losses = (_smoothed_loss(pairs.teacher, np.exp(pairs.log_student), eta) for pairs in (worse, better))
    width = math.log1p((1 - eta) * better.teacher.shape[1] / eta)  # no two students are further apart, in any class
    x = (1 + np.subtract(*losses) / width) / 2
    return _log_capital(*_games(np.clip(x, 0, 1), AIM), 0.5)


def _radius(n: int, delta: float) -> float:
    return math.sqrt(math.log(1 / delta) / (2 * n))


def _mcdiarmid(scores: np.ndarray, width: float, delta: float) -> float:
    """L1: exchanging one row moves the plug-in by at most W / n."""
    return float(scores.mean()) - width * _radius(len(scores), delta)


def _bernstein(
    scores: np.ndarray, mean: np.ndarray, variance: np.ndarray, width: float, eps: float, delta: float
) -> float:
    """L2: empirical Bernstein for d(p), on 2/3 of delta.

    p is unknown, so 1/3 of delta buys a Bernstein interval around Tbar for each of its K entries; over that box
    the deviation of d(p) exceeds that of d(Tbar) by `nuisance` at most. No union over r: only r = p must hold.
    """
    n, classes = len(scores), len(mean)
    box, tail = math.log(4 * classes / (delta / 3)), math.log(2 / (2 * delta / 3))
    half = np.sqrt(2 * variance * box / (n - 1)) + 7 * box / (3 * (n - 1))  # variance / (n - 1) = v_k / n
    low, high = np.maximum(mean - half, eps / classes), np.minimum(mean + half, 1)
    log_ratio = np.maximum(np.log(mean / low), np.log(high / mean))
    nuisance = math.sqrt(n / (n - 1) * (mean * log_ratio**2).sum())
    deviation = scores.std(ddof=1) + nuisance
    return float(scores.mean() - deviation * math.sqrt(2 * tail / n) - 7 * width * tail / (3 * (n - 1)))


def _wald(scores: np.ndarray, delta: float) -> float:
    """d_i(Tbar) - G is the influence function of the plug-in; right for K / n -> 0."""
    return float(scores.mean() - NormalDist().inv_cdf(1 - delta) * scores.std(ddof=1) / math.sqrt(len(scores)))
