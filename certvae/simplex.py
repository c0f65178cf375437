"""The simplex witness: a fixed latent-only head whose code, price and force are closed forms.

The witness reads S(x) = softmax(beta V mu(x)), where the rows of V are the vertices of a regular simplex; it has
nothing to train. Hence everything about it can be computed before training: the code that reproduces a teacher, the KL
energy of that code, and the force that pushes a collapsed mean apart. What a fraction of the code buys, and what is
left of it under KL stress, is the subject of `certvae.equilibrium`.

    K  classes                 T     teacher rows, (n, K), in the simplex       Tbar  their mean, (K,)
    d  latent dimensions       V     vertices, (K, d), rows of unit length      W     span of V, K-1 dimensions
    n  rows of one split       mu    encoder means, (n, d)                      S     witness rows, (n, K)
    L_TS  mean KL(T || S)      I_T   mean KL(T || Tbar)                         G_0   margin I_T - L_TS
    beta  witness gain, and nothing else: never the weight of the KL term, which is alpha_kl

All information is in nats, energies ||mu||^2 / 2 are nats of KL to the prior N(0, I). Means are plain means over rows,
in float64. Margins of this file describe codes; the certificate of a trained model is `certvae.certificate`.
Source: arXiv 2605.18224. Identities marked "derived" follow from its definitions and are checked by the tests.
"""

import numpy as np
from jaxtyping import Float, Int

FLOAT_SLACK = 1e-9  # nats; a margin up to this is rounding, as in the certificate


def require_positive(**values: float) -> None:
    """Refuses a gain or a weight that is not a positive finite number, by name. Raises: ValueError."""
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


# --- The witness ---------------------------------------------------------------------------------------------------


def vertices(classes: int, dimension: int) -> Float[np.ndarray, "K d"]:
    """Vertices of the regular simplex: unit rows, inner products -1/(K-1), sum zero.

    V'V = K/(K-1) P, where P projects on the first K-1 coordinates: W is a block of coordinates, so energy and KL split
    exactly into the witness's part and the rest. The basis is Helmert's, in closed form, because the signs of a
    singular value decomposition differ between libraries; any other choice is a rotation within W.

    Raises: ValueError if classes < 2 or dimension < classes - 1.
    Source: arXiv 2605.18224, fixed simplex head.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if dimension < classes - 1:
        raise ValueError(
            f"a simplex of {classes} classes needs dimension >= {classes - 1}, got {dimension}; "
            "use a wider latent or fewer classes"
        )
    step = np.arange(1, classes)
    helmert = np.triu(np.ones((classes, classes - 1)))
    helmert[step, step - 1] = -step
    V = np.zeros((classes, dimension))
    V[:, : classes - 1] = helmert * np.sqrt(classes / (classes - 1) / (step * (step + 1)))
    return V


def witness_logits(
    mu: Float[np.ndarray, "n d"], vertices: Float[np.ndarray, "K d"], beta: float
) -> Float[np.ndarray, "n K"]:
    """Logits beta V mu of the witness, in nats, rows summing to zero; they read P_W mu only.

    Raises: ValueError if beta <= 0.
    Source: arXiv 2605.18224, latent-only witness.
    """
    require_positive(beta=beta)
    return beta * np.asarray(mu, dtype=np.float64) @ vertices.T


def log_softmax(logits: Float[np.ndarray, "*rows K"]) -> Float[np.ndarray, "*rows K"]:
    """Logits (nats) to log-probabilities over the last axis, in float64, without overflow."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def witness_margin(T: Float[np.ndarray, "n K"], logits: Float[np.ndarray, "n K"]) -> float:
    """Margin G_0 = I_T - L_TS (nats) of the student softmax(logits), both terms on the same rows.

    Computed as H(Tbar) - E[-sum_k T_k log S_k]: the entropies of the teacher rows cancel.
    Source: arXiv 2605.18224, certificate; the cancellation is derived.
    """
    cross_entropy = -np.sum(T * log_softmax(logits), axis=1).mean()
    return _mean_entropy(T.mean(axis=0, dtype=np.float64)) - float(cross_entropy)


