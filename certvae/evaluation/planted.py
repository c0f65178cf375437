"""Networks whose state is known by construction, and what diagnostics say of them.

A Gaussian mixture stands for the data: features s of K classes, whose posteriors are the teacher, so that nothing is
estimated that could be wrong. A planted network is a posterior N(mu(s), diag exp logvar(s)), and the logits of the head
that came with it. Whether its channel is alive is decided by its formula: dead ones carry less than 0.02 nats, by the
capacity of a Gaussian channel or because nothing depends on s, alive ones more than 0.3.

    s (n, F)  features     T (n, K)  teacher rows     mu, logvar (n, d)     a (n, K)  logits     all float64
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import log_softmax
from scipy.stats import binom

from certvae import answers
from certvae.certificate import PAPER_TAU, Pairs, Reference, certify
from certvae.evaluation import diagnostics, heads

Rows = Float[np.ndarray, "n K"]
Latents = Float[np.ndarray, "n d"]
Said = Literal["alive", "dead", "open"]

CLASSES, FEATURES, UNITS = 10, 16, 8
SIZES = {"train": 2000, "guard": 500, "certify": 1000}
APART = 2.5  # standard deviations between centres of classes
GROUPS = 5  # values of the condition: two classes share one
INFORMATION = 0.05  # nats above which an estimate of KL or of information is taken for a channel that lives
ESTIMATED_ON = 500  # rows of the estimate of information
SURE = 0.99  # of a probe that is better than the largest class


@dataclass(frozen=True)
class World:
    """Rows of three splits, drawn anew for every network."""

    features: Mapping[str, Float[np.ndarray, "n F"]]
    teacher: Mapping[str, Rows]
    labels: Mapping[str, Int64[np.ndarray, " n"]]
    rng: np.random.Generator

    @classmethod
    def drawn(cls, seed: int) -> "World":
        """A mixture of unit Gaussians, its features scaled to unit variance, and its exact posteriors."""
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((CLASSES, FEATURES)) * APART / np.sqrt(2)
        labels = {split: rng.integers(CLASSES, size=n) for split, n in SIZES.items()}
        s = {split: centres[y] + rng.standard_normal((len(y), FEATURES)) for split, y in labels.items()}
        half = (centres**2).sum(axis=1) / 2
        teacher = {split: np.exp(log_softmax(rows @ centres.T - half, axis=1)) for split, rows in s.items()}
        scale = s["train"].std(axis=0)
        return cls({split: rows / scale for split, rows in s.items()}, teacher, labels, rng)


@dataclass(frozen=True)
class Planted:
    """One network on all rows of a world.

    alive   whether draws of its posterior carry information about the data
    logits  of the head that came with it, on certify rows
    """

    alive: bool
    mu: Mapping[str, Latents]
    logvar: Mapping[str, Latents]
    logits: Rows
    teacher: Mapping[str, Rows]
    condition: Int64[np.ndarray, " n"] | None = None


Head = Callable[[World, Mapping[str, Latents]], Rows]


def _fitted(world: World, mu: Mapping[str, Latents]) -> Rows:
    """A head that was trained on these means, with whatever gain that takes."""
    scale = mu["train"].std(axis=0)
    rows = {split: values / scale for split, values in mu.items()}
    head = heads.affine_head(rows["train"], world.teacher["train"], rows["guard"], world.teacher["guard"])
    return head.logits(rows["certify"])


def _drawn(world: World, mu: Mapping[str, Latents]) -> Rows:
    """A head that nobody trained."""
    return mu["certify"] @ world.rng.normal(0, 0.1, (UNITS, CLASSES))


def _planted(world: World, size: float, noise: float, head: Head, *, alive: bool) -> Planted:
    """A linear code under constant noise, and the head that came with it."""
    turn = np.linalg.qr(world.rng.standard_normal((FEATURES, FEATURES)))[0][:, :UNITS]
    mu = {split: size * (rows @ turn) for split, rows in world.features.items()}
    logvar = {split: np.full_like(rows, 2 * np.log(noise)) for split, rows in mu.items()}
    return Planted(alive, mu, logvar, head(world, mu), world.teacher)


def healthy(world: World) -> Planted:
    """A code of signal three times its noise, and a head that was trained on it."""
    return _planted(world, 1.0, 0.3, _fitted, alive=True)


def unasked(world: World) -> Planted:
    """The same code under a head that nobody trained: `no_align`."""
    return _planted(world, 1.0, 0.3, _drawn, alive=True)


def faint(world: World) -> Planted:
    """A code near the boundary: half a nat at most."""
    return _planted(world, 0.35, 1.0, _fitted, alive=True)


def in_the_variance(world: World) -> Planted:
    """Means say nothing; posterior variances tell two halves of the data apart."""
    silent = _planted(world, 0.0, 1.0, _drawn, alive=True)
    spoken = {split: np.where(rows[:, :1] > 0, 1.5, -1.5) for split, rows in world.features.items()}
    return replace(silent, logvar={split: rows + spoken[split] for split, rows in silent.logvar.items()})


def off_the_teacher(world: World) -> Planted:
    """A code of something that the teacher does not ask for."""
    other = {split: world.rng.standard_normal(rows.shape) for split, rows in world.features.items()}
    return unasked(replace(world, features=other))


def permuted(world: World) -> Planted:
    """A healthy code, held against teacher rows of other images."""
    teacher = {split: world.rng.permutation(rows) for split, rows in world.teacher.items()}
    return replace(healthy(world), teacher=teacher)


def many_codes(world: World) -> Planted:
    """A codebook of which every class uses its own entry."""
    book = world.rng.standard_normal((CLASSES, UNITS))
    return _quantised(world, {split: book[rows.argmax(axis=1)] for split, rows in world.teacher.items()}, _fitted, True)


def conditional(world: World) -> Planted:
    """A healthy code, whose head reads a condition as well."""
    alive = healthy(world)
    return replace(alive, logits=alive.logits + _known(world), condition=_groups(world))


def dead(world: World) -> Planted:
    """The prior for every image, but for rounding."""
    return _planted(world, 1e-4, 1.0, _drawn, alive=False)


def drowned(world: World) -> Planted:
    """Means that vary by a thirtieth of the noise."""
    return _planted(world, 0.03, 1.0, _drawn, alive=False)


def high_gain(world: World) -> Planted:
    """The same means under a head whose gain makes up for their size."""
    return _planted(world, 0.03, 1.0, _fitted, alive=False)


def leaked(world: World) -> Planted:
    """The head got the teacher's rows past the latent."""
    return replace(dead(world), logits=np.log(world.teacher["certify"] + 0.01))


