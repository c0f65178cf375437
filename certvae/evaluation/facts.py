"""What is said of one trained network on one split: certificates, diagnostics, pictures. No threshold enters.

T (n, K)  teacher rows of the split       mu (n, d)  posterior means       a (n, K)  logits of the raw head, float64
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float

from certvae import canonical
from certvae.canonical import stage_seed
from certvae.certificate import (
    CLAIM_SPLIT,
    Certificate,
    Pairs,
    Reference,
    View,
    certify,
    evidence,
    observe,
)
from certvae.data.dataset import Dataset, Split
from certvae.data.preconditions import preconditions
from certvae.evaluation import diagnostics, heads, units
from certvae.evaluation.diagnostics import Passage, evaluation
from certvae.evaluation.heads import AffineHead, affine_head
from certvae.evaluation.units import Drawn
from certvae.models.nets import Vae
from certvae.preconditions import Preconditions
from certvae.quality import measure
from certvae.simultaneous import in_sequence
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench
from certvae.training.batches import Batch, Batches, Constant, Targets, cached

PICTURES = 8  # rows whose reconstruction is kept
DELTA = 0.05  # one minus the confidence of every bound
FITTED_ON: tuple[Split, Split] = ("train", "guard")  # rows that a head is fitted on, and those that stop the fit
TRAIN_DRAW, GUARD_DRAW = 11, 12  # counters of the seed of draws: none share a stream
RATE_SLACK = 1e-9  # nats: a margin above the KL rate by more than rounding contradicts the theorem
Fact = str | float | int | bool | None
Found = Fact | np.ndarray
"""A fact, or the scores behind a bound: an array of the artifact, from which the bound at another delta is a view."""


class Reader(Protocol):
    """A teacher that reads the features of the network that is judged, so that it drifts with it."""

    def __call__(self, batch: Batch, mu: torch.Tensor) -> torch.Tensor | None: ...

    def rows(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]: ...


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One network on the rows of one split, with the teacher rows it is held against.

    looks      configs that may open this split: every bound uses delta / looks
    eps        smoothing that the teacher rows contain
    reference  teacher rows of the train split, whose mean is the constant student that the bound bets against
    tested     what was found of the rows of certify; None for another split
    targets    what lies in the decoder's teacher slot
    """

    vae: Vae
    batches: Batches
    seen: Passage
    teacher: Float[np.ndarray, "n K"]
    split: Split
    looks: int
    eps: float
    reference: Reference
    tested: Preconditions | None = None
    targets: Targets = cached

    def raw_logits(self, latent: Float[np.ndarray, "n d"] | None = None) -> Float[np.ndarray, "n K"]:
        """Of the raw head, float64: on posterior means unless other latent rows are given."""
        return diagnostics.head_logits(self.vae.head, self.seen.mu if latent is None else latent)

    def pairs(self, logits: Float[np.ndarray, "n K"], view: View = "mu") -> Pairs:
        """Teacher rows and the rows of a head that read the latent alone."""
        return Pairs.from_logits(self.teacher, logits, split=self.split, view=view)

    def certify(self, pairs: Pairs) -> Certificate:
        """The certificate of pairs of this split."""
        return certify(pairs, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """What every certificate of this exam is made with."""
        reference = None if self.split == self.reference.split else self.reference
        return {"delta": DELTA, "looks": self.looks, "eps": self.eps, "reference": reference}

    def evidence(self, pairs: Pairs, name: str = "") -> dict[str, Found]:
        """What the bound of a claim rests on, as `answers.Kept` reads it; nothing where a bound is no claim."""
        if self.tested is None or not (counted := self.tested.counted).any():
            return {}
        kept = Pairs(teacher=pairs.teacher[counted], log_student=pairs.log_student[counted], split=self.split)
        found = evidence(kept, reference=self.reference)
        return {f"{name}scores": found.scores, "reference_row": found.rows, "reference_divergence": found.divergence}


def exam(
    vae: Vae,
    dataset: Dataset,
    teacher: Float[np.ndarray, "n K"],
    split: Split,
    looks: int,
    known: Artifact,
    bench: Workbench,
    live: Reader | None = None,
) -> Exam:
    """Passes the split through the network, with its teacher rows in the decoder's slot.

    Args:
        known: the teacher's artifact, with its smoothing and its train rows.
        live: a teacher that reads the features of this very network; its rows take the place of the frozen ones.
    """
    batches = evaluation(dataset, split, teacher, bench)
    seen = diagnostics.passage(vae, batches, live or cached)
    rows = teacher if live is None else live.rows(seen.mu)
    return Exam(
        vae=vae,
        batches=batches,
        seen=seen,
        teacher=rows,
        split=split,
        looks=looks,
        eps=known.facts["smoothing"],
        reference=Reference(teacher=known.arrays["targets_train"], split="train"),
        tested=preconditions(dataset) if split == CLAIM_SPLIT else None,
        targets=live or cached,
    )


def facts(exam: Exam, std: tuple[float, ...], seed: int) -> dict[str, Found]:
    """The facts of a row: raw head on posterior means, raw head on draws, reconstruction, code, usage, teacher."""
    pairs = exam.pairs(exam.raw_logits())
    return {
        **exam.certify(pairs).as_row(),
        **exam.evidence(pairs),
        **_on_draws(exam, seed),
        **_reconstruction(exam, std),
        **_code(exam.seen),
        **diagnostics.usage(np.exp(pairs.log_student), "student"),
        **teacher_quality(exam.teacher),
    }


def content(found: Mapping[str, Found], pictures: Mapping[str, np.ndarray] | None = None) -> Content:
    """Facts with what is not finite as None; scores and pictures."""
    scores = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    told = {name: canonical.finite(value) for name, value in found.items() if name not in scores}
    return Content({**(pictures or {}), **scores}, told)


def of_head(exam: Exam, logits: Float[np.ndarray, "n K"], name: str) -> dict[str, Found]:
    """The certificate of a head other than the raw one, as `<name>_*`."""
    found = exam.certify(exam.pairs(logits))
    return {
        f"{name}_loss": found.loss,
        f"{name}_margin": found.margin,
        f"{name}_student_info": found.student_info,
        f"{name}_population_bound": found.population_bound,
    }


def posthoc_facts(exam: Exam, dataset: Dataset, teacher: Artifact, seed: int, bench: Workbench) -> dict[str, Found]:
    """Heads that are fitted on train rows after training, held against the rows of the exam; see `heads`."""
    train, guard = (diagnostics.passage(exam.vae, evaluation(dataset, split, None, bench)) for split in FITTED_ON)
    T = teacher.arrays["targets_train"]
    raw = Pairs.from_logits(T, diagnostics.head_logits(exam.vae.head, train.mu), split="train")
    order = heads.relabelling(T, raw.log_student)
    short = heads.short_head(train.mu, T, stage_seed(seed, "judge", 1))
    return {
        **affine_facts(exam, train, guard, teacher, seed, bench),
        **of_head(exam, short.logits(exam.seen.mu), "short_affine"),
        **of_head(exam, exam.raw_logits()[:, order], "relabelled"),
        "probe_accuracy": _probe_accuracy(exam, dataset, train, guard, bench),
    }


def affine_facts(
    exam: Exam, train: Passage, guard: Passage, teacher: Artifact, seed: int, bench: Workbench
) -> dict[str, Found]:
    """The best affine head on means with its gain, and the best on draws: do means vary, does the channel carry?

    `affine_gain` is the Lipschitz constant of its logits in z, up to what softmax ignores: with it a margin bounds how
    far the means spread (arXiv 2605.05813, Theorem 1; graded by the gain in this project).
    """
    on_means, read_draws = affine_heads(train, guard, teacher, seed, bench.device)
    on_draws = read_draws.logits(draws(exam.seen, seed))
    of_means, of_draws = exam.pairs(on_means.logits(exam.seen.mu)), exam.pairs(on_draws, "sampled")
    sampled = exam.certify(of_draws)
    return {
        **of_head(exam, on_means.logits(exam.seen.mu), "affine"),
        **exam.evidence(of_means, "affine_"),
        **exam.evidence(of_draws, "sampled_affine_"),
        "affine_gain": on_means.gain,
        "sampled_affine_margin": sampled.margin,
        "sampled_affine_population_bound": sampled.population_bound,
        "sampled_affine_within_rate": within_rate(exam, on_draws),
        **_units(exam, train, guard, teacher, seed, bench.device),
    }


def _units(exam: Exam, train: Passage, guard: Passage, teacher: Artifact, seed: int, device: str) -> dict[str, Found]:
    """How many units say something of the teacher, and the evidence for each, on certify rows alone; see `units`."""
    if exam.tested is None or not (counted := exam.tested.counted).any():
        return {}
    found = units.evidence(
        units.by_rate(train),
        Drawn(draws(train, seed, TRAIN_DRAW), teacher.arrays["targets_train"]),
        Drawn(draws(guard, seed, GUARD_DRAW), teacher.arrays["targets_guard"]),
        Drawn(draws(exam.seen, seed)[counted], exam.teacher[counted]),
        largest_delta=DELTA,
        device=device,
    )
    told = {"certified_units": in_sequence(found, DELTA / exam.looks), "latent_units": exam.seen.mu.shape[1]}
    return {**told, "unit_evidence": found}


def affine_heads(
    train: Passage, guard: Passage, teacher: Artifact, seed: int, device: str
) -> tuple[AffineHead, AffineHead]:
    """The best affine head on means, and the best on draws."""
    T, guard_T = teacher.arrays["targets_train"], teacher.arrays["targets_guard"]
    drawn, guard_drawn = draws(train, seed, TRAIN_DRAW), draws(guard, seed, GUARD_DRAW)
    return affine_head(train.mu, T, guard.mu, guard_T, device), affine_head(drawn, T, guard_drawn, guard_T, device)


def draws(seen: Passage, seed: int, *counters: int) -> Float[np.ndarray, "n d"]:
    """One draw z ~ q(z|x) per row; without counters those of the sampled margin that every row shows."""
    return diagnostics.sampled(seen.mu, seen.logvar, np.random.default_rng(stage_seed(seed, "judge", *counters)))


def within_rate(exam: Exam, logits: Float[np.ndarray, "n K"]) -> bool:
    """Whether the margin of a head on draws, given its logits, is at most the KL rate."""
    rate = diagnostics.kl_rate(exam.seen.mu, exam.seen.logvar)
    return observe(exam.pairs(logits, "sampled")).margin <= rate + RATE_SLACK


def _probe_accuracy(exam: Exam, dataset: Dataset, train: Passage, guard: Passage, bench: Workbench) -> float | None:
    """How well labels are read from the latent; None where there are none."""
    if dataset.classes is None:
        return None
    y, guard_y, exam_y = (dataset.labels[dataset.rows(split)] for split in (*FITTED_ON, exam.split))
    probe = heads.label_probe(train.mu, y, guard.mu, guard_y, dataset.classes, bench.device)
    return heads.accuracy(probe.logits(exam.seen.mu), exam_y)


def teacher_quality(teacher: Float[np.ndarray, "n K"]) -> dict[str, float]:
    """The numbers of quality control on these rows, normalised as `Pairs` does, as `teacher_*`: I_T is one number."""
    rows = teacher.astype(np.float64)
    measured = asdict(measure(rows / rows.sum(axis=1, keepdims=True)))
    return {f"teacher_{name}": value for name, value in measured.items() if name != "classes"}


def _on_draws(exam: Exam, seed: int) -> dict[str, Found]:
    """One draw z ~ q(z|x) per row: a margin on means can sit on a channel that the posterior noise drowns."""
    pairs = exam.pairs(exam.raw_logits(draws(exam.seen, seed)), "sampled")
    found = exam.certify(pairs)
    return {
        **exam.evidence(pairs, "sampled_"),
        "sampled_margin": found.margin,
        "sampled_loss": found.loss,
        "sampled_population_bound": found.population_bound,
    }


def _reconstruction(exam: Exam, std: tuple[float, ...]) -> dict[str, Fact]:
    """In dB; once more with the mean teacher row in the decoder's slot, so that only the latent tells images apart."""
    mean_row = Constant(exam.teacher.mean(axis=0, dtype=np.float64))
    latent_only = diagnostics.passage(exam.vae, exam.batches, mean_row)
    return {
        "psnr_01": diagnostics.psnr_01(exam.seen.channel_mse),
        "psnr_std": diagnostics.psnr_std(exam.seen.channel_mse, np.array(std)),
        "psnr_01_latent_only": diagnostics.psnr_01(latent_only.channel_mse),
    }


def _code(seen: Passage) -> dict[str, Fact]:
    return {
        "kl_rate": diagnostics.kl_rate(seen.mu, seen.logvar),
        "mean_square_mu": float(np.square(seen.mu, dtype=np.float64).sum(axis=1).mean()),
        "active_units": diagnostics.active_units(seen.mu),
        "posterior_std": float(np.exp(0.5 * seen.logvar.astype(np.float64)).mean()),
    }


@torch.inference_mode()
def pictures(exam: Exam) -> dict[str, np.ndarray]:
    """Rows spread evenly over the split, which may be sorted, and their reconstructions, uint8 (n, C, H, W)."""
    n = len(exam.teacher)
    batch = exam.batches.at(torch.from_numpy(np.linspace(0, n - 1, min(PICTURES, n), dtype=np.int64)))
    mu = exam.vae.encoder(batch.x)[0]
    x_hat = torch.sigmoid(exam.vae.decoder(mu, exam.targets(batch, mu)))
    return {name: _bytes(x) for name, x in (("originals", batch.x), ("reconstructions", x_hat))}


def _bytes(x: torch.Tensor) -> np.ndarray:
    return x.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
