"""The objective of a chain as one loss function for the training loop, in nats per image.

L = L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal                              (arXiv 2605.05813)
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from certvae.models.nets import RawHead, SimplexWitness, Vae
from certvae.spec.parts import Head, Model, SimplexHead
from certvae.spec.rescue import Objective, Unaligned
from certvae.training import objective
from certvae.training.batches import Batch, Targets, cached
from certvae.training.loop import Loss
from certvae.training.objective import Latent, Rows, Scalar, Terms
from certvae.training.recorded import Time

Rate = Callable[[Latent, Latent], Scalar]
"""(mu, logvar) -> the price of a posterior."""
Align = Callable[[Rows, Rows], Scalar]
"""(teacher rows, logits of the raw head) -> what is minimised to bring them together."""


def chain_loss(
    model: Model,
    goal: Unaligned,
    lambda_ts: float,
    *,
    targets: Targets = cached,
    align: Align | None = None,
    rate: Rate = objective.kl_rate,
    into_code: bool = True,
) -> Loss:
    """The loss of every mode of a chain; z is drawn, and a simplex head reads mu unless its spec says otherwise.

    Args:
        lambda_ts: 0 records the alignment and adds nothing of it, so it contributes no gradient.
        targets: where teacher rows come from.
        align: minimised in place of L_TS of the raw head, which is recorded all the same.
        rate: what alpha_kl weighs.
        into_code: False keeps the gradients of alignment and balance in the head: the code hears of no teacher.
    """

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: Time) -> Terms:
        mu, logvar = vae.encoder(batch.x)
        teacher = targets(batch, mu)
        shown = _shown(model.head, vae.head, mu)
        z = objective.sample(shown, logvar, noise)
        reconstruction = objective.reconstruction(model.likelihood, vae.decoder(z, teacher), batch.x)
        kl = rate(mu, logvar)
        total = reconstruction + objective.kl_weight(goal.alpha_kl, epochs_done, goal.kl_ramp_epochs) * kl
        total = _regularised(total, goal, mu, logvar, noise)
        if teacher is None:
            nothing = torch.zeros_like(kl)
            return Terms(total, reconstruction, kl, nothing, nothing)
        drawn = z if shown is mu else z + (mu - shown)  # the values of z, with the gradient that it lacks
        read = _read(model.head, mu, drawn)
        logits = vae.head(read if into_code else read.detach())
        alignment, balance = objective.alignment(teacher, logits), objective.balance(logits)
        if lambda_ts > 0:
            total = total + lambda_ts * (alignment if align is None else align(teacher, logits))
        if goal.lambda_bal > 0:
            total = total + goal.lambda_bal * balance
        return Terms(total, reconstruction, kl, alignment, balance)

    return terms


def levelled_loss(model: Model, objective: Objective, levels: Sequence[Int64[np.ndarray, " K"]], epochs: int) -> Loss:
    """The full objective, aligned with each partition of the classes for so many epochs, and then with the classes.

    Which one is a question of the host, so its steps are not recorded as a CUDA graph: that is said once.
    """
    goal, weight = objective.unaligned(), objective.lambda_ts
    coarse = [chain_loss(model, goal, weight, align=merging(parts)) for parts in levels]
    stages = [*coarse, chain_loss(model, goal, weight)]

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: Time) -> Terms:
        return stages[min(int(epochs_done) // epochs, len(levels))](vae, batch, noise, epochs_done)

    return terms


def merging(parts: Int64[np.ndarray, " K"]) -> Align:
    """L_TS of a partition: what both rows give to the classes of each part is added up."""
    within = torch.from_numpy(parts == np.unique(parts)[:, None])

    def align(teacher: Rows, logits: Rows) -> Scalar:
        mine = within.to(logits.device)
        summed = torch.where(mine, logits[:, None, :], -math.inf).logsumexp(dim=2)
        return objective.alignment(teacher @ mine.T.to(teacher.dtype), summed)

    return align


def _regularised(total: Scalar, goal: Unaligned, mu: Latent, logvar: Latent, noise: torch.Generator) -> Scalar:
    """What is minimised and the regularisers of the code that are asked for; others draw no noise."""
    if goal.lambda_active is not None:
        total = total + goal.lambda_active * objective.inactivity(mu)
    if goal.lambda_contrast is not None:
        pair = (objective.sample(mu, logvar, noise) for _ in range(2))
        total = total + goal.lambda_contrast * objective.contrast(*pair)
    return total


def code_loss(head: SimplexWitness, scale: float, rest_weight: float) -> Loss:
    """E ||P_W mu - scale mu*||^2, and a little of the mean outside W; the other terms are recorded."""

    def terms(network: Vae, batch: Batch, noise: torch.Generator, epochs_done: Time) -> Terms:  # noqa: ARG001
        teacher = batch.taught
        mu, logvar = network.encoder(batch.x)
        total = code_distance(head, mu, teacher, scale, rest_weight)
        logits, nothing = head(mu), torch.zeros_like(total)
        alignment, balance = objective.alignment(teacher, logits), objective.balance(logits)
        return Terms(total, nothing, objective.kl_rate(mu, logvar), alignment, balance)

    return terms


def _shown(spec: Head, head: RawHead | SimplexWitness, mu: Latent) -> Latent:
    """Means as the decoder's z is drawn around: of a protected witness it sees the values, and moves only the rest."""
    match spec, head:
        case SimplexHead(protected=True), SimplexWitness(subspace=subspace):
            return objective.protect(mu, subspace)
        case _:
            return mu


def _read(spec: Head, mu: Latent, z: Latent) -> Latent:
    """What the raw head is trained on: draws, where it does not ask for means."""
    match spec:
        case SimplexHead(reads="mu"):
            return mu
        case _:
            return z


def code_distance(head: SimplexWitness, mu: Tensor, T: Tensor, scale: float, rest_weight: float) -> Tensor:
    """E ||P_W mu - scale mu*||^2 + rest_weight E ||(I - P_W) mu||^2: what a prefit minimises. (n, d), (n, K) -> ()."""
    inside = mu[:, : head.subspace] - scale * head.code(T)[:, : head.subspace]
    return (inside.square().sum() + rest_weight * mu[:, head.subspace :].square().sum()) / len(mu)
