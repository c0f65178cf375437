"""Inside and outside the witness subspace: energy, spread, force, and whether the decoder reads it.

W is the first K - 1 latent coordinates, the only ones the simplex witness sees (arXiv 2605.18224), so sums over
coordinates split exactly into W and the rest. None of these numbers certifies anything; two of them are what a margin
forces (`spread_lower_bound`) and what pushes a collapsed mean apart (`force_norm`).

    mu, logvar, z  (n, d)   means, log-variances and draws      T  (n, K)  teacher rows       energies and KL in nats
"""

import numpy as np
import torch
from jaxtyping import Float, Int

from certvae.models.nets import SimplexWitness, Vae
from certvae.simplex import code_energy, escape_force, force_floor, spread_lower_bound, vertices
from certvae.spec.parts import Bernoulli, Gaussian
from certvae.training import objective
from certvae.training.batches import Batches

Latents = Float[np.ndarray, "n d"]
Rows = Float[np.ndarray, "n K"]


def shares(head: SimplexWitness, mu: Latents, logvar: Latents) -> dict[str, float]:
    """KL rate, E ||mu||^2 and tr Cov mu, each in W (`_witness`) and outside (`_rest`); the two parts add up exactly."""
    wide, wide_logvar = mu.astype(np.float64), logvar.astype(np.float64)
    per_unit = {
        "kl_rate": 0.5 * (wide**2 + np.exp(wide_logvar) - 1 - wide_logvar).mean(axis=0),
        "mean_square_mu": np.square(wide).mean(axis=0),
        "variance_mu": wide.var(axis=0),
    }
    inside, outside = slice(None, head.subspace), slice(head.subspace, None)
    return {
        f"{name}_{part}": float(units[where].sum())
        for name, units in per_unit.items()
        for part, where in (("witness", inside), ("rest", outside))
    }


def force_norm(head: SimplexWitness, mu: Latents, T: Rows) -> float:
    """sqrt(E ||F||^2) of the escape force F = beta V'(T - S), nats per unit of mu."""
    V = vertices(T.shape[1], mu.shape[1])
    return float(np.sqrt(np.square(escape_force(T.astype(np.float64), mu, V, head.beta)).sum(axis=1).mean()))


def promises(head: SimplexWitness, T: Rows, margin: float) -> dict[str, float]:
    """What teacher and margin say before anything is measured on the latent.

    code_energy          e* of the analytic code, nats: what the prior charges for the whole of I_T
    force_floor          sqrt(E ||F||^2) of any collapsed mean is at least this
    spread_lower_bound   tr Cov(P_W mu) is at least this, given the margin

    Source: arXiv 2605.18224, latent energy and escape force.
    """
    rows = T.astype(np.float64)
    return {
        "code_energy": code_energy(rows, head.beta),
        "force_floor": float(np.sqrt(force_floor(rows, head.beta))),
        "spread_lower_bound": spread_lower_bound(margin, rows, head.beta),
    }


def gradient_norm(vae: Vae, batches: Batches) -> float:
    """||d L_TS / d parameters|| of the encoder, over all rows of a split, the witness reading the means."""
    parameters = [parameter for parameter in vae.encoder.parameters() if parameter.requires_grad]
    vae.eval()
    sums, rows = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters], 0
    for batch in batches.in_order():
        loss = objective.alignment(batch.taught, vae.head(vae.encoder(batch.x)[0])) * len(batch.x)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)  # logvar has no part in it
        sums = [total if part is None else total + part for total, part in zip(sums, found, strict=True)]
        rows += len(batch.x)
    return float(torch.sqrt(sum((total.square().sum() for total in sums), start=torch.zeros(())))) / rows


@torch.inference_mode()
def reconstruction(vae: Vae, likelihood: Gaussian | Bernoulli, batches: Batches, z: Latents) -> float:
    """L_rec (nats per image) of these latent rows, for a decoder that reads the latent alone."""
    vae.eval()
    total, done = 0.0, 0
    for batch in batches.in_order():
        rows = torch.as_tensor(z[done : done + len(batch.x)], dtype=torch.float32, device=batch.x.device)
        total += float(objective.reconstruction(likelihood, vae.decoder(rows), batch.x)) * len(batch.x)
        done += len(batch.x)
    return total / done


def shuffled(z: Latents, subspace: int, order: Int[np.ndarray, " n"]) -> Latents:
    """The same rows with their part in W taken from other rows: what a decoder that ignores W does not notice."""
    mixed = z.copy()
    mixed[:, :subspace] = z[order, :subspace]
    return mixed
