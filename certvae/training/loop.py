"""Trains a network by any loss function, in the one loop that all modes share; it can be resumed.

Everything random is a function of (purpose seed, epoch): a run that resumes after epoch e needs the weights, the
optimiser state and e, and ends with the same bytes as a run that was never interrupted.

    x (n, C, H, W) pixels in [0, 1]      teacher (n, K) rows on the simplex      terms in nats per image
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certvae.canonical import finite, stage_seed
from certvae.errors import NumberFault
from certvae.models.nets import Vae, load_weights, weights
from certvae.spec.parts import Training
from certvae.store.artifact import Content
from certvae.store.store import Workbench
from certvae.training.batches import Batch, Batches
from certvae.training.objective import NAMES, Terms
from certvae.training.optimisers import Adam
from certvae.training.precision import check_precision, multiplying
from certvae.training.recorded import Recorded, Time

REPORT_SECONDS = 1.0
STEERING = "steering/"
Curve = list[dict[str, float | None]]
Loss = Callable[[Vae, Batch, torch.Generator, Time], Terms]
Evaluate = Callable[[Vae], Mapping[str, float | None]]


def fit(
    vae: Vae,
    loss: Loss,
    batches: Batches,
    training: Training,
    *,
    stage: str,
    seed: int,
    bench: Workbench,
    evaluate: Evaluate,
    steering: "Steering | None" = None,
) -> Curve:
    """Trains in place and returns the curve: train terms (means of an epoch) and guard numbers per report point.

    Args:
        loss: (network, batch, noise generator, epochs done as a fraction) -> terms.
        seed: the cell's seed; order and noise of epoch e follow from (seed, e).
        evaluate: numbers of the guard rows, asked every `training.report_every` epochs and after the last.
        steering: sits between steps, and stands in checkpoints; nothing when absent.

    Raises:
        ConfigFault: the device cannot compute as the schedule says.
        NumberFault: at the first loss that is NaN or infinite, with stage, epoch, step and the last finite loss.
    """
    check_precision(training.precision, str(next(vae.parameters()).device))
    steering = steering or Steering()
    plain, step = steps_of(vae, loss, batches, training, steering)
    optimiser = plain.optimiser
    steering.begin(optimiser)
    done, curve = _resume(vae, optimiser, steering, bench)
    pace = _Pace(stage, training, batches.steps, bench)
    saved = time.monotonic()
    for epoch in range(done, training.epochs):
        vae.train()
        values = _run_epoch(step, batches, epoch, seed, pace, steering)
        _check_finite(vae, values, stage, epoch, training, curve)
        if (epoch + 1) % training.report_every == 0 or epoch + 1 == training.epochs:
            means = dict(zip(NAMES, map(finite, values.mean(dim=0).tolist()), strict=True))
            curve.append({"epoch": epoch + 1, **means, **evaluate(vae), **steering.point()})
            pace.point(curve[-1])
        if time.monotonic() - saved >= bench.checkpoint_seconds and epoch + 1 < training.epochs:
            bench.checkpoints.save(epoch + 1, _pack(vae, optimiser, curve, steering))
            saved = time.monotonic()
    return curve


@dataclass
class Step:
    """One step of training: the gradients of a batch, clipped, and Adam."""

    vae: Vae
    loss: Loss
    batches: Batches
    training: Training
    optimiser: torch.optim.Optimizer
    steering: "Steering"

    def __post_init__(self) -> None:
        self.noise = torch.Generator(next(self.vae.parameters()).device)
        self._parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def __call__(self, number: int, rows: Tensor, epochs_done: Time) -> Tensor:
        """The terms of a batch, (terms,)."""
        batch = self.batches.at(rows)
        with multiplying(self.vae, self.training.precision):
            terms = self.loss(self.vae, batch, self.noise, epochs_done)
            self.optimiser.zero_grad(set_to_none=True)
            self.steering.backward(number, terms)
        nn.utils.clip_grad_norm_(self._parameters, self.training.gradient_clip)
        self.optimiser.step()
        return terms.values()


def steps_of(
    vae: Vae, loss: Loss, batches: Batches, training: Training, steering: "Steering"
) -> tuple[Step, Step | Recorded]:
    """A step from fresh moments, and as this device takes it: a GPU records it, unless something sits between steps."""
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    recorded = training.graph and steering.is_idle and parameters[0].is_cuda
    optimiser = Adam(parameters, lr=training.learning_rate, fused=True, capturable=recorded)
    plain = Step(vae, loss, batches, training, optimiser, steering)
    return plain, Recorded(plain, batches.size, len(NAMES)) if recorded else plain


def _run_epoch(
    step: Step | Recorded, batches: Batches, epoch: int, seed: int, pace: "_Pace", steering: "Steering"
) -> Tensor:
    """One pass over the train rows; returns the terms of every step, (steps, terms), on the host."""
    step.noise.manual_seed(stage_seed(seed, "noise", epoch))
    values = torch.empty(batches.steps, len(NAMES), device=step.noise.device)
    for number, rows in enumerate(batches.order(stage_seed(seed, "order", epoch))):
        values[number] = step(number, rows, epoch + number / batches.steps)
        steering.after(epoch, number)
        pace.step(epoch, number, values)
    return values.cpu()


class Steering:
    """A hook between the steps of a run, such as a controller; this one does nothing. Its state is in checkpoints."""

    is_idle = True
    """Nothing happens between steps, so that one can be recorded as a CUDA graph."""

    def begin(self, optimiser: torch.optim.Optimizer) -> None:
        """Called before the first step, and before `restore`."""

    def backward(self, step: int, terms: Terms) -> None:  # noqa: ARG002 - others ask at which step
        """Computes the gradients of a step."""
        terms.total.backward()

    def after(self, epoch: int, step: int) -> None:
        """Called after a step has moved the weights."""

    def point(self) -> dict[str, float | None]:
        """Numbers that it adds to a point of the curve."""
        return {}

    def pack(self) -> Content:
        """Its state, for a checkpoint."""
        return Content({}, {})

    def restore(self, content: Content) -> None:
        """The inverse of `pack`."""


class _Pace:
    """Tells the workbench how far training is, at most once per `REPORT_SECONDS` and at every point of the curve."""

    def __init__(self, stage: str, training: Training, steps: int, bench: Workbench):
        self._fixed = {"stage": stage, "epochs": training.epochs, "steps": steps}
        self._bench, self._told = bench, time.monotonic()

    def step(self, epoch: int, step: int, values: Tensor) -> None:
        now = time.monotonic()
        if now - self._told >= REPORT_SECONDS:
            self._told = now
            self._bench.report(
                {**self._fixed, "epoch": epoch, "step": step + 1, "loss": finite(float(values[step, 0]))}
            )

    def point(self, point: Mapping[str, float | None]) -> None:
        self._told = time.monotonic()
        self._bench.report({**self._fixed, "step": 0, "loss": point["total"], **point})


def _check_finite(vae: Vae, values: Tensor, stage: str, epoch: int, training: Training, curve: Curve) -> None:
    """Refuses an epoch whose losses, or whose weights at the end, left the finite numbers."""
    totals = values[:, 0].tolist()
    bad = next((step for step, total in enumerate(totals) if not math.isfinite(total)), None)
    if bad is not None:
        found = f"loss became {totals[bad]} at epoch {epoch + 1} step {bad + 1}"
        raise _diverged(found, totals[:bad], stage, training, curve)
    if not all(bool(tensor.isfinite().all()) for tensor in vae.state_dict().values()):
        found = f"a weight became NaN or infinite in epoch {epoch + 1}, while every loss was finite"
        raise _diverged(found, totals, stage, training, curve)


def _diverged(found: str, before: list[float], stage: str, training: Training, curve: Curve) -> NumberFault:
    last = f"last finite loss {before[-1]:.6g}" if before else "no loss before it in this epoch"
    if not before and curve:
        last += f", mean of epoch {curve[-1]['epoch']} {curve[-1]['total']:.6g}"
    return NumberFault(
        f"{found}, {last}",
        "lower learning_rate or the weights; the row stays in the table as diverged",
        where=f"stage {stage}",
        cause=f"learning rate {training.learning_rate:g}",
    )


def held(vae: Vae, optimiser: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Weights and moments, as arrays on the host: the inverse of `put_back`."""
    named = {f"weights/{name}": array for name, array in weights(vae).items()}
    for index, state in optimiser.state_dict()["state"].items():
        named |= {f"adam/{index}/{name}": tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}
    return named


def put_back(vae: Vae, optimiser: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Weights and moments as they were; the learning rate stays."""
    load_weights(vae, part(arrays, "weights/"))
    _load_moments(optimiser, part(arrays, "adam/"))


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _resume(vae: Vae, optimiser: torch.optim.Optimizer, steering: Steering, bench: Workbench) -> tuple[int, Curve]:
    latest = bench.checkpoints.latest()
    if latest is None:
        return 0, []
    epoch, content = latest
    put_back(vae, optimiser, content.arrays)
    steering.restore(Content(part(content.arrays, STEERING), content.facts["steering"]))
    return epoch, list(content.facts["curve"])


def _pack(vae: Vae, optimiser: torch.optim.Optimizer, curve: Curve, steering: Steering) -> Content:
    carried = steering.pack()
    arrays = {f"{STEERING}{name}": array for name, array in carried.arrays.items()}
    return Content({**held(vae, optimiser), **arrays}, {"curve": curve, "steering": carried.facts})


def _load_moments(optimiser: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, array in arrays.items():
        index, moment = name.split("/")
        state.setdefault(int(index), {})[moment] = torch.from_numpy(np.array(array))
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
