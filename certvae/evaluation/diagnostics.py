"""Diagnostics: numbers that describe a network on one split. None of them certifies anything.

mu, logvar (n, d)   posterior means and log-variances      T (n, K)  teacher rows of the same rows
a          (n, K)   logits of the raw head, float64        psnr_01 in [0, 1] space, psnr_std on standardised pixels
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from certvae.certificate import Observed, Pairs, cross_entropies, observe
from certvae.data.dataset import Dataset, Split
from certvae.errors import NumberFault
from certvae.evaluation import subspace
from certvae.models.nets import SimplexWitness, Vae
from certvae.quality import entropy, kl_to_uniform
from certvae.store.store import Workbench
from certvae.training.batches import Batches, Targets, cached

ACTIVE_VARIANCE = 0.01  # a latent unit is active when Var_x(mu_j) exceeds this, strictly
USED_SHARE = 0.1  # a class is used when its argmax frequency reaches this share of 1 / K
HEAD_ROWS = 8192  # rows per call of the float64 head
EVALUATION_ROWS = 512  # rows per batch wherever nothing is trained
GPU_EVALUATION_ROWS = 2048  # a card waits for each launch; without gradients a pass holds two layers, not all of them


@dataclass(frozen=True)
class Passage:
    """One pass of a network over a split: what every diagnostic is computed from."""

    mu: Float[np.ndarray, "n d"]
    logvar: Float[np.ndarray, "n d"]
    channel_mse: Float[np.ndarray, " C"]
    """Mean squared error in [0, 1] pixel space, z = mu."""


@torch.inference_mode()
def passage(vae: Vae, batches: Batches, targets: Targets = cached) -> Passage:
    """Encodes and reconstructs every row once, eval mode, z = mu, with these targets in the decoder's teacher slot."""
    vae.eval()
    mus, logvars, squares, pixels = [], [], [], 0
    for batch in batches.in_order():
        mu, logvar = vae.encoder(batch.x)
        x_hat = torch.sigmoid(vae.decoder(mu, targets(batch, mu)))
        squares.append((x_hat - batch.x).double().square().sum(dim=(0, 2, 3)))
        pixels += batch.x.shape[0] * batch.x.shape[2] * batch.x.shape[3]
        mus.append(mu)
        logvars.append(logvar)
    return Passage(_array(torch.cat(mus)), _array(torch.cat(logvars)), _array(torch.stack(squares).sum(dim=0)) / pixels)


def features(vae: Vae, dataset: Dataset, split: Split, bench: Workbench) -> Float[np.ndarray, "n d"]:
    """Posterior means of every row of a split."""
    return passage(vae, evaluation(dataset, split, None, bench)).mu


def evaluation(dataset: Dataset, split: Split, targets: Float[np.ndarray, "n K"] | None, bench: Workbench) -> Batches:
    """All rows of a split in order, in batches for a pass without gradients."""
    rows = EVALUATION_ROWS if bench.device == "cpu" else GPU_EVALUATION_ROWS
    return Batches(dataset, split, targets, rows, bench.device)