def log_student_bound(radius: float, classes: int, beta: float) -> float:
    """Upper bound of -log S_k (nats) for all k and all mu with ||P_W mu|| <= radius: finite once the radius is clipped.

    -log S_k <= ln K + beta sqrt(2K/(K-1)) ||P_W mu||; the factor is beta times the edge of the simplex.
    Raises: ValueError if beta <= 0. Source: derived from arXiv 2605.18224, latent-only witness.
    """
    return float(np.log(classes) + _gain(classes, beta) * radius)


# --- Closed-form code and its energy -------------------------------------------------------------------------------


def smoothed_one_hot(labels: Int[np.ndarray, " n"], classes: int, eps: float) -> Float[np.ndarray, "n K"]:
    """Teacher rows (1 - eps) onehot(label) + eps/K; eps is shared by all K classes, the labelled one included.

    Raises: ValueError if a label is outside 0..K-1 or eps outside [0, 1].
    Source: arXiv 2605.18224, smoothed teacher.
    """
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must lie in [0, 1], got {eps}")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return (1 - eps) * np.eye(classes)[labels] + eps / classes


def centred_log_ratio(T: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """clr(T) = log T - mean_k log T_k, in nats: the logits of T whose rows sum to zero.

    Raises: ValueError, with row and class, if an entry is not strictly positive.
    Source: arXiv 2605.18224, closed-form inverse.
    """
    refused = np.argwhere(~(T > 0))
    if refused.size:
        row, k = refused[0]
        raise ValueError(
            f"teacher rows must be strictly positive, got T[{row}, {k}] = {T[row, k]}; "
            "smooth the teacher first: (1 - eps) T + eps/K with eps > 0"
        )
    log_T = np.log(T, dtype=np.float64)
    return log_T - log_T.mean(axis=1, keepdims=True)


def analytic_code(
    T: Float[np.ndarray, "n K"], vertices: Float[np.ndarray, "K d"], beta: float
) -> Float[np.ndarray, "n d"]:
    """The shortest mu with softmax(beta V mu) = T exactly: mu* = (K-1)/(K beta) V' clr(T).

    Unique up to the orthogonal complement of W, which the witness cannot see.
    Raises: ValueError if beta <= 0 or T is not strictly positive. Source: arXiv 2605.18224, closed-form inverse.
    """
    return shortest_code(centred_log_ratio(T), vertices, beta)


def shortest_code(
    logits: Float[np.ndarray, "n K"], vertices: Float[np.ndarray, "K d"], beta: float
) -> Float[np.ndarray, "n d"]:
    """The shortest mu whose witness has these zero-sum logits (nats): (K-1)/(K beta) V' logits, the pseudo-inverse.

    Raises: ValueError if beta <= 0. Source: arXiv 2605.18224, closed-form inverse.
    """
    require_positive(beta=beta)
    classes = len(vertices)
    return (classes - 1) / (classes * beta) * logits @ vertices


def log_odds_energy(T: Float[np.ndarray, "n K"]) -> float:
    """E_T = E ||clr T||^2 (nats^2), what a teacher search keeps under control against I_T.

    Raises: ValueError if T is not strictly positive. Source: arXiv 2605.18224, log-odds energy.
    """
    return float(np.square(centred_log_ratio(T)).sum(axis=1).mean())


def code_energy(T: Float[np.ndarray, "n K"], beta: float) -> float:
    """e* = E ||mu*||^2 / 2 = (K-1)/(2 K beta^2) E_T (nats): the mean's part of the KL to N(0, I) spent inside W.

    Raises: ValueError if beta <= 0 or T is not strictly positive. Source: arXiv 2605.18224, latent energy.
    """
    return logit_energy(centred_log_ratio(T), beta)


def logit_energy(logits: Float[np.ndarray, "n K"], beta: float) -> float:
    """E ||mu||^2 / 2 (nats) of the shortest code with these zero-sum logits: (K-1)/(2 K beta^2) E ||logits||^2.

    Raises: ValueError if beta <= 0. Source: arXiv 2605.18224, latent energy.
    """
    require_positive(beta=beta)
    classes = logits.shape[1]
    return (classes - 1) / (2 * classes * beta**2) * float(np.square(logits).sum(axis=1).mean())


# --- Escape force and quantitative non-collapse --------------------------------------------------------------------


def escape_force(
    T: Float[np.ndarray, "n K"], mu: Float[np.ndarray, "n d"], vertices: Float[np.ndarray, "K d"], beta: float
) -> Float[np.ndarray, "n d"]:
    """F = -d KL(T || S)/d mu = beta V'(T - S), per row, in nats per unit of mu.

    At a collapsed mean its average moves the constant and the rest, beta V'(T - Tbar), breaks it.
    Raises: ValueError if beta <= 0. Source: arXiv 2605.18224, escape force.
    """
    S = np.exp(log_softmax(witness_logits(mu, vertices, beta)))
    return beta * (T - S) @ vertices


def force_floor(T: Float[np.ndarray, "n K"], beta: float) -> float:
    """beta^2 K/(K-1) tr Cov(T): E ||F||^2 at any collapsed mean is at least this, and it is positive iff T varies.

    Covariance over the rows with divisor n. Units of F squared. Raises: ValueError if beta <= 0.
    Source: arXiv 2605.18224, escape force: no dead zone.
    """
    return _gain(T.shape[1], beta) ** 2 / 2 * float(T.var(axis=0, dtype=np.float64).sum())


def last_layer_gradient(
    force: Float[np.ndarray, "n d"], features: Float[np.ndarray, "n h"]
) -> Float[np.ndarray, "d h"]:
    """Gradient of L_TS in the weight of a last layer mu = weight features + bias: -E[F features'].

    At weight 0 it is -beta V' Cov(T, features) - E[F] E[features]': the part that breaks collapse vanishes only if the
    features are dead or uncorrelated with the teacher. Source: arXiv 2605.18224, escape force; derived.
    """
    return -force.T @ features / len(force)


def spread_lower_bound(margin: float, T: Float[np.ndarray, "n K"], beta: float) -> float:
    """A margin G_0 (nats) on the rows T forces tr Cov(P_W mu) >= G_0^2 (K-1) / (K beta^2 tr Cov T).

    From convexity at the code of Tbar, G_0 <= beta E<T - Tbar, V mu>, and Cauchy-Schwarz. Units of mu squared;
    0 for a margin that is not positive beyond rounding, which a constant teacher would otherwise blow up.
    Raises: ValueError if beta <= 0. Source: derived from arXiv 2605.18224, latent-only witness.
    """
    return margin**2 / force_floor(T, beta) if margin > FLOAT_SLACK else 0.0


def distance_lower_bound(margin: float, classes: int, beta: float) -> float:
    """A margin G_0 (nats) forces E ||P_W mu - m|| >= G_0 / (beta sqrt(2K/(K-1))) for every fixed m; 0 if G_0 <= 0.

    Units of mu. Raises: ValueError if beta <= 0. Source: derived from arXiv 2605.18224, latent-only witness.
    """
    return max(margin, 0.0) / _gain(classes, beta)


# --- Teacher and student that see different inputs -----------------------------------------------------------------


def view_gap(views: Float[np.ndarray, "n R K"]) -> float:
    """Plug-in gap E[H(mean_r T_r) - mean_r H(T_r)] (nats) of a teacher that sees R views of what the student sees once.

    It is the floor of L_TS, and I_T - gap the largest margin; the certificate keeps its form, since the gap cancels.
    Source: arXiv 2605.18224, view gap.
    """
    views = np.asarray(views, dtype=np.float64)
    return _mean_entropy(views.mean(axis=1)) - _mean_entropy(views)


def transfer_bound(
    T: Float[np.ndarray, "n K"], cached: Float[np.ndarray, "n K"], log_student: Float[np.ndarray, "n K"]
) -> float:
    """Bound E[||T - T'||_1 max_k |log S_k|] (nats) on how cached targets T' mislead about T.

    |L_T - L_T' - (E H(T') - E H(T))| is at most this for L = E KL(. || S). Take `log_student_bound` for a bound that
    needs no student. Source: arXiv 2605.18224, view gap; derived.
    """
    return float((np.abs(T - cached).sum(axis=1) * np.abs(log_student).max(axis=1)).mean())


# --- Shared formulas -----------------------------------------------------------------------------------------------


def _gain(classes: int, beta: float) -> float:
    """beta sqrt(2K/(K-1)): the Lipschitz constant of log S_k in P_W mu."""
    require_positive(beta=beta)
    return beta * float(np.sqrt(2 * classes / (classes - 1)))


def _mean_entropy(p: Float[np.ndarray, "*rows K"]) -> float:
    """Mean over all rows of the entropy over the last axis (nats), with 0 log 0 = 0."""
    return float(-np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1).mean())
