"""Fair heads for a latent that nobody aligned: the best affine head, and the best rotation of the fixed witness.

A fixed witness fails a healthy latent whose axes happen to lie elsewhere. Both heads here read the latent and nothing
else, so a positive margin of either certifies the latent by the same theorem (arXiv 2605.05813, Theorem 1); it says
nothing about the head that was used in training. They are fitted on train rows, stopped on guard rows, and certified
on rows that neither has seen.

    z  (n, d)  latent rows: posterior means, or draws      T  (n, K)  teacher rows      a = W z + b  (n, K)  logits
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from certvae.simplex import analytic_code, vertices
from certvae.training.optimisers import Adam, Lbfgs

Latents = Float[np.ndarray, "n d"]
Rows = Float[np.ndarray, "n K"]

WEIGHT_DECAY = 1e-4  # L2 on the weights of standardised latents, nats
SMALLEST_SCALE = 0.01  # a unit that varies less is not blown up: with any gain allowed, rounding could be certified
ROUND = 5  # steps between two looks at the guard rows
HISTORY = 10  # steps that L-BFGS remembers
PATIENCE = 3  # rounds without a better guard loss
MAX_ROUNDS = 100
FEW = 2**15  # logits, rows times classes, of a fit that is the host's: counted kernels say so, and no card has shown it
SHORT_STEPS, SHORT_RATE, SHORT_BATCH = 200, 1e-3, 256


@dataclass(frozen=True)
class AffineHead:
    """Logits W z + b, in float64."""

    weight: Float[np.ndarray, "K d"]
    bias: Float[np.ndarray, " K"]

    def logits(self, z: Latents) -> Rows:
        """Logits (nats) of latent rows."""
        return z.astype(np.float64) @ self.weight.T + self.bias

    @property
    def gain(self) -> float:
        """Spectral norm of W without the part that adds the same to every logit, which a softmax ignores."""
        return float(np.linalg.norm(self.weight - self.weight.mean(axis=0), 2))


def constant_head(T: Rows, latent: int) -> AffineHead:
    """The best constant student of these rows: log Tbar, whatever the `latent` units are."""
    mean = np.maximum(T.mean(axis=0, dtype=np.float64), np.finfo(np.float64).tiny)
    return AffineHead(np.zeros((T.shape[1], latent)), np.log(mean / mean.sum()))


@torch.inference_mode(False)
def affine_head(
    z: Latents, T: Rows, guard_z: Latents, guard_T: Rows, device: str = "cpu", *, start: AffineHead | None = None
) -> AffineHead:
    """The affine head of least E KL(T || softmax(W z + b)) plus L2 on train rows, stopped early on guard rows.

    It starts as the constant log Tbar and every step descends, so its margin on the train rows is never negative:
    when it does not improve the guard rows it stays the constant. L-BFGS on all rows at once, float64, no randomness.

    Args:
        device: where the loss of many rows is computed; L-BFGS and few rows are the host's.
        start: a head on the same units to go on from, in place of the constant.

    Source: arXiv 2605.05813, post-hoc head; how the paper fits it is not printed.
    """
    centre, scale = z.mean(axis=0, dtype=np.float64), np.maximum(z.std(axis=0, dtype=np.float64), SMALLEST_SCALE)
    train, guard = ((np.asarray(rows, dtype=np.float64) - centre) / scale for rows in (z, guard_z))
    begin = start or constant_head(T, z.shape[1])
    begun = np.concatenate([(begin.weight * scale).T, (begin.bias + begin.weight @ centre)[None]])
    place = device if T.size > FEW else "cpu"
    found = _descend(_Task(train, T, place), _Task(guard, guard_T, place), np.ascontiguousarray(begun))
    weight, bias = np.split(found, [-1])
    return AffineHead(weight.T / scale, bias[0] - centre / scale @ weight)


def rotation_head(mu: Latents, T: Rows, beta: float) -> AffineHead:
    """The fixed witness on the best rotation of centred means: orthogonal Procrustes from mu to the analytic code.

    It may turn, mirror and shift the latent; the gain of the witness stays beta.

    Raises:
        ValueError: d < K - 1, beta <= 0, or a teacher row that is not strictly positive.
    Source: arXiv 2605.18224, fixed witness and closed-form inverse; the comparison is this project's.
    """
    V = vertices(T.shape[1], mu.shape[1])
    code = analytic_code(T.astype(np.float64), V, beta)
    centre, target = mu.mean(axis=0, dtype=np.float64), code.mean(axis=0)
    left, _, right = np.linalg.svd((mu - centre).T @ (code - target))
    weight = beta * V @ (left @ right).T
    return AffineHead(weight, beta * V @ target - weight @ centre)


def relabelling(teacher: Rows, log_student: Rows) -> Int64[np.ndarray, " K"]:
    """`order` with the least E KL(T || S[:, order]) among all one-to-one maps of classes (Hungarian method).

    Source: this project's, for GMVAEs: the paper holds raw component numbers against the teacher's.
    """
    return linear_sum_assignment(teacher.T.astype(np.float64) @ log_student, maximize=True)[1].astype(np.int64)


def short_head(z: Latents, T: Rows, seed: int) -> AffineHead:
    """200 steps of Adam from PyTorch's usual start: no penalty, no guard rows, no bias at log Tbar.

    Source: arXiv 2605.05813, post-hoc column of the baseline table, as the printed values imply it.
    """
    generator = torch.Generator().manual_seed(seed)
    latents, targets = torch.from_numpy(z.astype(np.float32)), torch.from_numpy(T.astype(np.float32))
    bound = 1 / np.sqrt(z.shape[1])
    weight, bias = (
        nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * bound)
        for shape in ((T.shape[1], z.shape[1]), (T.shape[1],))
    )
    optimiser = Adam([weight, bias], lr=SHORT_RATE)
    for _ in range(SHORT_STEPS):
        rows = torch.randint(len(z), (SHORT_BATCH,), generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(functional.linear(latents[rows], weight, bias), targets[rows]).backward()
        optimiser.step()
    return AffineHead(weight.detach().double().numpy(), bias.detach().double().numpy())


def label_probe(
    z: Latents,
    y: Int64[np.ndarray, " n"],
    guard_z: Latents,
    guard_y: Int64[np.ndarray, " n"],
    classes: int,
    device: str = "cpu",
) -> AffineHead:
    """Multinomial logistic regression on true labels; guard rows stop it, in place of a search for a penalty."""
    one_hot = np.eye(classes)
    return affine_head(z, one_hot[y], guard_z, one_hot[guard_y], device)


def accuracy(logits: Rows, y: Int64[np.ndarray, " n"]) -> float:
    """Share of rows whose largest logit is at the true label."""
    return float((logits.argmax(axis=1) == y).mean())


class _Task:
    """Mean KL of a teacher to an affine head, up to the teacher's entropy, on the rows of one split.

    Parameters and loss lie on the host: L-BFGS waits for fourteen numbers per loss, and a card answers late.
    """

    def __init__(self, z: Latents, T: Rows, device: str):
        ones = np.ones((len(z), 1))
        self._inputs = torch.from_numpy(np.concatenate([z, ones], axis=1)).to(device)
        self._teacher = torch.from_numpy(np.asarray(T, dtype=np.float64)).to(device)

    def loss(self, parameters: Tensor) -> Tensor:
        return functional.cross_entropy(self._inputs @ parameters.to(self._inputs.device), self._teacher).cpu()


def _descend(train: _Task, guard: _Task, start: Float[np.ndarray, "d+1 K"]) -> Float[np.ndarray, "d+1 K"]:
    """Weights and, as last row, the bias: those of the round with the least guard loss."""
    parameters = torch.from_numpy(start).clone().requires_grad_(True)
    optimiser = Lbfgs([parameters], max_iter=ROUND, history_size=HISTORY, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = train.loss(parameters) + WEIGHT_DECAY / 2 * parameters[:-1].square().sum()
        loss.backward()
        return loss

    best, least, waited = start, _value(guard, parameters), 0
    for _ in range(MAX_ROUNDS):
        optimiser.step(closure)
        found = _value(guard, parameters)
        if found < least:
            best, least, waited = parameters.detach().numpy().copy(), found, 0
        else:
            waited += 1
        if waited == PATIENCE:
            break
    return best


@torch.no_grad()
def _value(task: _Task, parameters: Tensor) -> float:
    return float(task.loss(parameters))