@torch.inference_mode()
def head_logits(head: nn.Module, latent: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
    """Logits of the raw head on latent rows, in float64: equal rows then agree to about 1e-15.

    Raises:
        NumberFault: when latent rows or weights left the finite numbers.
    """
    exact = copy.deepcopy(head).cpu().double()
    rows = torch.from_numpy(latent.astype(np.float64))
    logits = np.concatenate([exact(chunk).numpy() for chunk in rows.split(HEAD_ROWS)])
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise NumberFault(
            f"logits of the raw head are not finite for {bad} of {len(logits)} rows",
            "lower learning_rate or the weights; the row stays in the table as diverged",
            where="certificate",
        )
    return logits


def sampled(
    mu: Float[np.ndarray, "n d"], logvar: Float[np.ndarray, "n d"], generator: np.random.Generator
) -> Float[np.ndarray, "n d"]:
    """One draw z ~ q(z|x) per row."""
    return mu + np.exp(0.5 * logvar) * generator.standard_normal(mu.shape)


def psnr_01(channel_mse: Float[np.ndarray, " C"]) -> float:
    """-10 log10 of the mean squared error of the whole split, peak 1, in [0, 1] pixel space; dB."""
    return float(-10 * np.log10(channel_mse.mean()))


def psnr_std(channel_mse: Float[np.ndarray, " C"], std: Float[np.ndarray, " C"]) -> float:
    """The same formula on pixels standardised per channel, peak still 1; dB. Never compared with `psnr_01`."""
    return float(-10 * np.log10((channel_mse / np.square(std)).mean()))


def active_units(mu: Float[np.ndarray, "n d"]) -> int:
    """Number of latent units with Var_x(mu_j) > 0.01."""
    return int((mu.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE).sum())


def kl_rate(mu: Float[np.ndarray, "n d"], logvar: Float[np.ndarray, "n d"]) -> float:
    """Unweighted mean KL(q(z|x) || N(0, I)) per image, nats."""
    exact_mu, exact_logvar = mu.astype(np.float64), logvar.astype(np.float64)
    return float(0.5 * (exact_mu**2 + np.exp(exact_logvar) - 1 - exact_logvar).sum(axis=1).mean())


def usage(rows: Float[np.ndarray, "n K"], name: str) -> dict[str, float | int]:
    """How many classes rows on the simplex use, hard (argmax) and soft (mean row)."""
    n, classes = rows.shape
    mean = rows.mean(axis=0)
    hard = np.bincount(rows.argmax(axis=1), minlength=classes) / n
    return {
        f"{name}_hard_usage_kl": kl_to_uniform(hard),
        f"{name}_soft_usage_kl": kl_to_uniform(mean),
        f"{name}_min_mass": float(mean.min()),
        f"{name}_effective_classes": float(np.exp(entropy(mean))),
        f"{name}_used_classes": int((hard >= USED_SHARE / classes).sum()),
    }


def guard_numbers(head: nn.Module, seen: Passage, teacher: Float[np.ndarray, "n K"] | None) -> dict[str, float | None]:
    """The numbers of one curve point on the guard rows; certificate numbers only where there is a teacher."""
    numbers = {
        "guard_psnr_01": psnr_01(seen.channel_mse),
        "guard_kl_rate": kl_rate(seen.mu, seen.logvar),
        "guard_active_units": float(active_units(seen.mu)),
    }
    if teacher is not None:
        numbers |= _margins(observe(Pairs.from_logits(teacher, head_logits(head, seen.mu), split="guard")))
        numbers |= _in_subspace(head, seen, teacher)
    return {name: value if value is not None and np.isfinite(value) else None for name, value in numbers.items()}


def pairing_p_value(pairs: Pairs, permutations: int, generator: np.random.Generator) -> float:
    """How often a random pairing of student with teacher rows has as small a loss: a test of independence.

    Exact under independence, for both views; a constant S gives 1. Re-pairing moves the cross-entropy only.
    Raises ValueError for permutations < 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be >= 1, got {permutations}.")
    observed = cross_entropies(pairs.teacher, pairs.log_student).mean()
    shuffled = (generator.permutation(pairs.log_student) for _ in range(permutations))
    as_small = sum(bool(cross_entropies(pairs.teacher, s).mean() <= observed + 1e-12) for s in shuffled)
    return (1 + as_small) / (1 + permutations)


def _margins(seen: Observed) -> dict[str, float]:
    return {
        "guard_info": seen.info,
        "guard_loss": seen.loss,
        "guard_margin": seen.margin,
        "guard_student_info": seen.student_info,
    }


def _in_subspace(head: nn.Module, seen: Passage, teacher: Float[np.ndarray, "n K"]) -> dict[str, float]:
    """Of a fixed witness: what of the code lies in its subspace, and the force that acts on it."""
    if not isinstance(head, SimplexWitness):
        return {}
    found = subspace.shares(head, seen.mu, seen.logvar)
    found["force_norm"] = subspace.force_norm(head, seen.mu, teacher)
    return {f"guard_{name}": value for name, value in found.items()}


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
