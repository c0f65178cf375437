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
    eps         smoothing the rows T contain      eta          smoothing given to S inside the bounds

References
    paper A     arXiv 2605.05813: Lemmas 1 and 2, Theorem 1, Corollary 1, the margins
    bounds      McDiarmid (1989); Maurer and Pontil (2009), arXiv 0907.3740, Theorem 4
    meaning     Barber and Agakov (2003): G_0 = H(Tbar) - CE(T, S) <= I(C; Z) for C ~ T
"""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

View = Literal["mu", "sampled"]

FLOAT_SLACK = 1e-9  # nats; the best constant student scores about +-1e-13, where "> 0" would toss a coin
SUM_TOLERANCE = 1e-6  # cached targets and log-softmax outputs are float32
SMALLEST = np.finfo(np.float64).tiny  # a teacher entry below is 0: its mean over rows could underflow to 0
PAPER_TAU = 0.10  # nats; the buffer in every CIFAR-100 row of paper A
CLAIM_SPLIT = "certify"  # the rows that teacher, student and model selection have not seen
WORDS = {True: "certified", False: "not certified", None: "no claim"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Teacher rows and raw log-student rows of the same inputs, one split: the only evidence `certify` takes.

    teacher      (n, K) probabilities, rows sum to 1 within 1e-6
    log_student  (n, K) log-probabilities of the raw head, -inf allowed, rows have logsumexp 0 within 1e-6
    split        name of the rows; only those of "certify" carry a population claim
    view         "mu": the head read the posterior mean; "sampled": it read one posterior draw per row

    Both arrays are copied to float64, renormalised and made read-only. Raises ValueError for unequal shapes,
    n < 1, K < 2, an unknown view, or a row that is not a distribution (the first one is named).
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
    def from_logits(
        cls, teacher: Float[np.ndarray, "n K"], logits: Float[np.ndarray, "n K"], *, split: str, view: View = "mu"
    ) -> "Pairs":
        """Pairs of a head that returns logits (n, K), through a float64 log-softmax. Raises like `Pairs`."""
        wide = np.asarray(logits, dtype=np.float64)
        return cls(teacher=teacher, log_student=wide - _log_sum_exp(wide), split=split, view=view)


def _paired_rows(teacher: np.ndarray, log_student: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, log_s = np.asarray(teacher, dtype=np.float64), np.asarray(log_student, dtype=np.float64)
    if t.ndim != 2 or t.shape != log_s.shape or t.shape[0] < 1 or t.shape[1] < 2:
        raise ValueError(
            f"teacher and student must share one shape (n, K) with n >= 1 and K >= 2, got {t.shape} and "
            f"{log_s.shape}: pass both for the same rows of one split."
        )
    rows = _on_simplex(t), _on_log_simplex(log_s)
    for array in rows:
        array.setflags(write=False)
    return rows


def _on_simplex(rows: np.ndarray) -> np.ndarray:
    lowest, total = rows.min(axis=1), rows.sum(axis=1)
    valid = (lowest >= 0) & (np.abs(total - 1) <= SUM_TOLERANCE)  # false for NaN and infinities as well
    if (row := _first(~valid)) is not None:
        raise ValueError(
            f"teacher row {row} has smallest entry {lowest[row]} and sum {total[row]}; entries must be >= 0 and "
            f"sum to 1 within {SUM_TOLERANCE}: pass probabilities, not logits or counts."
        )
    rows = rows / total[:, None]
    rows[rows < SMALLEST] = 0.0
    return rows


def _on_log_simplex(log_rows: np.ndarray) -> np.ndarray:
    normaliser = _log_sum_exp(log_rows)
    valid = np.abs(normaliser[:, 0]) <= SUM_TOLERANCE  # false for NaN and infinities as well
    if (row := _first(~valid)) is not None:
        raise ValueError(
            f"student row {row} has logsumexp {normaliser[row, 0]}; it must be 0 within {SUM_TOLERANCE}: pass "
            "log-probabilities, or logits through Pairs.from_logits; if it is nan or inf, the head overflowed."
        )
    return log_rows - normaliser


def _log_sum_exp(rows: np.ndarray) -> np.ndarray:
    """(n, 1), in float64; NaN for a row with NaN, +inf or nothing but -inf, which the caller refuses."""
    top = rows.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = rows - top
    return top + np.log(np.exp(shifted, out=shifted).sum(axis=1, keepdims=True))


def _first(flags: np.ndarray) -> int | None:
    return int(flags.argmax()) if flags.any() else None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What one `Pairs` shows: measured facts and lower confidence bounds, in nats; properties derive the rest.

    L1, L2 and L4 each err with probability at most delta / looks. L1, L2 and the normal limit speak of the
    population margin with S smoothed by eta, L4 of the Brier margin (a squared distance, S as it is). None means
    unavailable: L1 and L2 need teacher rows smoothed by eps > 0, L2 and the normal limit need n >= 2, the trace
    needs a finite log S. A student that excludes what the teacher holds possible has loss = inf, margin = -inf.
    """

    split: str
    view: View
    n: int
    classes: int  # K
    teacher_entropy_mean: float  # E H(T)
    mean_teacher_entropy: float  # H(Tbar)
    cross_entropy: float  # E[-sum_k T_k log S_k]
    student_info: float  # I_S = H(Sbar) - E H(S): diagnostic, part of no claim
    trace_covariance: float | None  # tr Cov(T, a) = E<T - Tbar, log S>; never below the margin
    brier_margin: float  # G_B = E||T - Tbar||^2 - E||T - S||^2; <= 0 for a constant S
    smoothed_margin: float  # G_eta, the margin of (1 - eta) S + eta / K
    mcdiarmid_bound: float | None  # L1
    population_bound: float | None  # L2, empirical Bernstein: the bound declared for the population claim
    brier_bound: float  # L4
    wald_bound: float | None  # the normal limit: descriptive, no finite-sample guarantee
    eps: float
    eta: float
    delta: float
    looks: int  # how often this split has been opened, this time included

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
        """The population margin is positive with confidence 1 - delta, by L2 alone.

        None without L2, or on a split other than "certify": there the bound is descriptive, because the teacher,
        the student or the choice between students has seen the rows.
        """
        if self.population_bound is None or self.split != CLAIM_SPLIT:
            return None
        return self.population_bound > 0

    def as_row(self) -> dict[str, str | int | float | bool | None]:
        """Every fact that needs no tau, as one flat dict of plain values; loss and margin may be infinite."""
        return asdict(self) | {
            "info": self.info,
            "loss": self.loss,
            "margin": self.margin,
            "imbalance": self.imbalance,
            "effective_clusters": self.effective_clusters,
            "certified_rows": self.certified_rows,
            "certified_population": self.certified_population,
        }

    def summary(self, tau: float = PAPER_TAU) -> str:
        """The three claims in words, with split, view and n. Raises ValueError like `at`."""
        role = "" if self.split == CLAIM_SPLIT else " (descriptive)"
        bound = "unavailable" if self.population_bound is None else f"{self.population_bound:+.4f}"
        return (
            f"split {self.split}{role}, view {self.view}, n = {self.n}, K = {self.classes}; information in nats\n"
            f"  on these rows      {WORDS[self.certified_rows]}: margin {self.margin:+.4f}\n"
            f"  at tau = {tau:<9g} {WORDS[self.certified_at(tau)]}: margin - tau {self.at(tau):+.4f}\n"
            f"  in the population  {WORDS[self.certified_population]}: lower bound {bound}, "
            f"confidence {1 - self.delta:g}, looks {self.looks}"
        )

    def __str__(self) -> str:
        return self.summary()


