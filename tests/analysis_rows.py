"""Rows and artifacts in the form that chains write them, made without training: a world in which margins are known."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from certvae.canonical import digest, plain
from certvae.spec.goal import RULE, Goal
from certvae.store.artifact import Content
from certvae.store.program import program_digest
from certvae.store.store import Store, stage

STUDY = "made_up"
MARGIN = {"full": 1.8, "no_align": -0.05, "rescue": 1.7}
PSNR = {"full": 19.0, "no_align": 19.4, "rescue": 19.2}
QUALITY = {
    "teacher_info": 2.0,
    "teacher_top1_margin": 0.9,
    "teacher_high_margin_share": 0.92,
    "teacher_hard_usage_kl": 0.04,
    "teacher_soft_usage_kl": 0.03,
    "teacher_min_mass": 0.05,
}
STRESS = {"teacher_min_mass": 0.001}
HOSTILE = "<script>alert(1)</script> \x1b[31m../..\n$(rm -rf) $\\frac{ | %n & \"'"


def spec(seed: int, parameters: Mapping[str, Any] | None = None, study: str = STUDY) -> dict[str, Any]:
    """A spec tree with a few leaves; parameters are dotted paths."""
    tree: dict[str, Any] = {
        "type": "CellSpec",
        "study": study,
        "seed": seed,
        "objective": {"alpha_kl": 1.0, "lambda_ts": 5.0, "lambda_bal": 1.0},
        "training": {"epochs": 20, "learning_rate": 0.001},
    }
    for path, value in (parameters or {}).items():
        branch, _, leaf = path.partition(".")
        tree[branch] = {**tree.get(branch, {}), leaf: value}
    return tree


def row(seed: int = 0, mode: str = "full", split: str = "certify", **changes: Any) -> dict[str, Any]:
    """One row; `margin`, `psnr_01` and the rest follow from seed and mode unless given. `parameters` go to the spec."""
    study, parameters = changes.get("study", STUDY), changes.pop("parameters", None)
    tree = spec(seed, parameters, study)
    margin = changes.pop("margin", MARGIN.get(mode, 0.5) + 0.01 * seed)
    psnr = changes.pop("psnr_01", PSNR.get(mode, 18.0) + 0.1 * seed)
    named = {
        "study": study,
        "cell": digest(tree),
        "config": digest({name: value for name, value in tree.items() if name != "seed"}),
        "seed": seed,
        "mode": mode,
        "split": split,
        "outcome": "ok",
        "reason": "",
        "classes": 10,
        "data": "digits",
        "data_digest": digest("digits"),
        "substitute": None,
        "spec": tree,
        "environment": digest("one machine"),
        "program": program_digest(),
        "key_teacher": digest(["teacher", seed]),
        "version_certvae": "0.1.0",
        "version_torch": "2.10.0",
        "stage_version_judge": 1,
    }
    facts = {
        "info": 2.0,
        "margin": margin,
        "loss": None if margin is None else 2.0 - margin,
        "view": "mu",
        "n": 360,
        "population_bound": None if margin is None else margin - 0.8,
        "delta": 0.05,
        "looks": 999,  # paid for, so that a bound whose scores were not kept stands beside many claims
        "mcdiarmid_bound": 0.5,
        "brier_bound": 0.3,
        "wald_bound": 1.5,
        "student_info": 1.5,
        "kl_rate": 20.0,
        "psnr_01": psnr,
        "psnr_std": None if psnr is None else psnr - 8.5,
        "psnr_01_latent_only": psnr,
        "active_units": 16,
        "student_used_classes": 10,
        "sampled_margin": margin,
        "sampled_population_bound": None if margin is None else margin - 0.9,
        "imbalance": 0.03,
        **QUALITY,
        "teacher_source": "warmup_gmm",
        "teacher_status": "strict-feasible",
        "teacher_verdict": "strict-feasible",
    }
    return {**named, **facts, **changes}


def lost(seed: int, mode: str = "full", outcome: str = "diverged", **changes: Any) -> dict[str, Any]:
    """The row of a run that ended without facts."""
    whole = row(seed, mode, **changes)
    named = list(whole)[: list(whole).index("info")]
    return {**{name: whole[name] for name in named}, "outcome": outcome, "reason": f"{outcome} at step 7"}


def chains(seeds: Iterable[int] = range(3), modes: Iterable[str] = MARGIN, **changes: Any) -> list[dict[str, Any]]:
    """All modes of all seeds."""
    return [row(seed, mode, **changes) for seed in seeds for mode in modes]


def search(configs: int, seeds: Iterable[int] = range(3), split: str = "guard") -> list[dict[str, Any]]:
    """Rows of a search over lambda_ts, which matters with an optimum inside, and learning_rate, which does not."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(configs):
        strength, rate = 10 ** generator.uniform(-0.5, 1.5), 10 ** generator.uniform(-4, -2)
        gain = 1.8 - np.log10(strength / 3) ** 2
        for seed in seeds:
            noise = 0.02 * generator.normal(size=3)
            for mode, shift in zip(MARGIN, noise, strict=True):
                margin = -0.05 + shift if mode == "no_align" else gain + shift
                parameters = {"objective.lambda_ts": float(strength), "training.learning_rate": float(rate)}
                psnr = PSNR[mode] - (0.0 if mode == "no_align" else float(strength) / 12)
                found.append(row(seed, mode, split, margin=float(margin), psnr_01=psnr, parameters=parameters))
    return found


