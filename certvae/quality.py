"""Quality control of a teacher: six numbers, seven thresholds, one verdict in words.

The certificate needs only a fixed, nonconstant teacher; quality control is about usefulness (arXiv 2605.05813, teacher
search). The thresholds are a view on stored numbers: changing one re-partitions rows and never retrains.

    T    teacher rows, (n, K), each on the simplex      Tbar  their mean, (K,)       all information in nats
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Status = Literal["strict-feasible", "stress-case"]
PAPER_TAUS = (0.05, 0.10, 0.20)  # nats: the safety buffers that both papers print
NO_TEACHER = "infeasible_teacher"
"""Outcome of a run whose search found no teacher at all."""
SHARP = 0.5  # a row is sharp when its first exceeds its second probability by more than this


@dataclass(frozen=True, kw_only=True)
class TeacherQuality:
    """What quality control sees; all numbers on the rows of one split."""

    classes: int
    info: float
    """I_T, nats."""
    top1_margin: float
    """Mean of first minus second probability."""
    high_margin_share: float
    """Share of rows whose first exceeds the second probability by more than 0.5."""
    hard_usage_kl: float
    """KL of the argmax frequencies to uniform, nats."""
    soft_usage_kl: float
    """KL(Tbar || U), nats."""
    min_mass: float
    """Smallest entry of Tbar."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The strict filter. The paper names the diagnostics and prints no thresholds: these are this project's choice."""

    info_share: float = 0.5
    """I_T must reach this share of log K."""
    top1_margin: float = 0.5
    """The mean top-1 margin must reach this."""
    high_margin_share: float = 0.6
    """This share of rows must be sharp."""
    usage_share: float = 0.25
    """Hard and soft usage KL may not exceed this share of log K."""
    min_mass_share: float = 0.1
    """min_k Tbar_k must reach this share of 1 / K."""


@dataclass(frozen=True)
class Verdict:
    """strict-feasible, or stress-case with the reasons in words."""

    reasons: tuple[str, ...]

    @property
    def status(self) -> Status:
        return "stress-case" if self.reasons else "strict-feasible"

    def with_energy(self, energy: float, budget: float) -> "Verdict":
        """The same, with the energy of the teacher's code (nats) held against a budget (arXiv 2605.18224)."""
        over = () if energy <= budget else (f"code energy {energy:.4g} > {budget:.4g}",)
        return Verdict(self.reasons + over)

    def __str__(self) -> str:
        return f"{self.status}: {'; '.join(self.reasons)}" if self.reasons else self.status


def measure(teacher: Float[np.ndarray, "n K"]) -> TeacherQuality:
    """The six diagnostics of teacher rows, in float64 (arXiv 2605.05813, quality-control list)."""
    rows = np.asarray(teacher, dtype=np.float64)
    n, classes = rows.shape
    mean = rows.mean(axis=0)
    top = np.partition(rows, classes - 2, axis=1)[:, -2:]
    margins = top[:, 1] - top[:, 0]
    usage = np.bincount(rows.argmax(axis=1), minlength=classes) / n
    return TeacherQuality(
        classes=classes,
        info=max(0.0, entropy(mean) - entropy(rows) / n),
        top1_margin=float(margins.mean()),
        high_margin_share=float((margins > SHARP).mean()),
        hard_usage_kl=kl_to_uniform(usage),
        soft_usage_kl=kl_to_uniform(mean),
        min_mass=float(mean.min()),
    )


def judge(quality: TeacherQuality, thresholds: Thresholds) -> Verdict:
    """Which thresholds the teacher misses, each as a sentence with the number found and the number wanted."""
    log_k = float(np.log(quality.classes))
    at_least = {
        "information": (quality.info, thresholds.info_share * log_k),
        "top-1 margin": (quality.top1_margin, thresholds.top1_margin),
        "share of sharp rows": (quality.high_margin_share, thresholds.high_margin_share),
        "min mass": (quality.min_mass, thresholds.min_mass_share / quality.classes),
    }
    at_most = {
        "hard usage KL": (quality.hard_usage_kl, thresholds.usage_share * log_k),
        "soft usage KL": (quality.soft_usage_kl, thresholds.usage_share * log_k),
    }
    low = [f"{name} {found:.4g} < {wanted:.4g}" for name, (found, wanted) in at_least.items() if not found >= wanted]
    high = [f"{name} {found:.4g} > {wanted:.4g}" for name, (found, wanted) in at_most.items() if not found <= wanted]
    return Verdict(tuple(low + high))


def score(quality: TeacherQuality) -> float:
    """I_T / log K + top-1 margin / 2 - (hard + soft usage KL) / (2 log K): larger is better."""
    log_k = float(np.log(quality.classes))
    usage = (quality.hard_usage_kl + quality.soft_usage_kl) / log_k
    return quality.info / log_k + 0.5 * quality.top1_margin - 0.5 * usage


def from_row(row: Mapping[str, Any]) -> TeacherQuality:
    """The teacher numbers that a stored row carries under `teacher_*`."""
    return TeacherQuality(
        classes=int(row["classes"]),
        info=row["teacher_info"],
        top1_margin=row["teacher_top1_margin"],
        high_margin_share=row["teacher_high_margin_share"],
        hard_usage_kl=row["teacher_hard_usage_kl"],
        soft_usage_kl=row["teacher_soft_usage_kl"],
        min_mass=row["teacher_min_mass"],
    )


def statuses(rows: Sequence[Mapping[str, Any]]) -> list[Status | None]:
    """Of the teacher of each row, also of one that failed and has no numbers: it shares its teacher with others.

    A search that found no teacher is a stress case. None where no row knows the teacher.
    """
    known = {row.get("key_teacher"): row["teacher_status"] for row in rows if row.get("teacher_status")}

    def status(row: Mapping[str, Any]) -> Status | None:
        own = "stress-case" if row["outcome"] == NO_TEACHER else row.get("teacher_status")
        return own or known.get(row.get("key_teacher", ""))

    return [status(row) for row in rows]


def entropy(probabilities: Float[np.ndarray, "*shape"]) -> float:
    """H(p) in nats, 0 log 0 = 0; summed over all entries."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def kl_to_uniform(probabilities: Float[np.ndarray, " K"]) -> float:
    """KL(p || U) = log K - H(p), nats."""
    return max(0.0, float(np.log(len(probabilities))) - entropy(probabilities))