def certify(pairs: Pairs, *, delta: float = 0.05, looks: int = 1, eps: float = 0.0, eta: float = 0.01) -> Certificate:
    """Measure the margin of `pairs` and bound its population value from below.

    delta  error probability, shared equally by all looks;  looks  openings of this split, this one included
    eps    label smoothing, (1 - eps) T + eps / K, that the teacher rows already contain
    eta    smoothing of the student inside the bounds; costs at most -log(1 - eta) nats of margin

    Raises TypeError for anything but `Pairs`; ValueError for a parameter out of range or a teacher row below
    eps / K. Source: paper A, Lemma 1 and Theorem 1; each bound is documented where it is computed.
    """
    _check(pairs, delta, looks, eps, eta)
    teacher, log_student = pairs.teacher, pairs.log_student
    student = np.exp(log_student)
    mean, variance = teacher.mean(axis=0), teacher.var(axis=0)
    mean_teacher_entropy, teacher_entropy_mean = _entropies(teacher, _log(teacher))
    mean_student_entropy, student_entropy_mean = _entropies(student, log_student)
    cross_entropy = float(_cross_entropy(teacher, log_student).mean())
    brier = float(variance.sum() - np.square(teacher - student).sum(axis=1).mean())
    scores = _scores(teacher, mean, student, eta)
    n, classes = teacher.shape
    level = delta / looks
    width = math.log(classes / eta) + math.log(classes / eps) if eps > 0 else None
    return Certificate(
        split=pairs.split,
        view=pairs.view,
        n=n,
        classes=classes,
        teacher_entropy_mean=teacher_entropy_mean,
        mean_teacher_entropy=mean_teacher_entropy,
        cross_entropy=cross_entropy,
        student_info=mean_student_entropy - student_entropy_mean,
        trace_covariance=_trace_covariance(mean, log_student.mean(axis=0), cross_entropy),
        brier_margin=brier,
        smoothed_margin=float(scores.mean()),
        mcdiarmid_bound=None if width is None else _mcdiarmid(scores, width, level),
        population_bound=_bernstein(scores, mean, variance, width, eps, level) if width and n > 1 else None,
        brier_bound=brier - 4 * _radius(n, level),  # per-row terms lie in [-2, 2]
        wald_bound=_wald(scores, level) if n > 1 else None,
        eps=eps,
        eta=eta,
        delta=delta,
        looks=looks,
    )


