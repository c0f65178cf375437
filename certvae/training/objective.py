"""Loss terms, one function each, in nats per image.

L = L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal (+ regularisers of the code)  (arXiv 2605.05813)

x (n, C, H, W) pixels in [0, 1]     mu, logvar (n, d)     T (n, K) teacher rows     a (n, K) logits of the raw head
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from certvae.spec.parts import Bernoulli, Gaussian

VARIANCE_FLOOR = 1e-4  # a dead unit has a gradient all the same
TEMPERATURE = 0.1
Images = Float[Tensor, "n C H W"]
Rows = Float[Tensor, "n K"]
Latent = Float[Tensor, "n d"]
Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class Terms:
    """Means over a batch; `total` is what the optimiser sees, the others are what the curves show."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    alignment: Tensor
    balance: Tensor

    def values(self) -> Float[Tensor, " terms"]:
        """All terms in the order of `NAMES`, without gradient."""
        return torch.stack([self.total, self.reconstruction, self.kl, self.alignment, self.balance]).detach()


NAMES = ("total", "reconstruction", "kl", "alignment", "balance")


def reconstruction(likelihood: Gaussian | Bernoulli, logits: Images, x: Images) -> Scalar:
    """Negative log-likelihood of the pixels up to a constant, summed over an image, mean over the batch."""
    match likelihood:
        case Gaussian():
            squares = functional.mse_loss(torch.sigmoid(logits), x, reduction="sum")
            return squares / (2 * likelihood.variance * len(x))
        case Bernoulli():
            return functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def kl_rate(mu: Latent, logvar: Latent) -> Scalar:
    """L_KL = E KL(N(mu, diag exp logvar) || N(0, I)) = E 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2)."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / len(mu)


def unit_kl(mu: Latent, logvar: Latent) -> Float[Tensor, " d"]:
    """L_KL of every latent unit, mean over the batch; `kl_rate` is their sum."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean(dim=0)


def alignment(teacher: Rows, logits: Rows) -> Scalar:
    """L_TS = E KL(T || S), teacher first (arXiv 2605.05813, alignment loss)."""
    return functional.kl_div(functional.log_softmax(logits, dim=1), teacher, reduction="batchmean")


def balance(logits: Rows) -> Scalar:
    """L_bal = KL(Sbar || U) = log K - H(Sbar), Sbar over the batch: against using few classes."""
    mean = functional.softmax(logits, dim=1).mean(dim=0)
    return math.log(len(mean)) - torch.special.entr(mean).sum()


def inactivity(mu: Latent) -> Scalar:
    """E_j max(0, 1 - std_x(mu_j)) over a batch: 0.99 where all units are dead, 0 where each spreads as the prior does.

    The variance hinge of VICReg (arXiv 2105.04906), on posterior means.
    """
    return functional.relu(1 - (mu.var(dim=0, correction=0) + VARIANCE_FLOOR).sqrt()).mean()


def contrast(one: Latent, other: Latent) -> Scalar:
    """-E log of the share of the true partner: two draws of each image against the draws of the batch, nats.

    log n minus it is a lower bound of the information between both draws (arXiv 1807.03748); similarity is the cosine
    over a temperature (arXiv 2002.05709).
    """
    likeness = functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T / TEMPERATURE
    return functional.cross_entropy(likeness, torch.arange(len(one), device=one.device))


def sample(mu: Latent, logvar: Latent, generator: torch.Generator) -> Latent:
    """z = mu + sigma * noise, with the noise of an explicit generator."""
    noise = torch.empty_like(mu).normal_(generator=generator)
    return torch.addcmul(mu, noise, (0.5 * logvar).exp())


def protect(mu: Latent, block: int) -> Latent:
    """The same means, without gradient in the first `block` coordinates: the witness subspace of arXiv 2605.18224."""
    return torch.cat([mu[:, :block].detach(), mu[:, block:]], dim=1)


def kl_weight(alpha_kl: float, epochs_done: float | Tensor, ramp_epochs: int) -> float | Tensor:
    """The part of alpha_kl that is in force: linear from nothing to all over `ramp_epochs`.

    Where the time is a float64 scalar of a device, so is the weight, rounded to float32 as a number would be.
    """
    if ramp_epochs == 0:
        return alpha_kl
    match epochs_done:
        case Tensor():
            return (alpha_kl * (epochs_done / ramp_epochs).clamp(max=1.0)).float()
        case _:
            return alpha_kl * min(1.0, epochs_done / ramp_epochs)
