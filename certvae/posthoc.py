"""Heads that are fitted after training, so that "not certified" is said of a latent only after it had a fair chance.

    z (n, d)  posterior means     T (n, K)  teacher rows     S (n, K)  rows of the raw head     y (n,)  true labels

All of them read the latent alone, so Theorem 1 of arXiv 2605.05813 holds for each. They are fitted on train rows, and
judged on rows that they have not seen. None of them changes what is said of the raw head.

    affine        the best affine head, done properly: `certvae.probes.affine_head`
    short_affine  an affine head that was not fitted to the end. The paper prints post-hoc margins of -0.75 to -1.99
                  nats on CIFAR-100. A fitted head contains the constant Tbar, so it cannot fall that far below zero;
                  a head that starts near uniform and is stopped early can, by up to KL(Tbar || U).
    relabelled    the raw head with its classes renamed one to one: a mixture numbers its components as it likes
    probe         the best affine head on true labels; its accuracy is a diagnostic and certifies nothing
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional

from certvae.probes import AffineHead, affine_head

Latents = Float[np.ndarray, "n d"]
Rows = Float[np.ndarray, "n K"]
SHORT_STEPS, SHORT_RATE, SHORT_BATCH = 200, 1e-3, 256


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
    optimiser = torch.optim.Adam([weight, bias], lr=SHORT_RATE)
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
