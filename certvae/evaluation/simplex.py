"""What is said of a network of the simplex witness besides the facts of every network (arXiv 2605.18224).

A fixed witness on arbitrary axes can fail any healthy latent, so each certify row shows two fair heads beside it. A
certificate on means can sit on a channel that posterior noise drowns, so each row shows draws as well: a margin on them
is a lower bound of I(X; Z), and the KL rate an upper one.

    mu, logvar, z  (n, d)  means, log-variances and draws    T  (n, K)  teacher rows      energies, KL and L_rec in nats
"""

import numpy as np

from certvae.canonical import stage_seed
from certvae.certificate import Pairs, certify, observe
from certvae.data.dataset import Dataset
from certvae.evaluation import diagnostics, subspace
from certvae.evaluation.diagnostics import Passage, evaluation
from certvae.evaluation.facts import FITTED_ON, TRAIN_DRAW, Exam, Fact, Found, affine_facts, draws, of_head, within_rate
from certvae.evaluation.heads import rotation_head
from certvae.models.nets import SimplexWitness, Vae
from certvae.spec.parts import Bernoulli, Gaussian
from certvae.store.artifact import Artifact
from certvae.store.store import Workbench

PERMUTATION = 13  # counter of the seed of draws


def witness_facts(exam: Exam, head: SimplexWitness, likelihood: Gaussian | Bernoulli, seed: int) -> dict[str, Fact]:
    """Subspace, force, what the margin promises, the rate check, and whether the decoder uses the witness's part."""
    drawn = draws(exam.seen, seed)
    margin = observe(exam.pairs(exam.raw_logits())).margin
    return {
        **subspace.shares(head, exam.seen.mu, exam.seen.logvar),
        **subspace.promises(head, exam.teacher, margin),
        "force_norm": subspace.force_norm(head, exam.seen.mu, exam.teacher),
        "sampled_within_rate": within_rate(exam, exam.raw_logits(drawn)),
        **_use(exam, head, likelihood, drawn, seed),
    }


def fair_facts(
    exam: Exam,
    head: SimplexWitness,
    likelihood: Gaussian | Bernoulli,
    dataset: Dataset,
    teacher: Artifact,
    seed: int,
    bench: Workbench,
) -> dict[str, Found]:
    """The best rotation and the best affine heads, fitted on train rows; and the witness on those rows themselves."""
    T = teacher.arrays["targets_train"]
    batches, guard_batches = (evaluation(dataset, split, None, bench) for split in FITTED_ON)
    train, guard = diagnostics.passage(exam.vae, batches), diagnostics.passage(exam.vae, guard_batches)
    return {
        **of_head(exam, rotation_head(train.mu, T, head.beta).logits(exam.seen.mu), "rotation"),
        **affine_facts(exam, train, guard, teacher, seed, bench),
        **_on_train(head, train, T),
        "train_reconstruction": subspace.reconstruction(exam.vae, likelihood, batches, draws(train, seed, TRAIN_DRAW)),
    }


def witness_of(network: Vae) -> SimplexWitness:
    """The fixed head of a network.

    Raises:
        TypeError: for a learned head, which a checked spec of this protocol cannot have.
    """
    if not isinstance(network.head, SimplexWitness):
        raise TypeError(f"a simplex witness is needed, got a {type(network.head).__name__}")
    return network.head


def _use(
    exam: Exam, head: SimplexWitness, likelihood: Gaussian | Bernoulli, drawn: subspace.Latents, seed: int
) -> dict[str, Fact]:
    """L_rec of draws, and how much it grows when their part in W is that of other rows: 0 if the decoder ignores W."""
    order = np.random.default_rng(stage_seed(seed, "judge", PERMUTATION)).permutation(len(drawn))
    mixed = subspace.shuffled(drawn, head.subspace, order)
    kept, permuted = (subspace.reconstruction(exam.vae, likelihood, exam.batches, z) for z in (drawn, mixed))
    return {"reconstruction": kept, "usage_gap_witness": permuted - kept}


def _on_train(head: SimplexWitness, train: Passage, T: subspace.Rows) -> dict[str, Fact]:
    """The columns of the paper's MNIST table on train rows, the rows it was made on: descriptive, never a claim."""
    found = certify(Pairs.from_logits(T, diagnostics.head_logits(head, train.mu), split="train"))
    return {
        "train_info": found.info,
        "train_loss": found.loss,
        "train_margin": found.margin,
        "train_kl_rate": diagnostics.kl_rate(train.mu, train.logvar),
        "train_mean_square_mu": float(np.square(train.mu, dtype=np.float64).sum(axis=1).mean()),
        "train_active_units": diagnostics.active_units(train.mu),
        "train_n": len(T),
    }
