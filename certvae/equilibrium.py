"""Margin against energy: what a fraction of the analytic code buys, and what KL stress leaves of it.

The path scales the code of a teacher, mu_a = a mu*, and reads margin and energy at each scale. The equilibrium lets
each row choose its own mean, with alignment paying and the prior charging, by a strictly convex problem:

    min over mu   alpha_kl/2 ||mu||^2 + lambda_ts KL(T || softmax(beta V mu))

Up to the scale of mu its solution depends on lambda_ts beta^2 / alpha_kl only: two of the three knobs of a sweep are
redundant. Reconstruction, which is absent here, moves mu along unaligned directions of W, so a trained model needs a
larger lambda_ts than this file says.

    K  classes    n  rows    d  latent dimensions    T  teacher rows, (n, K)    V  simplex vertices, (K, d)
    a  scale of a code, no unit    L_TS  mean KL(T || S)    I_T  mean KL(T || Tbar)    G, G_0  margin I_T - L_TS
    alpha_kl   weight of KL(q(z|x) || N(0, I))       lambda_ts   weight of L_TS        beta  witness gain

Margins and energies are in nats, float64, plain means over rows; none of them needs V.
Source: arXiv 2605.18224. Statements marked "derived" follow from its definitions and are checked by the tests.
"""

from typing import Literal, NamedTuple, assert_never

import numpy as np
from jaxtyping import Float

from certvae.simplex import (
    centred_log_ratio,
    code_energy,
    log_softmax,
    logit_energy,
    require_positive,
    shortest_code,
    witness_margin,
)

Anchor = Literal["uniform", "mean"]

STEP_TOLERANCE = 1e-8  # of a logit; Newton's method is quadratic, so the error after such a step is about its square
SCALE_TOLERANCE = 1e-12
MAX_STEPS = 200


class MarginEnergyPath(NamedTuple):
    """Margins G_0 and energies E ||mu_a||^2 / 2 (nats) along a path, one entry per scale."""

    margins: Float[np.ndarray, " a"]
    energies: Float[np.ndarray, " a"]


def margin_energy_path(
    T: Float[np.ndarray, "n K"], scales: Float[np.ndarray, " a"], beta: float, anchor: Anchor = "uniform"
) -> MarginEnergyPath:
    """Margin and energy (nats) of the codes m + a (mu* - m), one pair per scale a; scales may exceed 1.

    The anchor m is the constant code that the path leaves: the origin for "uniform" (margin -KL(Tbar || U) at a = 0,
    energy a^2 e*), the code of Tbar for "mean" (margin 0 at a = 0). Both end at mu*, where the margin is I_T.

    Raises: ValueError if beta <= 0 or T is not strictly positive. Source: arXiv 2605.18224, margin-energy path.
    """
    start, end = _anchor_logits(T, anchor), centred_log_ratio(T)
    codes = [start + a * (end - start) for a in scales]
    return MarginEnergyPath(
        margins=np.array([witness_margin(T, logits) for logits in codes]),
        energies=np.array([logit_energy(logits, beta) for logits in codes]),
    )


def path_lower_bound(
    T: Float[np.ndarray, "n K"], scales: Float[np.ndarray, " a"], anchor: Anchor = "uniform"
) -> Float[np.ndarray, " a"]:
    """Lower bound (1-a) G(0) + a I_T of the margin (nats): L_TS is convex in a, so G lies above its chord.

    Raises: ValueError if a scale is outside [0, 1], where the chord is no bound, or T is not strictly positive.
    Source: arXiv 2605.18224, margin-energy path; derived.
    """
    if np.any((scales < 0) | (scales > 1)):
        raise ValueError(f"the bound holds for scales in [0, 1], got {scales.min()}..{scales.max()}")
    start, end = _path_ends(T, anchor)
    return (1 - scales) * start + scales * end


def sufficient_scale(T: Float[np.ndarray, "n K"], margin: float, anchor: Anchor = "uniform") -> float:
    """A scale that guarantees a margin (nats) by the chord: (margin + D)/(I_T + D), D = -G(0); usually far too large.

    Raises: ValueError if margin is outside [0, I_T) or T is not strictly positive.
    Source: arXiv 2605.18224, margin-energy path; derived.
    """
    start, end = _path_ends(T, anchor)
    if not 0 <= margin < end:
        raise ValueError(f"margin must lie in [0, I_T) = [0, {end}), got {margin}; no code exceeds I_T")
    return (margin - start) / (end - start)


def best_prefit_scale(T: Float[np.ndarray, "n K"], *, alpha_kl: float, lambda_ts: float, beta: float) -> float:
    """The scale a in [0, 1] of the code a mu* that minimises alpha_kl a^2 e* + lambda_ts L_TS(a).

    For smoothed one-hot teachers this code is the equilibrium itself; for others it is the best start on the path.
    The derivative rises from negative at 0 to positive at 1, so Newton's method is kept inside a shrinking bracket.

    Raises: ValueError if a weight is not positive or T is not strictly positive; ArithmeticError if not converged.
    Source: arXiv 2605.18224, margin-energy path; the optimum is derived.
    """
    require_positive(alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta)
    log_odds, price = centred_log_ratio(T), alpha_kl / lambda_ts * code_energy(T, beta)
    if price == 0:  # a uniform teacher: every scale is the origin
        return 0.0
    low, high, scale = 0.0, 1.0, 0.5
    for _ in range(MAX_STEPS):
        slope, curvature = _loss_derivatives(T, log_odds, scale)
        slope, curvature = slope + 2 * price * scale, curvature + 2 * price
        low, high = (scale, high) if slope < 0 else (low, scale)
        newton = scale - slope / curvature
        scale, previous = (newton if low <= newton <= high else (low + high) / 2), scale
        if abs(scale - previous) <= SCALE_TOLERANCE:
            return scale
    raise ArithmeticError(f"no prefit scale to {SCALE_TOLERANCE} in {MAX_STEPS} steps, last bracket [{low}, {high}]")


