"""The objective of a chain as one loss function for the training loop, in nats per image.

L = L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal                              (arXiv 2605.05813)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from certvae import objective
from certvae.nets import Vae
from certvae.objective import Rows, Scalar, Terms
from certvae.spec import Model, SimplexHead, Unaligned
from certvae.targets import Targets, cached
from certvae.training import Batch, Loss

Align = Callable[[Rows, Rows], Scalar]
"""(teacher rows, logits of the raw head) -> what is minimised to bring them together."""


def chain_loss(
    model: Model, goal: Unaligned, lambda_ts: float, targets: Targets = cached, align: Align | None = None
) -> Loss:
    """The loss of every mode of a chain; z is drawn, and a simplex head reads mu.

    Args:
        lambda_ts: 0 records the alignment and adds nothing of it, so it contributes no gradient.
        targets: where teacher rows come from.
        align: minimised in place of L_TS of the raw head, which is recorded all the same.
    """
    on_mu = isinstance(model.head, SimplexHead)

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
        mu, logvar = vae.encoder(batch.x)
        teacher = targets(batch, mu)
        z = objective.sample(mu, logvar, noise)
        reconstruction = objective.reconstruction(model.likelihood, vae.decoder(z, teacher), batch.x)
        kl = objective.kl_rate(mu, logvar)
        total = reconstruction + goal.alpha_kl * objective.ramp(epochs_done, goal.kl_ramp_epochs) * kl
        if teacher is None:
            return Terms(total, reconstruction, kl, *_nothing(kl))
        logits = vae.head(mu if on_mu else z)
        alignment, balance = objective.alignment(teacher, logits), objective.balance(logits)
        if lambda_ts > 0:
            total = total + lambda_ts * (alignment if align is None else align(teacher, logits))
        if goal.lambda_bal > 0:
            total = total + goal.lambda_bal * balance
        return Terms(total, reconstruction, kl, alignment, balance)

    return terms


def _nothing(like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(like), torch.zeros_like(like)
