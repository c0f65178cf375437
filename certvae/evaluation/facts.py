"""What is said of one trained network on one split: certificates, diagnostics, pictures. No threshold enters.

T (n, K)  teacher rows of the split       mu (n, d)  posterior means       a (n, K)  logits of the raw head, float64
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float

from certvae.canonical import stage_seed
from certvae.certificate import Certificate, Pairs, Reference, View, certify
from certvae.data.dataset import Dataset, Split
from certvae.evaluation import diagnostics, heads
from certvae.evaluation.diagnostics import Passage, evaluation, features
from certvae.evaluation.heads import affine_head
from certvae.models.nets import Vae
from certvae.quality import measure
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench
from certvae.training.batches import Batch, Batches, Constant, Targets, cached

PICTURES = 8  # rows whose reconstruction is kept
DELTA = 0.05  # one minus the confidence of every bound
Fact = str | float | int | bool | None


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
    targets: Targets = cached

    def raw_logits(self, latent: Float[np.ndarray, "n d"] | None = None) -> Float[np.ndarray, "n K"]:
        """Of the raw head, float64: on posterior means unless other latent rows are given."""
        return diagnostics.head_logits(self.vae.head, self.seen.mu if latent is None else latent)

    def pairs(self, logits: Float[np.ndarray, "n K"], view: View = "mu") -> Pairs:
        """Teacher rows and the rows of a head that read the latent alone."""
        return Pairs.from_logits(self.teacher, logits, split=self.split, view=view)

    def certify(self, pairs: Pairs) -> Certificate:
        """The certificate of pairs of this split."""
        reference = None if self.split == self.reference.split else self.reference
        return certify(pairs, delta=DELTA, looks=self.looks, eps=self.eps, reference=reference)


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
        targets=live or cached,
    )


def facts(exam: Exam, std: tuple[float, ...], seed: int) -> dict[str, Fact]:
    """The facts of a row: raw head on posterior means, raw head on draws, reconstruction, code, usage, teacher."""
    pairs = exam.pairs(exam.raw_logits())
    return {
        **exam.certify(pairs).as_row(),
        **_on_draws(exam, seed),
        **_reconstruction(exam, std),
        **_code(exam.seen),
        **diagnostics.usage(np.exp(pairs.log_student), "student"),
        **teacher_quality(exam.teacher),
    }


def content(exam: Exam, found: Mapping[str, Fact]) -> Content:
    """Facts and pictures."""
    return Content(_pictures(exam), finite(found))


def of_head(exam: Exam, logits: Float[np.ndarray, "n K"], name: str) -> dict[str, Fact]:
    """The certificate of a head other than the raw one, as `<name>_*`."""
    found = exam.certify(exam.pairs(logits))
    return {
        f"{name}_loss": found.loss,
        f"{name}_margin": found.margin,
        f"{name}_student_info": found.student_info,
        f"{name}_population_bound": found.population_bound,
    }


def posthoc_facts(exam: Exam, dataset: Dataset, teacher: Artifact, seed: int, bench: Workbench) -> dict[str, Fact]:
    """Heads that are fitted on train rows after training, held against the rows of the exam; see `heads`."""
    train, guard = (features(exam.vae, dataset, split, bench) for split in ("train", "guard"))
    T, guard_T = teacher.arrays["targets_train"], teacher.arrays["targets_guard"]
    raw = Pairs.from_logits(T, diagnostics.head_logits(exam.vae.head, train), split="train")
    order = heads.relabelling(T, raw.log_student)
    affine = affine_head(train, T, guard, guard_T, bench.device)
    short = heads.short_head(train, T, stage_seed(seed, "judge", 1))
    return {
        **of_head(exam, affine.logits(exam.seen.mu), "affine"),
        **of_head(exam, short.logits(exam.seen.mu), "short_affine"),
        **of_head(exam, exam.raw_logits()[:, order], "relabelled"),
        "probe_accuracy": _probe_accuracy(exam, dataset, train, guard, bench),
    }


def _probe_accuracy(
    exam: Exam, dataset: Dataset, train: Float[np.ndarray, "n d"], guard: Float[np.ndarray, "g d"], bench: Workbench
) -> float | None:
    """How well labels are read from the latent; None where there are none."""
    if dataset.classes is None:
        return None
    y, guard_y, exam_y = (dataset.labels[dataset.rows(split)] for split in ("train", "guard", exam.split))
    probe = heads.label_probe(train, y, guard, guard_y, dataset.classes, bench.device)
    return heads.accuracy(probe.logits(exam.seen.mu), exam_y)


def finite(found: Mapping[str, Fact]) -> dict[str, Fact]:
    """Facts with what is not finite as None."""
    return {
        name: value if not isinstance(value, float) or np.isfinite(value) else None for name, value in found.items()
    }


def teacher_quality(teacher: Float[np.ndarray, "n K"]) -> dict[str, float]:
    """The numbers of quality control on these rows, normalised as `Pairs` does, as `teacher_*`: I_T is one number."""
    rows = teacher.astype(np.float64)
    measured = asdict(measure(rows / rows.sum(axis=1, keepdims=True)))
    return {f"teacher_{name}": value for name, value in measured.items() if name != "classes"}


def _on_draws(exam: Exam, seed: int) -> dict[str, Fact]:
    """One draw z ~ q(z|x) per row: a margin on means can sit on a channel that the posterior noise drowns."""
    drawn = diagnostics.sampled(exam.seen, np.random.default_rng(stage_seed(seed, "judge")))
    found = exam.certify(exam.pairs(exam.raw_logits(drawn), "sampled"))
    return {
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
    }


@torch.inference_mode()
def _pictures(exam: Exam) -> dict[str, np.ndarray]:
    """The first rows of the split and their reconstructions, uint8 (n, C, H, W)."""
    batch = next(exam.batches.in_order())
    first = Batch(batch.x[:PICTURES], None if batch.teacher is None else batch.teacher[:PICTURES])
    mu = exam.vae.encoder(first.x)[0]
    x_hat = torch.sigmoid(exam.vae.decoder(mu, exam.targets(first, mu)))
    return {name: _bytes(x) for name, x in (("originals", first.x), ("reconstructions", x_hat))}


def _bytes(x: torch.Tensor) -> np.ndarray:
    return x.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
