"""Baseline VAEs: their networks, and their objectives as loss functions for the one training loop.

    x (n, C, H, W) in [0, 1]   mu, logvar, z (n, d)   S (n, K) = softmax of the raw head   every term in nats per image

    vanilla, beta-VAE   L_rec + alpha_kl L_KL
    KL annealing        the same, alpha_kl growing from 0
    free bits           L_rec + alpha_kl sum_j max(KL_j, f), KL_j a mean over the batch
    InfoVAE             L_rec + alpha_kl L_KL + w MMD^2(q(z) || N(0, I))
    GMVAE               L_rec + alpha_kl (E_x sum_k S_k KL(q(z|x) || N(m_k, s_k^2)) + E_x KL(S || U))
    VQ-VAE              L_rec + ||sg(e) - c||^2 + w ||e - sg(c)||^2, c the code nearest to the embedding e

None of them reads the teacher, and all but GMVAE leave the raw head as it was initialised: there is nothing in them
that would train it. A raw margin below zero therefore says that this head was never told of the teacher; whether the
latent could be certified is asked of heads that are fitted afterwards (`certvae.evaluation`).
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from certvae.models.nets import Encoder, Shape, Vae, build
from certvae.spec.baselines import Baseline, BetaVae, FreeBits, Gmvae, InfoVae, KlAnnealing, Vanilla, VqVae
from certvae.spec.parts import Model, Training
from certvae.spec.rescue import Unaligned
from certvae.training import objective
from certvae.training.batches import Batch
from certvae.training.loop import Loss
from certvae.training.losses import chain_loss
from certvae.training.objective import Latent, Rows, Scalar, Terms

CODE_SPREAD = 10.0
"""Of 512 codes train rows used 29, 43, 76 and 83 on digits with a spread of 1, 3, 10 and 30, and 11, 31, 84 and 1 on
32 x 32 photographs (seed 0, tried outside of a study)."""


class MixturePrior(nn.Module):
    """The prior of a GMVAE: K components N(m_k, diag s_k^2) of equal weight, all learned."""

    def __init__(self, classes: int, latent: int, generator: torch.Generator):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(classes, latent, generator=generator))
        self.log_variance = nn.Parameter(torch.zeros(classes, latent))

    def forward(self, mu: Latent, logvar: Latent) -> Rows:
        """KL(N(mu, diag exp logvar) || component k), exact, without an (n, K, d) array."""
        precision = (-self.log_variance).exp()
        squares = (mu.square() + logvar.exp()) @ precision.T - 2 * mu @ (self.mean * precision).T
        own = (self.mean.square() * precision + self.log_variance).sum(dim=1)
        return 0.5 * (squares + own - (1 + logvar).sum(dim=1, keepdim=True))


class GaussianMixtureVae(Vae):
    """A VAE whose raw head is q(y|z), with a mixture for its prior."""

    def __init__(self, plain: Vae, prior: MixturePrior):
        super().__init__(plain.encoder, plain.decoder, plain.head)
        self.prior = prior


class QuantisedEncoder(Encoder):
    """x -> (nearest of M codes, -inf): an encoder whose posterior is a point, so its KL to any density is infinite.

    Its codes are zero until `place_codes` or stored weights say where they lie.
    """

    def __init__(self, plain: Encoder, codes: int):
        super().__init__(plain.body, plain.mu.in_features, plain.mu.out_features)
        self.mu, self.logvar = plain.mu, plain.logvar
        self.codes = nn.Parameter(torch.zeros(codes, plain.mu.out_features))

    def forward(self, x: Float[Tensor, "n C H W"]) -> tuple[Latent, Latent]:
        nearest = self.quantise(x)[1]
        return nearest, torch.full_like(nearest, -torch.inf)

    def quantise(self, x: Float[Tensor, "n C H W"]) -> tuple[Latent, Latent]:
        """(embedding e, nearest code c)."""
        embedding = self.mu(self.body(x))
        return embedding, self.codes[self.nearest(embedding)]

    @torch.no_grad()
    def nearest(self, embedding: Latent) -> Int64[Tensor, " n"]:
        """Which code lies nearest."""
        return (self.codes.square().sum(dim=1) - 2 * embedding @ self.codes.T).argmin(dim=1)


def network(baseline: Baseline, model: Model, shape: Shape, classes: int, seed: int) -> Vae:
    """A freshly initialised network, as `nets.build`: a baseline shares encoder, decoder and head with the warm-up.

    Its decoder reads the latent alone, whatever that of a chain may see.
    """
    alone, generator = replace(model, decoder_sees_teacher=False), torch.Generator().manual_seed(seed)
    plain = build(alone, shape, classes, seed)
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made; nothing of that is kept
        match baseline:
            case Vanilla() | BetaVae() | KlAnnealing() | FreeBits() | InfoVae():
                return plain
            case Gmvae():
                return GaussianMixtureVae(plain, MixturePrior(classes, plain.encoder.latent, generator))
            case VqVae(codes=codes):
                return Vae(QuantisedEncoder(plain.encoder, codes), plain.decoder, plain.head)


@torch.no_grad()
def place_codes(encoder: QuantisedEncoder, images: Iterable[Tensor], seed: int) -> None:
    """Starts the codes at embeddings of random train rows, spread tenfold about their mean.

    Codes that all start near one point, or far from every embedding, are hardly used where one code stands for a whole
    image: of 512 the train rows of digits used 26 that started near zero, as in the paper of VQ-VAE, one that started
    as draws of N(0, I), and 76 that start so (seed 0).

    Args:
        images: batches (n, C, H, W) of all train rows.
    """
    embeddings = torch.cat([encoder.quantise(x)[0] for x in images])
    chosen = torch.randint(len(embeddings), (len(encoder.codes),), generator=torch.Generator().manual_seed(seed))
    mean = embeddings.mean(dim=0)
    encoder.codes.copy_(mean + CODE_SPREAD * (embeddings[chosen.to(embeddings.device)] - mean))


def loss(baseline: Baseline, model: Model, training: Training, lambda_ts: float = 0.0) -> Loss:
    """What a baseline minimises; where lambda_ts is 0, L_TS and balance of its raw head contribute no gradient.

    Args:
        lambda_ts: weight of L_TS: any VAE can carry it (arXiv 2605.05813, modularity).
    """
    match baseline:
        case Vanilla(alpha_kl=alpha) | BetaVae(alpha_kl=alpha):
            return chain_loss(model, Unaligned(alpha_kl=alpha, lambda_bal=0.0), lambda_ts)
        case KlAnnealing(alpha_kl=alpha, ramp_share=share):
            ramp = max(1, round(share * training.epochs))
            return chain_loss(model, Unaligned(alpha_kl=alpha, lambda_bal=0.0, kl_ramp_epochs=ramp), lambda_ts)
        case FreeBits(alpha_kl=alpha, nats=nats):
            goal = Unaligned(alpha_kl=alpha, lambda_bal=0.0)
            return chain_loss(model, goal, lambda_ts, rate=partial(free_bits, nats=nats))
        case InfoVae():
            goal = Unaligned(alpha_kl=1.0, lambda_bal=0.0)
            return chain_loss(model, goal, lambda_ts, rate=partial(info_rate, baseline=baseline))
        case Gmvae(alpha_kl=alpha):
            return partial(_mixture_terms, model, alpha, lambda_ts)
        case VqVae(commitment=commitment):
            return partial(_quantised_terms, model, commitment, lambda_ts)


def info_rate(mu: Latent, logvar: Latent, baseline: InfoVae) -> Scalar:
    """alpha_kl L_KL + mmd MMD^2 of a batch."""
    return baseline.alpha_kl * objective.kl_rate(mu, logvar) + baseline.mmd * discrepancy(mu, logvar)


def discrepancy(mu: Latent, logvar: Latent) -> Scalar:
    """MMD^2(q(z) || N(0, I)) of Gaussian posteriors, kernel exp(-||x - y||^2 / 2d), in closed form: no z is drawn.

    E exp(-||x - y||^2 / 2h) of x ~ N(m, s), y ~ N(m', s') is prod_j sqrt(h / v_j) exp(-(m_j - m'_j)^2 / 2v_j), with
    v = h + s + s'. Pairs of different rows alone enter, so its mean over batches is that of the population.
    """
    n, width = mu.shape
    variance = logvar.exp()
    among = _overlap(mu[:, None], mu[None], variance[:, None] + variance[None], width)
    among = (among.sum() - among.diagonal().sum()) / (n * (n - 1))
    to_prior = _overlap(mu, torch.zeros_like(mu), variance + 1, width).mean()
    prior = (width / (width + 2)) ** (width / 2)
    return among - 2 * to_prior + prior


def _overlap(one: Tensor, other: Tensor, variance: Tensor, bandwidth: float) -> Tensor:
    spread = bandwidth + variance
    return (0.5 * ((bandwidth / spread).log() - (one - other).square() / spread)).sum(dim=-1).exp()


def free_bits(mu: Latent, logvar: Latent, nats: float) -> Scalar:
    """sum_j max(KL_j, nats), KL_j the batch mean of unit j; 0 nats give L_KL."""
    return objective.unit_kl(mu, logvar).clamp(min=nats).sum()


def facts(baseline: Baseline, vae: Vae, mu: np.ndarray, logvar: np.ndarray) -> dict[str, int]:
    """Numbers that only this baseline has: units on which free bits bind, codes that are used."""
    match baseline:
        case FreeBits(nats=nats):
            rates = objective.unit_kl(torch.from_numpy(mu), torch.from_numpy(logvar))
            return {"binding_units": int((rates < nats).sum())}
        case VqVae():
            encoder = _quantised(vae)
            codes = torch.from_numpy(mu).to(encoder.codes.device)
            return {"used_codes": len(encoder.nearest(codes).unique())}
        case _:
            return {}


def _mixture_terms(
    model: Model, alpha_kl: float, lambda_ts: float, vae: Vae, batch: Batch, noise: torch.Generator, _: object
) -> Terms:
    """The negative evidence bound of a mixture prior, q(y|z) at the drawn z."""
    mu, logvar = vae.encoder(batch.x)
    z = objective.sample(mu, logvar, noise)
    reconstruction = objective.reconstruction(model.likelihood, vae.decoder(z), batch.x)
    log_student = functional.log_softmax(vae.head(z), dim=1)
    student = log_student.exp()
    per_row = (student * (_prior(vae)(mu, logvar) + log_student)).sum(dim=1)
    rate = per_row.mean() + math.log(student.shape[1])
    plain = Terms(reconstruction + alpha_kl * rate, reconstruction, rate, *_recorded(batch, log_student))
    return plain if lambda_ts == 0 else _aligned(plain, lambda_ts, batch, log_student)


def _quantised_terms(model: Model, commitment: float, lambda_ts: float, vae: Vae, batch: Batch, *_: object) -> Terms:
    """Straight through: the decoder reads the code, and its gradient reaches the embedding. There is no KL term."""
    embedding, code = _quantised(vae).quantise(batch.x)
    z = embedding + (code - embedding).detach()
    reconstruction = objective.reconstruction(model.likelihood, vae.decoder(z), batch.x)
    towards_embedding = (code - embedding.detach()).square().sum() / len(code)
    towards_code = (embedding - code.detach()).square().sum() / len(code)
    total = reconstruction + towards_embedding + commitment * towards_code
    plain = Terms(total, reconstruction, torch.zeros_like(total), *_recorded(batch, vae.head(code)))
    return plain if lambda_ts == 0 else _aligned(plain, lambda_ts, batch, vae.head(z))


def _aligned(plain: Terms, lambda_ts: float, batch: Batch, logits: Rows) -> Terms:
    return replace(plain, total=plain.total + lambda_ts * objective.alignment(batch.taught, logits))


@torch.no_grad()
def _recorded(batch: Batch, logits: Rows) -> tuple[Scalar, Scalar]:
    balance = objective.balance(logits)
    return (torch.zeros_like(balance) if batch.teacher is None else objective.alignment(batch.teacher, logits)), balance


def _prior(vae: Vae) -> MixturePrior:
    if not isinstance(vae, GaussianMixtureVae):
        raise TypeError(f"a GMVAE loss needs a GaussianMixtureVae, got a {type(vae).__name__}: build it with `network`")
    return vae.prior


def _quantised(vae: Vae) -> QuantisedEncoder:
    if not isinstance(vae.encoder, QuantisedEncoder):
        raise TypeError(f"a VQ-VAE needs a QuantisedEncoder, got {type(vae.encoder).__name__}: build it with `network`")
    return vae.encoder