def untrained(world: World) -> Planted:
    """Small weights as they were drawn."""
    small = _planted(world, 0.05, 1.0, _drawn, alive=False)
    return replace(small, logvar={split: 0.02 * rows for split, rows in small.mu.items()})


def one_code(world: World) -> Planted:
    """A codebook of which all images use one entry, far from the prior's centre."""
    entry = world.rng.standard_normal(UNITS)
    return _quantised(world, {split: np.tile(entry, (n, 1)) for split, n in SIZES.items()}, _drawn, False)


def narrow(world: World) -> Planted:
    """One posterior for all images, narrower than the prior: a rate without information."""
    return _planted(world, 0.0, 0.5, _drawn, alive=False)


def condition_alone(world: World) -> Planted:
    """A head of a conditional network that reads its condition, over a dead code."""
    return replace(dead(world), logits=_known(world), condition=_groups(world))


def _quantised(world: World, mu: Mapping[str, Latents], head: Head, alive: bool) -> Planted:
    logvar = {split: np.full_like(rows, -9.0) for split, rows in mu.items()}
    return Planted(alive, mu, logvar, head(world, mu), world.teacher)


def _groups(world: World) -> Int64[np.ndarray, " n"]:
    return world.labels["certify"] % GROUPS


def _known(world: World) -> Rows:
    """Logits of what the condition alone says."""
    groups = _groups(world)
    means = np.stack([world.teacher["certify"][groups == group].mean(axis=0) for group in range(GROUPS)])
    return np.log(means[groups] + 1e-3)


STATES: tuple[Callable[[World], Planted], ...] = (
    *(healthy, unasked, faint, in_the_variance, off_the_teacher, permuted, many_codes, conditional),
    *(dead, drowned, high_gain, leaked, untrained, one_code, narrow, condition_alone),
)


