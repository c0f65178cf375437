"""Populations of teacher and student rows with finitely many kinds of row, so that their margins are known exactly."""

from dataclasses import dataclass

import numpy as np

from certvae.certificate import Pairs, Reference


@dataclass(frozen=True)
class Population:
    """Kind j of row has teacher[j], student[j] (M, K), weight[j] (M,) and stratum[j] (M,)."""

    teacher: np.ndarray
    student: np.ndarray
    weight: np.ndarray
    stratum: np.ndarray

    def kinds(self, n: int, generator: np.random.Generator) -> np.ndarray:
        return generator.choice(len(self.weight), size=n, p=self.weight)

    def pairs(self, kinds: np.ndarray, split: str = "certify") -> Pairs:
        with np.errstate(divide="ignore"):
            return Pairs(teacher=self.teacher[kinds], log_student=np.log(self.student[kinds]), split=split)

    def reference(self, rows: int, generator: np.random.Generator, *, strata: bool = False) -> Reference:
        """Train rows drawn from the same population."""
        kinds = self.kinds(rows, generator)
        return Reference(teacher=self.teacher[kinds], split="train", strata=self.stratum[kinds] if strata else None)

    def margin(self, eta: float = 0.01, *, strata: bool = False) -> float:
        """E sum_k T_k log(S_k / p_k), p the mean teacher row (of the stratum), S mixed with eta of the uniform row."""
        groups = self.stratum if strata else np.zeros(len(self.weight), int)
        smoothed = (1 - eta) * self.student + eta / self.student.shape[1]
        total = 0.0
        for group in np.unique(groups):
            mine = groups == group
            mean = self.weight[mine] @ self.teacher[mine] / self.weight[mine].sum()
            present = mean > 0
            gain = np.log(smoothed[mine][:, present]) - np.log(mean[present])
            total += self.weight[mine] @ (self.teacher[mine][:, present] * gain).sum(axis=1)
        return float(total)


def population(kind: str, classes: int, seed: int = 0, kinds: int = 400) -> Population:
    """hard: one-hot teacher, a student that errs; soft: teacher rows like a posterior; smoothed: soft, and 5 % of both
    rows are the uniform row; rare: hard, and one row in 500 on which the student excludes the truth; blind: a student
    that knows nothing of the teacher, so that the margin is negative.
    """
    generator = np.random.default_rng([seed, classes])
    label = np.arange(kinds) % classes if kinds >= classes else generator.integers(classes, size=kinds)
    weight = generator.dirichlet(np.full(kinds, 2.0))
    logits = generator.normal(size=(kinds, classes)) + (3 + np.log(classes)) * np.eye(classes)[label]
    teacher = _softmax(2 * logits) if kind in {"soft", "smoothed", "blind"} else np.eye(classes)[label]
    student = _softmax(0.7 * logits + generator.normal(size=logits.shape))
    if kind == "smoothed":
        teacher, student = (0.95 * rows + 0.05 / classes for rows in (teacher, student))
    if kind == "blind":
        student = student[generator.permutation(kinds)]
    if kind == "rare":
        wrong = np.eye(classes)[(label[:4] + 1) % classes]
        weight = np.concatenate([weight * 0.998, np.full(4, 0.0005)])
        teacher, student = np.concatenate([teacher, teacher[:4]]), np.concatenate([student, wrong])
    return Population(teacher, student, weight, np.arange(len(weight)) % 3)


def _softmax(logits: np.ndarray) -> np.ndarray:
    rows = np.exp(logits - logits.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)
