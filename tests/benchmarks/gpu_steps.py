"""What a GPU makes of a training step on synthetic images of three shapes: milliseconds, floors, bytes, neighbours.

Steps are those of `certvae.training.loop`; ways of computing take turns, and a figure is the median of three turns.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from certvae.data import describe, load
from certvae.data.dataset import Dataset
from certvae.evaluation.diagnostics import evaluation, guard_numbers, passage
from certvae.models.nets import build
from certvae.spec.parts import Data, Precision, Training
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.training import environment
from certvae.training.batches import Batches
from certvae.training.loop import Steering, Step
from certvae.training.losses import chain_loss
from certvae.training.objective import NAMES
from certvae.training.optimisers import Adam
from certvae.training.precision import AMPERE
from certvae.training.recorded import BEFORE, Recorded

SHAPES = {"MNIST": (1, 28, 28), "CIFAR": (3, 32, 32), "Tiny": (3, 64, 64)}
CLASSES = {"MNIST": 10, "CIFAR": 100, "Tiny": 200}
TURNS = 3
SAME_STEPS = 20
NEIGHBOURS = (1, 2, 4)
"""Processes that share the device."""
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Way:
    """How a step computes. Torch fills uninitialised memory in deterministic mode, which no result needs."""

    precision: Precision = "fp32"
    graph: bool = False
    channels_last: bool = False
    fill: bool = False

    def __str__(self) -> str:
        words = (
            self.graph and "graph",
            self.precision,
            self.channels_last and "channels last",
            self.fill and "filled",
        )
        return ", ".join(word for word in words if word)


WAYS = (
    Way(),
    *(Way(fill=True), Way(channels_last=True), Way("bf16"), Way(graph=True), Way(graph=True, channels_last=True)),
    *(Way("tf32", graph=True), Way("bf16", graph=True), Way("bf16", graph=True, channels_last=True)),
)


@dataclass(frozen=True)
class Sizes:
    """How much is done: images and batch of the steps, seconds of a turn, side of a matrix, members of a group.

    chain  what is said to the chains
    """

    images: int
    batch: int
    turn: float
    matrix: int
    members: int
    chain: str


FULL = Sizes(20_000, 256, 0.4, 8192, 8, "--training.epochs 2 --warm-up.training.epochs 2")
SMOKE = Sizes(
    *(300, 8, 0.0, 64, 2),
    "--training.epochs 1 --warm-up.training.epochs 1 --model.encoder.hidden 8 --teacher.classes 4",
)


class Again:
    """Records nothing: the place of a CUDA graph where there are none."""

    def run(self, once: Callable[[], None]) -> None:
        """Once."""
        once()

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        """The step itself."""
        return once


@dataclass(frozen=True)
class Bench:
    """A device and how much to do on it."""

    device: str
    sizes: Sizes
    folder: Path

    @property
    def has_gpu(self) -> bool:
        """Whether figures mean anything."""
        return self.device != "cpu"

    def wait(self) -> None:
        """Until all that was launched is done."""
        if self.has_gpu:
            torch.cuda.synchronize()

    def release(self) -> None:
        """Gives what nobody holds any more back to other processes."""
        gc.collect()
        if self.has_gpu:
            torch.cuda.empty_cache()

    def timed(self, once: Callable[[], Any]) -> tuple[float, float]:
        """Milliseconds of a call, and those in which the host launched it."""
        once()
        self.wait()
        calls, began = 0, time.perf_counter()
        while calls < 3 or time.perf_counter() - began < self.sizes.turn:
            once()
            calls += 1
            if calls % 8 == 0:
                self.wait()
        self.wait()
        whole = (time.perf_counter() - began) / calls
        began = time.perf_counter()
        for _ in range(3):
            once()
        launched = (time.perf_counter() - began) / 3
        self.wait()
        return 1e3 * whole, 1e3 * launched

    def ways(self) -> list[Way]:
        """Those that this device has."""
        ampere = self.has_gpu and torch.cuda.get_device_capability(self.device) >= AMPERE
        return [
            way for way in WAYS if way.precision == "fp32" or ampere or (way.precision == "bf16" and not self.has_gpu)
        ]


def noise(folder: Path, shape: tuple[int, int, int], classes: int, images: int) -> str:
    """Synthetic images with labels; their place as `--data` takes it. A class is a faint pattern of its own."""
    if folder.exists():
        return f"npz:{folder}"
    drawn = np.random.default_rng(0)
    patterns = drawn.integers(0, 128, (classes, *shape), dtype=np.uint8)
    folder.mkdir(parents=True)
    for part, n in {"train": images, "test": max(classes, images // 10)}.items():
        labels = np.arange(n) % classes
        np.save(folder / f"y_{part}.npy", labels)
        np.save(folder / f"x_{part}.npy", patterns[labels] + drawn.integers(0, 128, (n, *shape), dtype=np.uint8))
    return f"npz:{folder}"


class Net:
    """The network that this program chooses for a shape, its train rows on the device, and its steps."""

    def __init__(self, bench: Bench, name: str):
        place = noise(bench.folder / name, SHAPES[name], CLASSES[name], bench.sizes.images)
        about = describe(place)
        self.bench, self.spec = bench, rescue(about)
        self.dataset: Dataset = load(Data(name=about.name), root=place, cache=bench.folder / "cache", progress=False)
        rows = len(self.dataset.rows("train"))
        self.teacher = np.random.default_rng(0).dirichlet(np.ones(CLASSES[name]), rows).astype(np.float32)
        self.classes = CLASSES[name]

    def step(self, way: Way) -> Step | Recorded:
        """A step with all that it needs, the warm-up of its graph done."""
        spec, bench = self.spec, self.bench
        assert isinstance(spec.protocol, Rescue)
        schedule = Training(batch_size=bench.sizes.batch, precision=way.precision)
        vae = build(spec.model, self.dataset.shape, self.classes, seed=0).to(bench.device).train()
        if way.channels_last:
            vae.to(memory_format=torch.channels_last)
        batches = Batches(self.dataset, "train", self.teacher, schedule.batch_size, bench.device)
        optimiser = Adam(vae.parameters(), lr=1e-3, fused=True, capturable=way.graph and bench.has_gpu)
        loss = chain_loss(spec.model, spec.protocol.objective.unaligned(), 5.0)
        step = Step(vae, loss, batches, schedule, optimiser, Steering())
        step.noise.manual_seed(0)
        if not way.graph:
            return step
        return Recorded(step, batches.size, len(NAMES), None if bench.has_gpu else Again())

    def ready(self, way: Way) -> Callable[[], Any]:
        """A step on rows of its own, which all that comes before the first has gone through."""
        step = self.step(way)
        rows = list(batches_of(step).order(0))
        for number in range(BEFORE + 2):
            step(0, rows[number % len(rows)], 0.0)
        return lambda: step(0, rows[0], 0.0)

    def floor(self, peaks: dict[str, float]) -> dict[str, float]:
        """FLOPs and bytes of a step, and the milliseconds that each takes at what this card reaches, by precision.

        Bytes: every activation is written and read on the way there and twice on the way back, in the precision of the
        layers; Adam reads and writes four float32 arrays of the size of the weights.
        """
        step = self.step(Way())
        assert isinstance(step, Step)
        rows = next(step.batches.order(0))
        with FlopCounterMode(display=False) as counter:
            step(0, rows, 0.0)
        activations = _activations(step, rows)
        weights = sum(parameter.numel() for parameter in step.vae.parameters())
        found: dict[str, float] = {"gflop": counter.get_total_flops() / 1e9}
        for precision, kind in DTYPES.items():
            moved = 6 * activations * kind.itemsize + 8 * weights * 4
            found[f"gbyte {precision}"] = moved / 1e9
            found[f"flop ms {precision}"] = 1e3 * counter.get_total_flops() / peaks[precision]
            found[f"byte ms {precision}"] = 1e3 * moved / peaks["bytes"]
        return found


def _activations(step: Step, rows: torch.Tensor) -> int:
    """Numbers that the layers of a network return in one step."""
    counted = [0]

    def count(layer: nn.Module, given: Any, returned: torch.Tensor) -> None:
        counted[0] += returned.numel()

    layers = [layer for layer in step.vae.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    step(0, rows, 0.0)
    for hook in hooks:
        hook.remove()
    return counted[0]


@contextmanager
def as_it_computes(way: Way) -> Iterator[None]:
    """The process-wide part of a way."""
    deterministic: Any = torch.utils.deterministic  # its switch is set by assignment, which a type checker does not see
    before, deterministic.fill_uninitialized_memory = deterministic.fill_uninitialized_memory, way.fill
    try:
        yield
    finally:
        deterministic.fill_uninitialized_memory = before


def peaks(bench: Bench) -> dict[str, float]:
    """FLOPs a second of plain matrix products by precision, and bytes a second of a plain copy."""
    n, found = bench.sizes.matrix, {}
    for precision, kind in DTYPES.items():
        square = torch.ones(n, n, device=bench.device, dtype=kind)
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        found[precision] = 2 * n**3 / bench.timed(lambda square=square: square @ square)[0] * 1e3
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.ones(4 * n * n, device=bench.device)
    target = torch.empty_like(source)
    found["bytes"] = 2 * 4 * source.numel() / bench.timed(lambda: target.copy_(source))[0] * 1e3
    return found


def upload(bench: Bench, net: Net) -> dict[str, float]:
    """Milliseconds until train rows lie on the device, the first time in a process and the second."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        Batches(net.dataset, "train", net.teacher, bench.sizes.batch, bench.device)
        bench.wait()
        seconds.append(1e3 * (time.perf_counter() - began))
    return {"first ms": seconds[0], "again ms": seconds[1], "mbyte": net.dataset.images.nbytes / 1e6}