@dataclass
class Tally:
    """How often a diagnostic was wrong, or would not say, over networks that are alive and dead."""

    alive: int = 0
    missed: int = 0
    alive_open: int = 0
    dead: int = 0
    false_alarms: int = 0
    dead_open: int = 0

    def add(self, alive: bool, word: Said) -> None:
        """Counts one network."""
        if alive:
            self.alive, self.missed = self.alive + 1, self.missed + (word == "dead")
            self.alive_open += word == "open"
        else:
            self.dead, self.false_alarms = self.dead + 1, self.false_alarms + (word == "alive")
            self.dead_open += word == "open"


def said(world: World, network: Planted) -> dict[str, Said]:
    """What each diagnostic says of a network, at the threshold that it is used with."""
    mu, logvar = network.mu["certify"], network.logvar["certify"]
    pairs = Pairs.from_logits(network.teacher["certify"], network.logits, split="certify")
    raw, given = certify(pairs), certify(pairs, strata=network.condition)
    student = np.exp(log_softmax(network.logits, axis=1))
    return {
        "KL rate": _alive(diagnostics.kl_rate(mu, logvar) > INFORMATION),
        "active units": _alive(diagnostics.active_units(mu) > 0),
        "information, estimated": _alive(information(mu, logvar, world.rng) > INFORMATION),
        "linear probe of labels": _alive(_probe(world, network)),
        "effective rank of means": _alive(effective_rank(mu) >= 2),
        "perplexity of the head": _alive(diagnostics.usage(student, "s")["s_effective_classes"] >= 2),
        "raw margin": _alive(raw.margin > PAPER_TAU),
        "raw margin, given the condition": _alive(given.margin > PAPER_TAU),
        "draws, bound and KL": _channel(world, network),
    }


def _alive(holds: bool) -> Said:
    return "alive" if holds else "dead"


def _channel(world: World, network: Planted) -> Said:
    """The word of this project: an affine head fitted to draws and bounded on others, or a rate that excludes it."""
    drawn = {
        split: mu + np.exp(network.logvar[split] / 2) * world.rng.standard_normal(mu.shape)
        for split, mu in network.mu.items()
    }
    head = heads.affine_head(drawn["train"], network.teacher["train"], drawn["guard"], network.teacher["guard"])
    logits, known = head.logits(drawn["certify"]), Reference(teacher=network.teacher["train"], split="train")
    pairs = Pairs.from_logits(network.teacher["certify"], logits, split="certify", view="sampled")
    bound = certify(pairs, reference=known).population_bound
    rate = diagnostics.kl_rate(network.mu["certify"], network.logvar["certify"])
    return answers.channel({"sampled_affine_population_bound": bound, "kl_rate": rate}) or "open"


def information(mu: Latents, logvar: Latents, rng: np.random.Generator) -> float:
    """The usual estimate of I(x; z), nats: E log q(z|x) / mean_j q(z|x_j) with one draw a row; at most log n.

    Source: Hoffman and Johnson, ELBO surgery, 2016, with the aggregate posterior of the rows at hand.
    """
    mu, logvar = mu[:ESTIMATED_ON], logvar[:ESTIMATED_ON]
    z = mu + np.exp(logvar / 2) * rng.standard_normal(mu.shape)
    log_q = -0.5 * ((z[:, None] - mu) ** 2 / np.exp(logvar) + logvar).sum(axis=2)
    return float((np.diag(log_softmax(log_q, axis=1)) + np.log(len(mu))).mean())


def effective_rank(mu: Latents) -> float:
    """exp of the entropy of the normalised eigenvalues of Cov(mu); 1 where nothing varies.

    Source: Roy and Vetterli, EUSIPCO 2007.
    """
    values = np.clip(np.linalg.eigvalsh(np.cov(mu.T)), 0, None)
    if not values.any():
        return 1.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _probe(world: World, network: Planted) -> bool:
    """Whether labels are read from means better than by the largest class, at 99 %."""
    y = world.labels
    probe = heads.label_probe(network.mu["train"], y["train"], network.mu["guard"], y["guard"], CLASSES)
    hits = round(heads.accuracy(probe.logits(network.mu["certify"]), y["certify"]) * SIZES["certify"])
    largest = float(np.bincount(y["certify"]).max() / SIZES["certify"])
    return bool(hits > binom.ppf(SURE, SIZES["certify"], largest))
