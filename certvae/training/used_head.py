"""Trains towards a corrected ("used") head while the raw head is worse than the best constant.

It is a map of raw student rows whose parameters are shared by all rows of a batch, so equal raw rows give equal used
rows: it cannot hide a constant code. Certificates read the raw head alone. Here the training loss of a used head is a
scalar, and its rows leave this module as `UsedDiagnostics` only, which `certify` does not accept.

    T  (n, K)  teacher rows      a  (n, K)  raw logits, S = softmax(a)      Tbar  (K,)  mean teacher row
    used rows: softmax(c log S + b), or (1 - w) S + w Tbar                  (arXiv 2605.05813, shared-safe protection)

A map that read T of a row, or x, could vary over rows whose latent is constant. The paper prints the principle; both
maps are this project's.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from certvae.certificate import Pairs, observe
from certvae.quality import measure
from certvae.spec.rescue import Protection, SafeMix, SharedAffine
from certvae.training import objective
from certvae.training.losses import Align
from certvae.training.objective import Rows, Scalar

GAINS = (0.1, 10.0)  # bounds of c: 0 would make every row the constant softmax(b)
DAMPING = 1e-6  # added to the curvature, which vanishes along constants
SHRINKINGS = 12  # halvings of a Newton step before the fit stops


@dataclass(frozen=True)
class Affine:
    """log S -> c log S + b, one c and one b for all rows."""

    gain: Float[Tensor, ""]
    bias: Float[Tensor, " K"]

    def __call__(self, log_student: Rows) -> Rows:
        """Log-probabilities of the used rows."""
        return functional.log_softmax(self.gain * log_student + self.bias, dim=1)


@dataclass(frozen=True)
class Mix:
    """S -> (1 - w) S + w Tbar, one Tbar for all rows."""

    weight: float
    mean: Float[Tensor, " K"]

    def __call__(self, log_student: Rows) -> Rows:
        """Log-probabilities of the used rows."""
        return torch.logaddexp(log_student + math.log1p(-self.weight), self.mean.log() + math.log(self.weight))


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
        pairs = Pairs(teacher=teacher, log_student=log_used, split=split)
        (n, classes), seen = pairs.teacher.shape, observe(pairs)
        return cls(split=split, n=n, classes=classes, info=seen.info, loss=seen.loss)


Map = Affine | Mix


@torch.no_grad()
def fit_map(protection: Protection, teacher: Rows, log_student: Rows) -> Map:
    """The map of a batch; its parameters are constants for whoever differentiates through the rows."""
    match protection:
        case SafeMix(weight=weight):
            return Mix(weight, teacher.mean(dim=0))
        case SharedAffine(newton_steps=steps):
            return _newton(teacher, log_student, steps)


def protected_alignment(protection: Protection, info: float) -> Align:
    """E KL(T || used) where the raw head is below the buffer, and L_TS of the raw head elsewhere.

    Args:
        info: I_T of all train rows, nats. A batch's own would be too small by about (K - 1) / 2n.
    """

    def align(teacher: Rows, logits: Rows) -> Scalar:
        log_student = functional.log_softmax(logits, dim=1)
        raw = objective.alignment(teacher, log_student)
        if not is_triggered(protection, info, float(raw.detach())):
            return raw
        used = fit_map(protection, teacher, log_student.detach())(log_student)
        return functional.kl_div(used, teacher, reduction="batchmean")

    return align


def is_triggered(protection: Protection, info: float, loss: float) -> bool:
    """G_tau = I_T - L_TS - tau of the raw head is negative."""
    return info - loss - protection.tau < 0


def diagnose(
    protection: Protection,
    fitted_on: tuple[Float[np.ndarray, "m K"], Float[np.ndarray, "m K"]],
    rows: tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "n K"]],
    *,
    split: str,
) -> UsedDiagnostics:
    """The used head on the rows of a split, its map fitted on others.

    Where the raw head clears the buffer on the rows of the fit, the used head is the raw head.

    Args:
        fitted_on: teacher rows and raw log-student rows for the trigger and the map.
        rows: teacher rows and raw log-student rows of the split.
    """
    teacher, log_student = (torch.from_numpy(np.asarray(given, dtype=np.float64)) for given in fitted_on)
    used = torch.from_numpy(np.asarray(rows[1], dtype=np.float64))
    loss = float(objective.alignment(teacher, log_student))
    if is_triggered(protection, measure(fitted_on[0]).info, loss):
        used = fit_map(protection, teacher, log_student)(used)
    return UsedDiagnostics.from_rows(rows[0], used.numpy(), split=split)


def _newton(teacher: Rows, log_student: Rows, steps: int) -> Affine:
    """(c, b) of least E KL(T || softmax(c log S + b)), convex; every step descends from c = 1, b = 0."""
    targets, rows = teacher.double(), log_student.double()
    parameters = torch.cat([rows.new_ones(1), rows.new_zeros(rows.shape[1])])
    for _ in range(steps):
        better = _descend(parameters, targets, rows)
        if better is None:
            break
        parameters = better
    found = parameters.to(log_student.dtype)
    return Affine(found[0], found[1:])


def _descend(parameters: Tensor, teacher: Rows, rows: Rows) -> Tensor | None:
    """The longest of the Newton step and its halvings that lowers the loss, or None."""
    loss, direction = _loss(parameters, teacher, rows), _direction(parameters, teacher, rows)
    tries = (_bounded(parameters - direction / 2**halvings) for halvings in range(SHRINKINGS))
    return next((tried for tried in tries if _loss(tried, teacher, rows) < loss), None)


def _direction(parameters: Tensor, teacher: Rows, rows: Rows) -> Tensor:
    """Gradient over curvature. With used rows u, logits c r + b: the gradient is E (u - T)(r, 1)."""
    used = functional.softmax(parameters[0] * rows + parameters[1:], dim=1)
    n, error = len(rows), used - teacher
    gradient = torch.cat([(error * rows).sum()[None], error.sum(dim=0)]) / n
    mean = (used * rows).sum(dim=1, keepdim=True)
    towards = used * (rows - mean)
    curvature = rows.new_empty(len(parameters), len(parameters))
    curvature[0, 0] = (towards * rows).sum() / n
    curvature[0, 1:] = curvature[1:, 0] = towards.sum(dim=0) / n
    curvature[1:, 1:] = used.sum(dim=0).diag() / n - used.T @ used / n
    curvature.diagonal().add_(DAMPING)
    if (parameters[0] <= GAINS[0] and gradient[0] > 0) or (parameters[0] >= GAINS[1] and gradient[0] < 0):
        gradient[0] = curvature[0, 1:] = curvature[1:, 0] = 0  # c stays on its bound, b is fitted to it
    return torch.linalg.solve(curvature, gradient)


def _bounded(parameters: Tensor) -> Tensor:
    """c in its interval, b centred."""
    gain, bias = parameters[:1].clamp(*GAINS), parameters[1:]
    return torch.cat([gain, bias - bias.mean()])


def _loss(parameters: Tensor, teacher: Rows, rows: Rows) -> Tensor:
    return functional.cross_entropy(parameters[0] * rows + parameters[1:], teacher)
