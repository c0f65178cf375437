"""Stages: artifacts in, artifact out, and the only list of versions.

A stage is given only what it reads, because its arguments are its cache key: `no_align` never sees lambda_ts, so one
run serves a whole sweep over it. A changed number needs a new version; a refactoring does not.

    dataset -> warm_up -> teacher -> aligned (full)
                                  -> no_align -> aligned (rescue)         each trained artifact -> judge
"""

from dataclasses import asdict

import numpy as np
import torch

from certvae import diagnostics, objective, training
from certvae.canonical import stage_seed
from certvae.certificate import Pairs, certify
from certvae.data import Dataset, Split
from certvae.mixture import FITTED, Mixture
from certvae.nets import Vae, build, load_weights, weights
from certvae.objective import Terms
from certvae.quality import measure
from certvae.spec import Model, Objective, SimplexHead, Training, Unaligned, WarmUp, WarmUpGmm
from certvae.store import Artifact, Content, Workbench, stage
from certvae.teacher import search
from certvae.training import Batch, Batches, Loss

EVALUATION_ROWS = 512  # rows per batch wherever nothing is trained
PICTURES = 8  # rows whose reconstruction is kept
DELTA = 0.05  # one minus the confidence of every bound


@stage(version=1)
def warm_up(dataset: Dataset, model: Model, classes: int, warm_up: WarmUp, seed: int, *, bench: Workbench) -> Content:
    """A plain VAE from scratch: L_rec + alpha_kl L_KL. Its decoder's teacher slot holds the uniform row."""
    vae = build(model, dataset.shape, classes, stage_seed(seed, "init")).to(bench.device)
    goal = Unaligned(alpha_kl=warm_up.alpha_kl, lambda_bal=0.0, kl_ramp_epochs=warm_up.kl_ramp_epochs)
    return _trained(vae, dataset, None, _loss(model, goal, 0.0), warm_up.training, "warm_up", seed, bench)


@stage(version=1)
def teacher(
    dataset: Dataset, model: Model, teacher: WarmUpGmm, seed: int, warm: Artifact, *, bench: Workbench
) -> Content:
    """Teacher search on frozen warm-up features; Q of every train and guard row is cached in row order."""
    vae = _network(dataset, model, teacher.classes, warm, bench)
    train, guard = (_features(vae, dataset, split, bench) for split in ("train", "guard"))
    found = search(train, guard, teacher, seed=stage_seed(seed, "teacher"), device=bench.device, report=bench.report)
    read = {"temperature": found.chosen.temperature, "smoothing": teacher.smoothing, "device": bench.device}
    targets = {
        "targets_train": found.mixture.teacher(train, **read),
        "targets_guard": found.mixture.teacher(guard, **read),
    }
    facts = {
        "classes": teacher.classes,
        "smoothing": teacher.smoothing,
        "chosen": asdict(found.chosen),
        "quality": asdict(found.quality),
        "candidates": [candidate.facts() for candidate in found.candidates],
        "source": "warmup_gmm",
    }
    return Content({**found.mixture.arrays, **targets}, facts)


