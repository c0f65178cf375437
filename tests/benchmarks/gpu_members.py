"""Several perceptrons of one shape on one device: a graph each, one after another or side by side, or all in one step.

By these figures the first card decides whether seeds and modes of a perceptron are worth fusing (`torch.func.vmap`).
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from certvae.models.nets import build
from certvae.training.batches import Batch
from certvae.training.loop import Loss, Step
from certvae.training.objective import NAMES
from certvae.training.optimisers import Adam
from certvae.training.recorded import BEFORE, Recorded, Time
from tests.benchmarks.gpu_steps import TURNS, Again, Bench, Net, Way

FUSED, ALONE, BESIDE = "fused by vmap, one graph", "a graph each, in turn", "a graph each, on a stream each"
WANTED = 4.0
"""Times as many steps as graphs in turn, from where on fusing pays for a key that knows its members."""


class Fused:
    """One step of several networks at once: what `loop.Step` does, on weights that are stacked, (members, ...).

    Args:
        like: a step of one of them, whose rows, loss and schedule are those of all.
    """

    def __init__(self, like: Step, networks: Sequence[nn.Module]):
        self._batches, self._training, self.noise = like.batches, like.training, like.noise
        self._members, self._of_one = len(networks), _Terms(like.vae, like.loss, like.noise)
        stacked, self._buffers = stack_module_state([*networks])
        self.weights = {name: nn.Parameter(tensor.detach()) for name, tensor in stacked.items()}
        rate, on_card = like.training.learning_rate, like.noise.device.type == "cuda"
        self._optimiser = Adam(self.weights.values(), lr=rate, fused=True, capturable=on_card)

    def __call__(self, number: int, rows: Tensor, epochs_done: Time) -> Tensor:
        """Rows of all members, one after the other; the terms of the first."""
        gradients, terms = self.gradients(rows)
        for name, parameter in self.weights.items():
            parameter.grad = gradients[name]
        self._optimiser.step()
        return terms[0]

    def gradients(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Of each member, clipped, by the name of the weight; and its terms, (members, terms)."""
        batch = self._batches.at(rows)
        x, teacher = (of_all.unflatten(0, (self._members, -1)) for of_all in (batch.x, batch.taught))
        each = vmap(grad(self._terms, has_aux=True), randomness="different")
        found, terms = each(dict(self.weights), self._buffers, x, teacher)
        squares = torch.stack([one.flatten(1).square().sum(dim=1) for one in found.values()])
        scale = (self._training.gradient_clip / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1.0)
        return {name: one * scale.view(-1, *[1] * (one.dim() - 1)) for name, one in found.items()}, terms

    def _terms(self, weights: Any, buffers: Any, x: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        named = {f"vae.{name}": tensor for name, tensor in (weights | buffers).items()}
        return functional_call(self._of_one, named, (x, teacher))


class _Terms(nn.Module):
    """The loss of a batch as a module, so that its weights can be exchanged."""

    def __init__(self, vae: Any, loss: Loss, noise: torch.Generator):
        super().__init__()
        self.vae, self._loss, self._noise = vae, loss, noise

    def forward(self, x: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        terms = self._loss(self.vae, Batch(x, teacher), self._noise, 0.0)
        return terms.total, terms.values()


def fused(net: Net) -> tuple[Fused, Tensor]:
    """A step of all members, and rows of each."""
    like, members = net.step(Way()), net.bench.sizes.members
    assert isinstance(like, Step)
    seeds = range(members)
    networks = [build(net.spec.model, net.dataset.shape, net.classes, seed).to(net.bench.device) for seed in seeds]
    rows = [next(like.batches.order(seed)) for seed in seeds]
    return Fused(like, networks), torch.cat(rows)


def members(bench: Bench, net: Net) -> dict[str, float]:
    """Steps a second of all members together, recorded steps in fp32, by how they share the device."""
    graphs = [net.ready(Way(graph=True)) for _ in range(bench.sizes.members)]
    ways = {
        ALONE: partial(_in_turn, graphs),
        BESIDE: partial(_beside, graphs, _streams(bench)),
        FUSED: _ready(bench, net),
    }
    turns: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, once in ways.items():
            turns[way].append(bench.timed(once)[0])
    return {way: 1e3 * len(graphs) / statistics.median(ms) for way, ms in turns.items()}


def _ready(bench: Bench, net: Net) -> Callable[[], Any]:
    plain, rows = fused(net)
    step = Recorded(plain, len(rows), len(NAMES), None if bench.has_gpu else Again())
    for _ in range(BEFORE + 2):
        step(0, rows, 0.0)
    return lambda: step(0, rows, 0.0)


def _in_turn(graphs: Sequence[Callable[[], Any]]) -> None:
    for once in graphs:
        once()


def _streams(bench: Bench) -> list[Any]:
    return [torch.cuda.Stream() if bench.has_gpu else None for _ in range(bench.sizes.members)]


def _beside(graphs: Sequence[Callable[[], Any]], streams: Sequence[Any]) -> None:
    """Each after all that came before on the device; what comes next waits for all."""
    for once, stream in zip(graphs, streams, strict=True):
        with _on(stream):
            once()
    for stream in filter(None, streams):
        torch.cuda.current_stream().wait_stream(stream)


def _on(stream: Any) -> AbstractContextManager[Any]:
    if stream is None:
        return nullcontext()
    stream.wait_stream(torch.cuda.current_stream())
    return torch.cuda.stream(stream)