def _check(pairs: Pairs, delta: float, looks: int, eps: float, eta: float) -> None:
    if not isinstance(pairs, Pairs):
        raise TypeError(f"certify takes Pairs, teacher and raw student on the same rows, got {type(pairs)}.")
    if not 0 < delta < 1 or looks < 1:
        raise ValueError(f"wanted 0 < delta < 1 and looks >= 1, got delta = {delta}, looks = {looks}.")
    if not 0 <= eps < 1 or not 0 < eta < 1:
        raise ValueError(f"wanted 0 <= eps < 1 and 0 < eta < 1, got eps = {eps}, eta = {eta}.")
    # Float32 smoothing and renormalisation can lower an entry by 2e-6 of itself, which moves no printed digit.
    floor, lowest = eps / pairs.teacher.shape[1], pairs.teacher.min(axis=1)
    if (row := _first(lowest < floor * (1 - 2 * SUM_TOLERANCE))) is not None:
        raise ValueError(
            f"teacher row {row} has an entry {lowest[row]}, wanted >= eps / K = {floor}: eps states the smoothing "
            "the rows contain already; smooth the teacher before training, or pass the eps it was given."
        )


def _log(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def _cross_entropy(p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """-sum_k p_k log q_k of each row, (n,); a class with p_k = 0 adds nothing, even where q_k = 0."""
    return -np.multiply(p, log_q, out=np.zeros_like(p), where=p > 0).sum(axis=1)


def _entropies(p: np.ndarray, log_p: np.ndarray) -> tuple[float, float]:
    """H(E p) and E H(p)."""
    mean = p.mean(axis=0, keepdims=True)
    return _cross_entropy(mean, _log(mean)).item(), float(_cross_entropy(p, log_p).mean())


def _trace_covariance(mean: np.ndarray, mean_log_student: np.ndarray, cross_entropy: float) -> float | None:
    """E<T - Tbar, log S>: KL(T || softmax a) is convex in the logits a, so this is an upper bound on the margin."""
    if not np.isfinite(mean_log_student).all():
        return None
    return float(-(mean * mean_log_student).sum() - cross_entropy)


# Bounds. The n rows are independent draws, used once; T and S were fixed before they were drawn. With p = E T let
#     d_i(r) = sum_k T_ik log(S_ik / r_k);    population margin E d(p),  plug-in min_r mean_i d_i(r), at r = Tbar.
# The plug-in is at most mean_i d_i(p): its bias is on the safe side. For T >= eps/K and S >= eta/K each d_i lies in
# an interval of width W = log(K/eta) + log(K/eps). S smoothed by eta reads only z if S does, and is constant iff S is.


def _scores(teacher: np.ndarray, mean: np.ndarray, student: np.ndarray, eta: float) -> np.ndarray:
    """d_i(Tbar) for the student smoothed by eta, (n,) nats."""
    smoothed = (1 - eta) * student + eta / student.shape[1]
    return _cross_entropy(teacher, _log(mean)) - _cross_entropy(teacher, _log(smoothed))


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


def margin_reference(pairs: Pairs) -> float:
    """G_0 as its definition reads, nats, in plain loops: the slow text that `certify` is tested against."""
    teacher, log_student = pairs.teacher.tolist(), pairs.log_student.tolist()
    n, classes = len(teacher), range(len(teacher[0]))
    mean = [math.fsum(row[k] for row in teacher) / n for k in classes]
    info = loss = 0.0
    for t, log_s in zip(teacher, log_student, strict=True):
        possible = [k for k in classes if t[k] > 0]
        info += sum(t[k] * math.log(t[k] / mean[k]) for k in possible) / n
        loss += sum(t[k] * (math.log(t[k]) - log_s[k]) for k in possible) / n
    return info - loss


def pairing_p_value(pairs: Pairs, permutations: int, generator: np.random.Generator) -> float:
    """How often a random pairing of student with teacher rows has as small a loss: a test of independence.

    Exact under independence, for both views; a constant S gives 1. Re-pairing moves the cross-entropy only.
    Raises ValueError for permutations < 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be >= 1, got {permutations}.")
    observed = _cross_entropy(pairs.teacher, pairs.log_student).mean()
    shuffled = (generator.permutation(pairs.log_student) for _ in range(permutations))
    as_small = sum(bool(_cross_entropy(pairs.teacher, s).mean() <= observed + 1e-12) for s in shuffled)
    return (1 + as_small) / (1 + permutations)


@dataclass(frozen=True, kw_only=True)
class UsedDiagnostics:
    """Numbers of a used head, one that may read the input or the teacher. It is no `Pairs`: `certify` refuses it.

    Such a head can vary after the latent has collapsed, so a positive margin here proves nothing. In nats.
    """

    split: str
    n: int
    classes: int  # K
    info: float  # I_T
    loss: float  # E KL(T || used)

    @property
    def margin(self) -> float:
        """info - loss."""
        return self.info - self.loss

    @classmethod
    def from_rows(
        cls, teacher: Float[np.ndarray, "n K"], log_used: Float[np.ndarray, "n K"], *, split: str
    ) -> "UsedDiagnostics":
        """From teacher rows and log-probabilities of the used head, (n, K) each. Raises like `Pairs`."""
        rows, log_rows = _paired_rows(teacher, log_used)
        mean_entropy, entropy_mean = _entropies(rows, _log(rows))
        loss = float(_cross_entropy(rows, log_rows).mean()) - entropy_mean
        n, classes = rows.shape
        return cls(split=split, n=n, classes=classes, info=mean_entropy - entropy_mean, loss=loss)
