"""Stores with rows, curves, teachers and pictures of networks that never were: real objects, made in milliseconds."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from certvae.canonical import plain
from certvae.certificate import Pairs, certify
from certvae.quality import Thresholds, from_row, measure
from certvae.quality import judge as qualify
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Mlp, Model
from certvae.spec.rescue import Objective, Rescue
from certvae.store.artifact import Content
from certvae.store.program import program_digest
from certvae.store.store import Store, Workbench, stage

MODES = ("full", "no_align", "rescue")
K, N = 4, 40
NUMBERS = ("total", "reconstruction", "kl", "alignment", "guard_margin", "guard_psnr_01", "gradient_norm")


@stage(version=1)
def warm_up(seed: int, epochs: int, *, bench: Workbench) -> Content:
    return _trained(seed, epochs)


@stage(version=1)
def teacher(seed: int, *, bench: Workbench) -> Content:
    candidates = [{"score": float(number), "whitening": number, "reason": "strict-feasible"} for number in range(30)]
    facts = {"classes": K, "smoothing": 0.02, "source": "warmup_gmm", "candidates": candidates}
    return Content({"targets_guard": _rows(seed, 0.9)}, facts)


@stage(version=1)
def aligned(mode: str, seed: int, weight: float, epochs: int, *, bench: Workbench) -> Content:
    return _trained(seed + MODES.index(mode) * 100 + round(weight * 1000), epochs)


@stage(version=1)
def judge(mode: str, seed: int, weight: float, split: str, sharpness: float, *, bench: Workbench) -> Content:
    noise = np.random.default_rng([seed, len(mode), len(split)])
    targets = _rows(seed, sharpness)
    close = 0.0 if mode == "no_align" else weight
    student = (1 - close) * np.full((N, K), 1 / K) + close * targets
    pairs = Pairs(teacher=targets, log_student=np.log(student), split=split)
    quality = {f"teacher_{name}": value for name, value in asdict(measure(targets)).items() if name != "classes"}
    facts = {**certify(pairs, eps=0.02).as_row(), **quality, "psnr_01": 18 + weight + seed / 10, "kl_rate": 5.0}
    pictures = noise.integers(0, 256, (2, 8, 1, 8, 8), dtype=np.uint8)
    return Content(
        {"originals": pictures[0], "reconstructions": pictures[1]}, {**facts, "teacher_source": "warmup_gmm"}
    )


def cell(seed: int = 0, alpha_kl: float = 0.5, study: str = "small") -> CellSpec:
    """A spec; alpha_kl is also how close the student of `full` comes to the teacher."""
    model = Model(encoder=Mlp(hidden=(8,), latent=2), decoder_sees_teacher=False)
    return CellSpec(
        study=study, seed=seed, model=model, protocol=Rescue(objective=Objective(alpha_kl=alpha_kl), controls=())
    )


def weight(spec: CellSpec) -> float:
    """The hyper-parameter that these cells differ in."""
    assert isinstance(spec.protocol, Rescue)
    return spec.protocol.objective.alpha_kl


def fill(store: Store, cells: Iterable[CellSpec], splits: Iterable[str] = ("guard",), epochs: int = 5) -> None:
    """Publishes what finished cells leave behind: objects, and one row per mode and split."""
    for spec in cells:
        for split in splits:
            for mode in MODES:
                store.put_row(row(store, spec, mode, split, epochs))


def row(store: Store, spec: CellSpec, mode: str, split: str = "guard", epochs: int = 5) -> dict[str, Any]:
    """One row and the objects it names. Seed 99 has a teacher that is no more than a stress case."""
    sharpness = 0.4 if spec.seed == 99 else 0.9
    made = {
        "warm_up": store.call(warm_up, spec.seed, epochs),
        "teacher": store.call(teacher, spec.seed),
        "trained": store.call(aligned, mode, spec.seed, weight(spec), epochs),
        "judged": store.call(judge, mode, spec.seed, weight(spec), split, sharpness),
    }
    facts = made["judged"].facts
    verdict = qualify(from_row(facts), Thresholds())
    keys = {f"key_{name}": artifact.key for name, artifact in made.items()}
    status = {"teacher_status": verdict.status, "teacher_verdict": str(verdict)}
    return {**named(spec, mode, split), **keys, **facts, "outcome": "ok", "reason": "", **status}


def failed(store: Store, spec: CellSpec, mode: str, reason: str, split: str = "guard") -> dict[str, Any]:
    """The row of a network that diverged after its teacher was found."""
    keys = {"key_warm_up": store.call(warm_up, spec.seed, 5).key, "key_teacher": store.call(teacher, spec.seed).key}
    return {**named(spec, mode, split), **keys, "outcome": "diverged", "reason": reason}


def named(spec: CellSpec, mode: str, split: str) -> dict[str, Any]:
    """What every row says, whatever became of the network."""
    return {
        "study": spec.study,
        "cell": spec.cell,
        "config": spec.config,
        "seed": spec.seed,
        "mode": mode,
        "split": split,
        "classes": K,
        "data": "digits",
        "data_digest": "d" * 64,
        "substitute": None,
        "alpha_kl": weight(spec),
        "spec": plain(spec),
        "environment": "e" * 64,
        "program": program_digest(),
        "version_certvae": "0.1.0",
        "stage_version_aligned": 1,
        "stage_version_judge": 1,
    }


def events(store: Store, spec: CellSpec, mode: str, epochs: int = 5) -> list[dict[str, Any]]:
    """What a worker reports while it trains a mode: the points of its curve, and news between them."""
    curve = store.call(aligned, mode, spec.seed, weight(spec), epochs).facts["curve"]
    fixed = {"stage": "aligned", "epochs": epochs, "steps": 7}
    between = [{**fixed, "epoch": point["epoch"] - 1, "step": 3, "loss": 1.0} for point in curve]
    ends = [{**fixed, "step": 0, "loss": point["total"], **point} for point in curve]
    return [event for pair in zip(between, ends, strict=True) for event in pair]


def _trained(seed: int, epochs: int) -> Content:
    generator = np.random.default_rng(seed)
    curve: list[Mapping[str, float | None]] = [
        {"epoch": epoch, **dict(zip(NUMBERS, generator.normal(size=len(NUMBERS)).tolist(), strict=True))}
        for epoch in range(1, epochs + 1)
    ]
    return Content({"weight": generator.normal(size=(3, 3))}, {"curve": curve})


def _rows(seed: int, sharpness: float) -> np.ndarray:
    hot = np.eye(K)[np.random.default_rng(seed).permutation(N) % K]
    return 0.98 * (sharpness * hot + (1 - sharpness) / K) + 0.02 / K
