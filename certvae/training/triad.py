"""The triad: image, latent and reconstruction, each read by teacher or head (arXiv 2605.05813, triad).

    L + through KL(T(x) || T(xhat)) + back KL(T(xhat) || S(z))        beside lambda_ts KL(T(x) || S(z)), nats per image

T(xhat) is the frozen teacher on what the decoder made, and gradients pass through it. None of this is certified.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from certvae.models.nets import Vae
from certvae.spec.parts import Model
from certvae.spec.rescue import Objective, Triad
from certvae.training import objective
from certvae.training.batches import Batch
from certvae.training.loop import Loss
from certvae.training.objective import Images, Rows, Terms
from certvae.training.recorded import Time

Read = Callable[[Images], Rows]
"""Images in [0, 1] -> log T."""


def triad_loss(model: Model, goal: Objective, triad: Triad, read: Read) -> Loss:
    """The objective of a chain with the two edges that pass through the reconstruction; z is drawn once for all."""

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: Time) -> Terms:
        teacher = batch.taught
        mu, logvar = vae.encoder(batch.x)
        z = objective.sample(mu, logvar, noise)
        decoded, logits = vae.decoder(z, teacher), vae.head(z)
        reconstruction = objective.reconstruction(model.likelihood, decoded, batch.x)
        kl, balance = objective.kl_rate(mu, logvar), objective.balance(logits)
        alignment, seen = objective.alignment(teacher, logits), read(torch.sigmoid(decoded))
        weight = objective.kl_weight(goal.alpha_kl, epochs_done, goal.kl_ramp_epochs)
        total = reconstruction + weight * kl + goal.lambda_ts * alignment + goal.lambda_bal * balance
        through = functional.kl_div(seen, teacher, reduction="batchmean")
        back = objective.alignment(seen.exp(), logits)
        return Terms(total + triad.through * through + triad.back * back, reconstruction, kl, alignment, balance)

    return terms
