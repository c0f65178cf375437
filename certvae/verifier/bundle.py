"""A bundle in memory, and what its claim is when it is computed again: margins, bounds and words, from pixels.

Every number is float64 and comes from the pixels, the weights, what the teacher is told besides (labels or views), and
five settings: delta, looks, claims, eps, draw_seed. Each bound is stated at delta / (looks x claims), so whichever of
the claims of its config was picked, it holds (Bonferroni), and needs none of the others. A table shares the same delta
by Holm and may state more.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from certvae import answers
from certvae.certificate import CLAIM_SPLIT, Certificate, Pairs, Reference, View
from certvae.errors import BundleFault, NoBundle
from certvae.preconditions import Preconditions, withheld
from certvae.verifier import folder as files
from certvae.verifier.folder import well_formed
from certvae.verifier.programs import Program, programs
from certvae.verifier.teacher import Teacher, teacher

DIGEST = 16  # bytes of the SHA-256 of a row: 2^64 tries for two images that share one
WORDS = {"head": answers.head, "mean": answers.mean, "channel": answers.channel}


@dataclass(frozen=True, eq=False)
class Bundle:
    """What was read, and nothing believed of it yet.

    record   {claim, words, settings, about}      rows  arrays by row: images (or none), teacher, labels, views, digests
    """

    name: str
    programs: Mapping[str, Program]
    teacher: Teacher
    rows: Mapping[str, np.ndarray]
    record: Mapping[str, Any]
    environment: Mapping[str, Any]

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """mu, logvar (n, d) and logits (n, K) of the head on means, of images as the data set holds them."""
        hidden = self.programs["body"](images, float(self.settings["scale"]))
        mu = self.programs["mu"](hidden)
        logvar = self.programs["logvar"](hidden) if "logvar" in self.programs else np.full_like(mu, -np.inf)
        return {"mu": mu, "logvar": logvar, "logits": self.programs["head"](mu)}

    @property
    def settings(self) -> Mapping[str, Any]:
        """delta, looks, claims (of the config, which share it), eps, draw_seed, scale, shared_rows."""
        return self.record["settings"]


@dataclass(frozen=True, eq=False)
class Computed:
    """The claim as the pixels give it.

    claim    every number of it        words  of head, mean and channel        pairs  what the certificate was made of
    rows     which of them count
    """

    claim: Mapping[str, Any]
    words: Mapping[str, str | None]
    certificate: Certificate
    pairs: Pairs
    reference: Reference
    rows: Preconditions


def opened(folder: Path) -> Bundle:
    """A bundle, with every byte compared with the manifest.

    Raises:
        BundleFault: it is not what a bundle must be; the fault says why.
    """
    name, given = files.read(folder)
    network, record = files.document(given, files.NETWORK), files.document(given, files.RECORD)
    return assembled(
        network,
        files.stored(given, files.WEIGHTS),
        files.stored(given, files.ROWS),
        record,
        files.document(given, files.ENVIRONMENT),
        name,
    )


def assembled(
    network: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
    environment: Mapping[str, Any],
    name: str = "",
) -> Bundle:
    """A bundle from its parts. Raises like `opened`."""
    with well_formed(files.NETWORK):
        made = programs(network["programs"], weights)
        scale = float(record["settings"]["scale"])
        read = teacher(network["teacher"], weights, made.get("warm"), scale)
    return Bundle(name, made, read, rows, record, environment)


def pixels(bundle: Bundle, brought: np.ndarray | None) -> np.ndarray:
    """The certify images: those that were brought, or those of the bundle, if their digests are those of the bundle.

    Raises:
        NoBundle: neither, or other images were brought.
        BundleFault: the bundle holds other images.
    """
    images = bundle.rows.get("images") if brought is None else brought
    if images is None:
        data = bundle.record["about"].get("data", "the data set")
        raise NoBundle(
            "the bundle holds digests of its images and no image",
            f"bring the {len(bundle.rows['digests_certify'])} certify images of {data}: --images FILE.npy, or --load",
            where=files.ROWS,
        )
    if images.ndim != 4 or not np.array_equal(row_digests(images), bundle.rows["digests_certify"]):
        raise (BundleFault if brought is None else NoBundle)(
            "the images are not those that the bundle was made of, or are in another order",
            "bring the rows of the certify split in the order of the data set, in the type they were read in",
            where=files.ROWS,
        )
    return images


def row_digests(images: Iterable[np.ndarray]) -> np.ndarray:
    """(n, 16) uint8: what names the pixels of each image."""
    each = (hashlib.sha256(np.ascontiguousarray(image).data).digest()[:DIGEST] for image in images)
    return np.frombuffer(b"".join(each), np.uint8).reshape(-1, DIGEST)


def tested(rows: Mapping[str, np.ndarray]) -> Preconditions:
    """Which certify images count: against those that the bundle says teacher and network were fitted or chosen on."""
    splits = ("certify", "train", "guard")
    return Preconditions.of(**{split: rows[f"digests_{split}"].view(f"V{DIGEST}").ravel() for split in splits})


def computed(bundle: Bundle, images: np.ndarray) -> Computed:
    """The claim, from pixels.

    Raises:
        BundleFault: a part of the bundle is malformed.
    """
    with well_formed(files.RECORD):
        settings, made = bundle.settings, bundle.programs
        read = bundle.read(images)
        mu, logvar = read["mu"], read["logvar"]
        noise = np.random.default_rng(int(settings["draw_seed"])).standard_normal(mu.shape)
        drawn = mu + np.exp(0.5 * logvar) * noise
        rows = bundle.teacher(images, bundle.rows)
        reference = Reference(teacher=bundle.rows["mean_train_row"][None], split="train")
        counts = tested(bundle.rows)
        options = {"delta": _share(settings), "looks": settings["looks"], "eps": settings["eps"]}

        def certified(program: str, latent: np.ndarray, view: View) -> tuple[Certificate, Pairs]:
            pairs = Pairs.from_logits(rows, made[program](latent), split=CLAIM_SPLIT, view=view)
            return counts.certify(pairs, **options, reference=reference), pairs

        certificate, pairs = certified("head", mu, "mu")
        sampled, _ = certified("head", drawn, "sampled")
        claim = {
            **certificate.as_row(),
            **_of(sampled, "sampled"),
            "kl_rate": float(0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1).mean()),
            "posterior_std": float(np.exp(0.5 * logvar).mean()),
        }
        if {"affine_means", "affine_draws"} <= made.keys():
            claim |= _of(certified("affine_means", mu, "mu")[0], "affine")
            claim |= _of(certified("affine_draws", drawn, "sampled")[0], "sampled_affine")
            claim["affine_gain"] = _gain(made["affine_means"], mu.shape[1])
        if withheld(counts.facts):  # no word may rest on a bound that is no claim
            claim |= {name: None for name in claim if name.endswith("_bound")}
        claim = {name: files.finite(value) for name, value in claim.items()}
        words = {question: answer(claim) for question, answer in WORDS.items()}
        return Computed(claim, words, certificate, pairs, reference, counts)


def _share(settings: Mapping[str, Any]) -> float:
    """Of delta, for each claim. Raises ValueError unless they are counted."""
    claims = settings["claims"]
    if type(claims) is not int or claims < 1:
        raise ValueError(f"claims: wanted a whole number >= 1, found {claims!r}")
    return settings["delta"] / claims


def _of(found: Certificate, name: str) -> dict[str, Any]:
    return {f"{name}_margin": found.margin, f"{name}_population_bound": found.population_bound}


def _gain(head: Program, latent: int) -> float:
    """Lipschitz constant of an affine head up to what a softmax ignores, from its values at 0 and at the units."""
    values = head(np.concatenate([np.zeros((1, latent)), np.eye(latent)]))
    weight = (values[1:] - values[0]).T
    return float(np.linalg.norm(weight - weight.mean(axis=0), 2))