def equilibrium_logits(
    T: Float[np.ndarray, "n K"], *, alpha_kl: float, lambda_ts: float, beta: float
) -> Float[np.ndarray, "n K"]:
    """Zero-sum logits u = beta V mu (nats) at which force and KL pull balance: alpha_kl mu = lambda_ts beta V'(T - S).

    In u the problem reads min stiffness/2 ||u||^2 + logsumexp(u) - <T, u>, stiffness = alpha_kl (K-1)/(lambda_ts K
    beta^2). T may have zeros. Newton's step is shortened to ln(1 + r)/r of itself, r its range over the classes: the
    third derivative of logsumexp is at most r times the second, so every step descends and no line search is needed
    (generalized self-concordance, Sun & Tran-Dinh 2019).

    Raises: ValueError if a weight is not positive; ArithmeticError if not converged.
    Source: derived from the objective of arXiv 2605.18224.
    """
    require_positive(alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta)
    classes = T.shape[1]
    stiffness = alpha_kl * (classes - 1) / (lambda_ts * classes * beta**2)
    logits = np.zeros(T.shape)
    for _ in range(MAX_STEPS):
        S = np.exp(log_softmax(logits))
        step = _newton_step(stiffness * logits + S - T, S, stiffness)
        reach = np.ptp(step, axis=1, keepdims=True)
        logits = logits - np.log1p(reach) / np.where(reach > 0, reach, 1) * step
        if reach.max() <= STEP_TOLERANCE:
            return logits
    raise ArithmeticError(f"no equilibrium in {MAX_STEPS} steps; check that T is finite and that its rows sum to one")


def equilibrium_code(
    T: Float[np.ndarray, "n K"],
    vertices: Float[np.ndarray, "K d"],
    *,
    alpha_kl: float,
    lambda_ts: float,
    beta: float,
) -> Float[np.ndarray, "n d"]:
    """Means mu at equilibrium, inside W.

    Raises: ValueError if a weight is not positive; ArithmeticError if not converged.
    Source: derived from the objective of arXiv 2605.18224.
    """
    logits = equilibrium_logits(T, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta)
    return shortest_code(logits, vertices, beta)


def equilibrium_margin(T: Float[np.ndarray, "n K"], *, alpha_kl: float, lambda_ts: float, beta: float) -> float:
    """Margin G_0 (nats) at equilibrium: what KL stress alone leaves of I_T.

    Raises: ValueError if a weight is not positive; ArithmeticError if not converged.
    Source: arXiv 2605.18224, KL stress; the value is derived.
    """
    return witness_margin(T, equilibrium_logits(T, alpha_kl=alpha_kl, lambda_ts=lambda_ts, beta=beta))


def _anchor_logits(T: Float[np.ndarray, "n K"], anchor: Anchor) -> Float[np.ndarray, " K"]:
    match anchor:
        case "uniform":
            return np.zeros(T.shape[1])
        case "mean":
            return centred_log_ratio(T.mean(axis=0, dtype=np.float64, keepdims=True))[0]
        case _:
            assert_never(anchor)


def _path_ends(T: Float[np.ndarray, "n K"], anchor: Anchor) -> tuple[float, float]:
    """Margins at scale 0, which is -KL(Tbar || anchor), and at scale 1, which is I_T."""
    margins, _ = margin_energy_path(T, np.array([0.0, 1.0]), beta=1.0, anchor=anchor)
    return float(margins[0]), float(margins[1])


def _loss_derivatives(
    T: Float[np.ndarray, "n K"], log_odds: Float[np.ndarray, "n K"], scale: float
) -> tuple[float, float]:
    """First and second derivative of L_TS(a) at a = scale: -E<T - S_a, clr T> and E Var_{S_a}(clr T)."""
    S = np.exp(log_softmax(scale * log_odds))
    mean = np.sum(S * log_odds, axis=1, keepdims=True)
    slope = np.sum((S - T) * log_odds, axis=1).mean()
    return float(slope), float(np.sum(S * (log_odds - mean) ** 2, axis=1).mean())


def _newton_step(
    gradient: Float[np.ndarray, "n K"], S: Float[np.ndarray, "n K"], stiffness: float
) -> Float[np.ndarray, "n K"]:
    """(stiffness I + diag S - S S')^-1 gradient per row, by Sherman-Morrison; rows sum to zero, as the gradient's do.

    1 - sum S^2/(stiffness + S) is written as a sum of positive terms, which keeps its digits when S is nearly one-hot;
    the mean is removed because a small stiffness magnifies its rounding.
    """
    diagonal = stiffness + S
    scaled = gradient / diagonal
    overlap = np.sum(S * scaled, axis=1, keepdims=True) / np.sum(stiffness * S / diagonal, axis=1, keepdims=True)
    step = scaled + overlap * S / diagonal
    return step - step.mean(axis=1, keepdims=True)
