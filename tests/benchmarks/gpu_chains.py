"""Short chains of one seed on images of three shapes, as a user runs them, and seconds of a chain of full length."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.store.store import Store
from tests.benchmarks.gpu_steps import CLASSES, SHAPES, Bench, Net, noise

ROOT = Path(__file__).parents[2]
IMAGES = {"MNIST": 60_000, "CIFAR": 50_000, "Tiny": 100_000}
"""Train and guard images of the official data sets."""


def short(bench: Bench, name: str, data_root: Path | None, seconds: float) -> dict[str, Any]:
    """One seed through all modes, a few epochs each; what its stages took.

    Args:
        seconds: it is ended after so many.
    """
    store, images = bench.folder / f"store-{name}", bench.sizes.images
    given = ["--data", noise(bench.folder / name, SHAPES[name], CLASSES[name], images)]
    if name == "Tiny" and data_root is not None:
        given = ["--data", "tiny-imagenet-200", "--data-root", str(data_root), "--limit", str(images)]
    asked = f"--seeds 0 --workers 0 --teacher.initialisations 1 {bench.sizes.chain} --store".split()
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "sweeps/tiny_fixed_q.py", *given, *asked, str(store)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        ended, said = done.returncode, (done.stdout + done.stderr)[-2000:]
    except subprocess.TimeoutExpired:
        ended, said = None, f"ended after {seconds:.0f} s"
    whole = time.perf_counter() - began
    stages = [(str(event["stage"]), float(event["seconds"])) for event in Store(store, fingerprint={}).executions()]
    return {"exit code": ended, "seconds": whole, "stages": stages, "images": images, "said": said}


def at_full_length(spec: CellSpec, name: str, found: dict[str, Any], step_ms: float, guard: dict[str, float]) -> float:
    """Seconds of a chain of the preset's epochs on as many images as the official data set has.

    What trains: epochs x (steps of an epoch x a recorded step + a guard point). All else as the short chain took it.

    Args:
        guard: rows and milliseconds of a guard point.
    """
    schedules, images = chain.schedules(spec), IMAGES[name]
    train = {step.stage.name for step in chain.graph(spec).steps if step.name in schedules}
    held = images * guard["rows"] / found["images"]
    seconds = sum(took for stage, took in found["stages"] if stage not in train)
    for one in schedules.values():
        steps, points = int(images - held) // one.batch_size, one.epochs / one.report_every
        seconds += (one.epochs * steps * step_ms + points * guard["ms"] * held / guard["rows"]) / 1e3
    return seconds


def chains(
    bench: Bench, nets: dict[str, Net], report: dict[str, Any], data_root: Path | None, seconds: float
) -> dict[str, Any]:
    """Of every shape, largest last: a short chain, and seconds of one of full length where the short one ended well.

    Args:
        report: what was measured of the networks.
        seconds: of all of them together; each may take its share of what is left.
    """
    until, found = time.monotonic() + seconds, {}
    for left, (name, net) in zip(range(len(nets), 0, -1), nets.items(), strict=True):
        one = short(bench, name, data_root, (until - time.monotonic()) / left)
        step_ms, guard = report[name]["ways"]["graph, fp32"]["ms"], report[name]["guard point"]
        whole = at_full_length(net.spec, name, one, step_ms, guard) if one["exit code"] == 0 else None
        found[name] = one | {"seconds at full length": whole}
    return found