def searched(path: Path, rows: Iterable[Mapping[str, Any]], goal: Goal, seeds: Iterable[int] = range(3)) -> Path:
    """A store with these rows, as a search for this goal on these seeds leaves it."""
    Store(path).put_document(RULE, STUDY, plain({"goal": goal, "seeds": list(seeds)}))
    return filled(path, rows)


def filled(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A store with these rows."""
    store = Store(path)
    for one in rows:
        store.put_row(one)
    return path


@stage(version=1)
def trained(seed: int, mode: str, epochs: int, *, bench) -> Content:
    """A curve that rises to the margin of its mode."""
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / 4)
    curve = [
        {
            "epoch": epoch,
            "total": 10.0,
            "guard_margin": float(MARGIN[mode] * share + 0.01 * seed),
            "guard_student_info": float(max(0.0, MARGIN[mode]) * share),
            "guard_psnr_01": 18.0,
        }
        for epoch, share in enumerate(rise, start=1)
    ]
    return Content({"weight": np.full(3, float(seed))}, {"curve": curve, "mode": mode})


@stage(version=1)
def teacher(seed: int, *, bench) -> Content:
    """A search with candidates on both sides of the thresholds, and one that could not be fitted."""
    numbers = {name.removeprefix("teacher_"): value for name, value in QUALITY.items()}
    fits = [
        {"whitening": 0, "temperature": heat, **numbers, "min_mass": mass, "score": mass, "status": "", "reason": ""}
        for heat, mass in ((1.0, 0.05), (2.0, 0.03), (4.0, 0.002))
    ]
    missing = {"whitening": 16, "temperature": 1.0, "status": "stress-case", "reason": "singular"}
    chosen = {"whitening": 0, "temperature": 1.0}
    facts = {"classes": 10, "source": "warmup_gmm", "chosen": chosen, "candidates": [*fits, missing]}
    return Content({"seed": np.array([seed])}, facts)


@stage(version=1)
def judged(seed: int, mode: str, channels: int, *, bench) -> Content:
    """Eight small pictures and their reconstructions."""
    generator = np.random.default_rng(seed)
    originals = generator.integers(0, 256, (8, channels, 8, 8), dtype=np.uint8)
    return Content({"originals": originals, "reconstructions": originals // 2}, {"mode": mode})


def whole_study(
    path: Path, seeds: Iterable[int] = range(3), *, epochs: int = 20, channels: int = 1, **changes: Any
) -> Path:
    """A store as a study of three modes leaves it: rows, curves, candidates and pictures."""
    store = Store(path)
    for seed in seeds:
        searched = store.call(teacher, seed)
        for mode in MARGIN:
            keys = {
                "key_teacher": searched.key,
                "key_trained": store.call(trained, seed, mode, epochs).key,
                "key_judged": store.call(judged, seed, mode, channels).key,
            }
            store.put_row(row(seed, mode, **{**keys, **changes}))
    return path