def steps(bench: Bench, net: Net, floor: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    """Every way in turns: milliseconds, ratio to the plain one, and the share of a step that its floor takes."""
    ready, turns = {}, {}
    for way in bench.ways():
        with as_it_computes(way):
            ready[way] = net.ready(way)
    for _ in range(TURNS):
        for way, once in ready.items():
            with as_it_computes(way):
                turns.setdefault(way, []).append(bench.timed(once))
    plain = statistics.median(ms for ms, _ in turns[Way()])
    return {str(way): _figures(way, found, plain, floor, bench.sizes.batch) for way, found in turns.items()}


def batches_of(step: Step | Recorded) -> Batches:
    inner = step if isinstance(step, Step) else step.step
    assert isinstance(inner, Step)
    return inner.batches


def _figures(
    way: Way, turns: list[tuple[float, float]], plain: float, floor: dict[str, float], batch: int
) -> dict[str, float | bool]:
    ms, host = (statistics.median(turn[place] for turn in turns) for place in (0, 1))
    least = max(floor[f"flop ms {way.precision}"], floor[f"byte ms {way.precision}"])
    return {
        "ms": ms,
        "host ms": host,
        "images/s": 1e3 * batch / ms,
        "ratio": plain / ms,
        "share of the floor": least / ms,
    }


def same(net: Net, way: Way) -> bool:
    """Whether a recorded step leaves the weights that the step leaves, to the byte."""
    ended = []
    for graph in (False, True):
        step = net.step(replace(way, graph=graph))
        rows = list(batches_of(step).order(0))
        for number in range(SAME_STEPS):
            step(0, rows[number % len(rows)], number / SAME_STEPS)
        inner = step if isinstance(step, Step) else step.step
        assert isinstance(inner, Step)
        ended.append(torch.cat([one.detach().flatten() for one in inner.vae.parameters()]))
    return bool(ended[0].equal(ended[1]))


def shared(bench: Bench) -> dict[str, dict[str, float]]:
    """Steps a second of all processes that share the device, recorded steps in fp32, by network and their number."""
    spawned, ends = get_context("spawn"), []
    for _ in range(max(NEIGHBOURS)):
        here, there = spawned.Pipe()
        spawned.Process(target=_neighbour, args=(bench, there), daemon=True).start()
        ends.append(here)
    for end in ends:
        end.recv()
    found: dict[str, dict[str, float]] = {name: {} for name in SHAPES}
    for name in SHAPES:
        for count in NEIGHBOURS:
            for end in ends[:count]:
                end.send(name)
            found[name][str(count)] = sum(end.recv() for end in ends[:count])
    for end in ends:
        end.send(None)
    return found


def _neighbour(bench: Bench, end: Connection) -> None:
    environment.settle()
    ready = {name: Net(bench, name).ready(Way(graph=True)) for name in SHAPES}
    end.send(None)
    while (name := end.recv()) is not None:
        end.send(1e3 / bench.timed(ready[name])[0])


def guard_point(bench: Bench, net: Net, step_ms: float) -> dict[str, float]:
    """Milliseconds of a point of the guard curve as runs make it, and its share of an epoch of recorded steps, fp32."""
    step = net.step(Way())
    assert isinstance(step, Step)
    rows = net.teacher[: len(net.dataset.rows("guard"))]
    checkpoints = Checkpoints(Store(bench.folder / "none").disk, "0" * 64)
    guard = evaluation(net.dataset, "guard", rows, Workbench(bench.device, print, checkpoints))
    ms = bench.timed(lambda: guard_numbers(step.vae.head, passage(step.vae, guard), rows))[0]
    return {"rows": len(rows), "ms": ms, "share of an epoch": ms / (ms + step.batches.steps * step_ms)}