@stage(version=1)
def aligned(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The full objective from `start`: the end of the warm-up for `full`, the end of `no_align` for `rescue`."""
    vae = _network(dataset, model, teacher.facts["classes"], start, bench)
    loss = _loss(model, objective.unaligned(), objective.lambda_ts)
    return _trained(vae, dataset, teacher, loss, training, "aligned", seed, bench)


@stage(version=1)
def no_align(
    dataset: Dataset,
    model: Model,
    objective: Unaligned,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """The same without alignment: L_TS is recorded and contributes no gradient."""
    vae = _network(dataset, model, teacher.facts["classes"], start, bench)
    return _trained(vae, dataset, teacher, _loss(model, objective, 0.0), training, "no_align", seed, bench)


@stage(version=1)
def judge(
    dataset: Dataset,
    model: Model,
    seed: int,
    split: Split,
    looks: int,
    warm: Artifact,
    teacher: Artifact,
    trained: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """Certificate and diagnostics of one trained network on one split; facts that no threshold enters."""
    targets = teacher_rows(dataset, model, warm, teacher, split, bench)
    vae = _network(dataset, model, targets.shape[1], trained, bench)
    batches = Batches(dataset, split, targets, EVALUATION_ROWS, bench.device)
    seen = diagnostics.passage(vae, batches)
    latent_only = diagnostics.passage(vae, batches, targets.mean(axis=0, dtype=np.float64))
    smoothing = teacher.facts["smoothing"]
    on_mu = Pairs.from_logits(targets, diagnostics.head_logits(vae.head, seen.mu), split=split)
    drawn = diagnostics.sampled(seen, np.random.default_rng(stage_seed(seed, "judge")))
    on_z = Pairs.from_logits(targets, diagnostics.head_logits(vae.head, drawn), split=split, view="sampled")
    sampled = certify(on_z, delta=DELTA, looks=looks, eps=smoothing)
    quality = {f"teacher_{name}": value for name, value in asdict(measure(targets.astype(np.float64))).items()}
    facts = {
        **certify(on_mu, delta=DELTA, looks=looks, eps=smoothing).as_row(),
        "sampled_margin": sampled.margin,
        "sampled_loss": sampled.loss,
        "sampled_population_bound": sampled.population_bound,
        "psnr_01": diagnostics.psnr_01(seen.channel_mse),
        "psnr_std": diagnostics.psnr_std(seen.channel_mse, np.array(dataset.std)),
        "psnr_01_latent_only": diagnostics.psnr_01(latent_only.channel_mse),
        "kl_rate": diagnostics.kl_rate(seen.mu, seen.logvar),
        "mean_square_mu": float(np.square(seen.mu, dtype=np.float64).sum(axis=1).mean()),
        "active_units": diagnostics.active_units(seen.mu),
        **diagnostics.usage(np.exp(on_mu.log_student), "student"),
        **{name: value for name, value in quality.items() if name != "teacher_classes"},
        "teacher_source": teacher.facts["source"],
    }
    return Content(_pictures(vae, batches), {name: _finite(value) for name, value in facts.items()})


STAGES = (warm_up, teacher, aligned, no_align, judge)


def teacher_rows(
    dataset: Dataset, model: Model, warm: Artifact, teacher: Artifact, split: Split, bench: Workbench
) -> np.ndarray:
    """T of every row of a split, float32 (n, K): cached for train and guard, computed when certify is opened."""
    if split != "certify":
        return teacher.arrays[f"targets_{split}"]
    vae = _network(dataset, model, teacher.facts["classes"], warm, bench)
    chosen, arrays = teacher.facts["chosen"], teacher.arrays
    fitted = {name: arrays[name] for name in (*FITTED, "pca_mean", "pca_map") if name in arrays}
    return Mixture(chosen["covariance"], fitted).teacher(
        _features(vae, dataset, split, bench),
        temperature=chosen["temperature"],
        smoothing=teacher.facts["smoothing"],
        device=bench.device,
    )


def _network(dataset: Dataset, model: Model, classes: int, trained: Artifact, bench: Workbench) -> Vae:
    vae = build(model, dataset.shape, classes, seed=0)
    load_weights(vae, trained.arrays)
    return vae.to(bench.device)


def _features(vae: Vae, dataset: Dataset, split: Split, bench: Workbench) -> np.ndarray:
    return diagnostics.passage(vae, Batches(dataset, split, None, EVALUATION_ROWS, bench.device)).mu


def _trained(
    vae: Vae,
    dataset: Dataset,
    teacher: Artifact | None,
    loss: Loss,
    schedule: Training,
    stage: str,
    seed: int,
    bench: Workbench,
) -> Content:
    arrays = {} if teacher is None else teacher.arrays
    batches = Batches(dataset, "train", arrays.get("targets_train"), schedule.batch_size, bench.device)
    targets = arrays.get("targets_guard")
    guard = Batches(dataset, "guard", targets, EVALUATION_ROWS, bench.device)
    curve = training.fit(
        vae,
        loss,
        batches,
        schedule,
        stage=stage,
        seed=seed,
        bench=bench,
        evaluate=lambda network: diagnostics.guard_numbers(network, guard, targets),
    )
    return Content(weights(vae), {"curve": curve})


def _loss(model: Model, goal: Unaligned, lambda_ts: float) -> Loss:
    """L_rec + alpha_kl L_KL + lambda_ts L_TS + lambda_bal L_bal of a batch; z is drawn, a simplex head reads mu."""
    on_mu = isinstance(model.head, SimplexHead)

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: float) -> Terms:
        mu, logvar = vae.encoder(batch.x)
        z = objective.sample(mu, logvar, noise)
        reconstruction = objective.reconstruction(model.likelihood, vae.decoder(z, batch.teacher), batch.x)
        kl = objective.kl_rate(mu, logvar)
        total = reconstruction + goal.alpha_kl * objective.ramp(epochs_done, goal.kl_ramp_epochs) * kl
        if batch.teacher is None:
            nothing = torch.zeros_like(kl)
            return Terms(total, reconstruction, kl, nothing, nothing)
        logits = vae.head(mu if on_mu else z)
        alignment, balance = objective.alignment(batch.teacher, logits), objective.balance(logits)
        if lambda_ts > 0:
            total = total + lambda_ts * alignment
        if goal.lambda_bal > 0:
            total = total + goal.lambda_bal * balance
        return Terms(total, reconstruction, kl, alignment, balance)

    return terms


@torch.inference_mode()
def _pictures(vae: Vae, batches: Batches) -> dict[str, np.ndarray]:
    """The first rows of the split and their reconstructions, uint8 (n, C, H, W)."""
    batch = next(batches.in_order())
    teacher = None if batch.teacher is None else batch.teacher[:PICTURES]
    x_hat = torch.sigmoid(vae.decoder(vae.encoder(batch.x[:PICTURES])[0], teacher))
    return {name: _bytes(x) for name, x in (("originals", batch.x[:PICTURES]), ("reconstructions", x_hat))}


def _bytes(x: torch.Tensor) -> np.ndarray:
    return x.mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _finite(value: str | float | int | bool | None) -> str | float | int | bool | None:
    return None if isinstance(value, float) and not np.isfinite(value) else value
