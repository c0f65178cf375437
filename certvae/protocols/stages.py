"""Stages that protocols share: artifacts in, artifact out.

A stage is given only what it reads, because its arguments are its cache key: `no_align` never sees lambda_ts, so one
run serves a whole sweep over it. A changed number needs a new version; a refactoring does not. What a stage computes
with is imported when it runs, so that a plan of stages needs no torch.
"""

from dataclasses import asdict

from certvae.canonical import stage_seed
from certvae.data.dataset import Dataset
from certvae.spec.control import Control
from certvae.spec.parts import Model, Training
from certvae.spec.rescue import Objective, Unaligned, WarmUp
from certvae.spec.teachers import WarmUpGmm
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Workbench, stage


@stage(version=1)
def warm_up(dataset: Dataset, model: Model, classes: int, warm_up: WarmUp, seed: int, *, bench: Workbench) -> Content:
    """A plain VAE from scratch: L_rec + alpha_kl L_KL. Its decoder's teacher slot holds the uniform row."""
    from certvae.models.nets import build
    from certvae.protocols.trained import train
    from certvae.training.losses import chain_loss

    vae = build(model, dataset.shape, classes, stage_seed(seed, "init")).to(bench.device)
    goal = Unaligned(alpha_kl=warm_up.alpha_kl, lambda_bal=0.0, kl_ramp_epochs=warm_up.kl_ramp_epochs)
    return train(vae, dataset, None, chain_loss(model, goal, 0.0), warm_up.training, "warm_up", seed, bench)


@stage(version=1)
def teacher(
    dataset: Dataset, model: Model, teacher: WarmUpGmm, seed: int, warm: Artifact, *, bench: Workbench
) -> Content:
    """Teacher search on frozen warm-up features; Q of every train and guard row is cached in row order."""
    from certvae.evaluation.diagnostics import features
    from certvae.protocols.trained import network
    from certvae.teachers.kinds import FeatureTeacher
    from certvae.teachers.searching import search

    vae = network(dataset, model, teacher.classes, warm, bench)
    train, guard = (features(vae, dataset, split, bench) for split in ("train", "guard"))
    found = search(train, guard, teacher, seed=stage_seed(seed, "teacher"), device=bench.device, report=bench.report)
    read = FeatureTeacher(found.mixture, found.chosen.temperature, teacher.smoothing, bench.device)
    facts = {
        "classes": teacher.classes,
        "smoothing": teacher.smoothing,
        "quality": asdict(found.quality),
        "source": "warmup_gmm",
        **found.facts(),
    }
    targets = {"targets_train": read.rows(train), "targets_guard": read.rows(guard)}
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
    from certvae.protocols import trained
    from certvae.training.losses import chain_loss

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts)
    return trained.train(vae, dataset, teacher, loss, training, "aligned", seed, bench)


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
    from certvae.protocols import trained
    from certvae.training.losses import chain_loss

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    return trained.train(vae, dataset, teacher, chain_loss(model, objective, 0.0), training, "no_align", seed, bench)


@stage(version=1)
def head_only(
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
    """As `aligned`, but alignment and balance send no gradient into the encoder: what is left is a trained head.

    The norm at which gradients are clipped is that of the whole network, head included.
    """
    from certvae.protocols import trained
    from certvae.training.losses import chain_loss

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    loss = chain_loss(model, objective.unaligned(), objective.lambda_ts, into_code=False)
    return trained.train(vae, dataset, teacher, loss, training, "head_only", seed, bench)


@stage(version=1)
def untrained(dataset: Dataset, model: Model, classes: int, seed: int, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The network of a seed as it was initialised: the floor of every head that is fitted to a code."""
    from certvae.models.nets import build, weights

    return Content(weights(build(model, dataset.shape, classes, stage_seed(seed, "init"))), {})


@stage(version=1)
def permuted_teacher(teacher: Artifact, seed: int, *, bench: Workbench) -> Content:  # noqa: ARG001
    """The same teacher rows, handed to other images of their split: whatever is certified of it is a false positive."""
    from certvae.protocols.trained import permuted

    splits = ("train", "guard")
    targets = {f"targets_{split}": permuted(teacher.arrays[f"targets_{split}"], split, seed) for split in splits}
    return Content({**teacher.arrays, **targets}, teacher.facts)


@stage(version=1)
def guarded(
    dataset: Dataset,
    model: Model,
    objective: Objective,
    control: Control,
    training: Training,
    seed: int,
    start: Artifact,
    teacher: Artifact,
    *,
    bench: Workbench,
) -> Content:
    """As `aligned`, its weights set by a controller; every decision stands in the facts, the last one in each point."""
    from certvae.protocols import trained

    vae = trained.network(dataset, model, teacher.facts["classes"], start, bench)
    return trained.train_guarded(vae, dataset, model, teacher, objective, control, training, seed, bench)


@stage(version=1)
def response(
    dataset: Dataset, model: Model, training: Training, network: Artifact, teacher: Artifact, *, bench: Workbench
) -> Content:
    """What one step of alignment would do to a network; see `certvae.training.response`."""
    from certvae.protocols import trained

    vae = trained.network(dataset, model, teacher.facts["classes"], network, bench)
    return Content({}, asdict(trained.response_of(vae, dataset, teacher, training, bench)))
