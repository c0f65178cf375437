"""The controller: it sits between steps, reads the margin of the guard rows, and sets the weights of the loss.

Gradients come from the train batch of the step before a decision: one more backward pass, through encoder and head.
All that is carried over is in the checkpoint, so a run that was cut decides as one that was not. A row of a decision
also says how likely the margin is to reach 0, were its recent drift and noise to last (`risk`): a local statement.
"""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certvae.canonical import finite
from certvae.drift import risk
from certvae.models.nets import Vae
from certvae.spec.control import Control, Rollback, check_control, check_every
from certvae.spec.parts import Model, Training
from certvae.spec.rescue import Unaligned
from certvae.store.artifact import Content
from certvae.training import objective
from certvae.training.batches import Batch, Batches
from certvae.training.control import Force, Memory, Reading, Slopes, check_start, decide
from certvae.training.loop import Loss, Steering, held, part, put_back
from certvae.training.losses import chain_loss
from certvae.training.objective import Terms
from certvae.training.recorded import Time

PREFIX = "control_"
RECENT = 9  # decisions before the latest that a drift is estimated from


class Controller(Steering):
    """Makes decisions every so many steps of an epoch, and carries them out.

    Args:
        vae: the network at its start, whose margin the first decision is made by.
        batches: the train rows.
        guard: guard rows in order, with teacher rows.
        info: I_T of the guard rows, nats.

    Raises:
        ConfigFault: a weight that cannot be controlled, or decisions further apart than an epoch.
        NumberFault: a barrier whose start is not feasible.
    """

    is_idle = False
    _optimiser: torch.optim.Optimizer  # comes with `begin`

    def __init__(
        self,
        control: Control,
        lambda_ts: float,
        training: Training,
        vae: Vae,
        batches: Batches,
        guard: Batches,
        info: float,
    ):
        check_control(control, lambda_ts)
        self._control, self._lambda, self._guard, self._info = control, lambda_ts, guard, info
        self._vae, self._shared = vae, [*vae.encoder.parameters(), *vae.head.parameters()]
        self._steps, self._every = batches.steps, check_every(control, batches.steps)
        self._epoch_time = training.learning_rate * batches.steps
        self._rate = training.learning_rate
        self._pull: tuple[Tensor, ...] | None = None
        self._slopes: Slopes | None = None
        self._ring: list[dict[str, np.ndarray]] = []
        start = Reading(self.margin(), None, 0.0)
        check_start(control, start.margin)
        self._reading = start
        self._memory = decide(control, lambda_ts, self._epoch_time, Memory(Force(lambda_ts), lambda_ts), start)
        self.decisions = [self._row(0, 0, None, undone=False)]

    @property
    def force(self) -> Force:
        """The weights in force."""
        return self._memory.force

    @torch.inference_mode()
    def margin(self) -> float:
        """G_tau of the guard rows, z = mu, nats."""
        loss, rows = 0.0, 0
        for batch in self._guard.in_order():
            found = objective.alignment(batch.taught, self._vae.head(self._vae.encoder(batch.x)[0]))
            loss, rows = loss + float(found) * len(batch.x), rows + len(batch.x)
        return self._info - loss / rows - self._control.tau

    def begin(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        if isinstance(self._control, Rollback):
            self._ring = [held(self._vae, optimiser)]

    def backward(self, step: int, terms: Terms) -> None:
        """The one backward pass of a step and, before a decision, the one of the alignment alone."""
        if self._is_due(step):
            found = torch.autograd.grad(terms.alignment, self._shared, retain_graph=True, allow_unused=True)
            self._pull = tuple(
                torch.zeros_like(p) if g is None else g for p, g in zip(self._shared, found, strict=True)
            )
        terms.total.backward()
        if self._pull is not None:
            self._slopes, self._pull = self._products(self._pull), None

    def after(self, epoch: int, step: int) -> None:
        """Makes and carries out a decision, where one is due."""
        if not self._is_due(step):
            return
        before = self._reading.margin
        self._reading = Reading(self.margin(), self._slopes, epoch + (step + 1) / self._steps)
        tentative = self._reading.margin - before
        rollbacks = self._memory.rollbacks
        self._memory = decide(self._control, self._lambda, self._epoch_time, self._memory, self._reading)
        undone = self._memory.rollbacks > rollbacks
        match self._control:
            case Rollback() if undone:
                self._go_back()
            case Rollback(ring=ring):
                self._ring = [*self._ring, held(self._vae, self._optimiser)][-ring:]
            case _:
                pass
        self.decisions.append(self._row(epoch + 1, step + 1, tentative, undone=undone))

    def point(self) -> dict[str, float | None]:
        """The last decision, as numbers of the curve."""
        last = self.decisions[-1]
        return {f"{PREFIX}{name}": value for name, value in last.items() if name not in ("epoch", "step")}

    def pack(self) -> Content:
        arrays = {f"{slot}/{name}": array for slot, kept in enumerate(self._ring) for name, array in kept.items()}
        facts = {"memory": asdict(self._memory), "margin": self._reading.margin, "decisions": self.decisions}
        return Content(arrays, {**facts, "kept": len(self._ring)})

    def restore(self, content: Content) -> None:
        facts = content.facts
        self._memory, self.decisions = Memory.of(facts["memory"]), list(facts["decisions"])
        self._reading = replace(self._reading, margin=facts["margin"])
        self._ring = [part(content.arrays, f"{slot}/") for slot in range(facts["kept"])]
        self._pace()

    def _is_due(self, step: int) -> bool:
        return (step + 1) % self._every == 0

    def _products(self, pull: tuple[Tensor, ...]) -> Slopes:
        """Of g_a and of what else is in the gradients of the step, before they are clipped."""
        force, sums = self._memory.force, torch.zeros(5, dtype=torch.float64, device=pull[0].device)
        for parameter, alignment in zip(self._shared, pull, strict=True):
            if (gradient := parameter.grad) is not None:
                base = gradient - force.lambda_ts * alignment
                metric = self._metric(parameter, gradient)
                pairs = ((alignment, alignment), (base, base), (alignment, base))
                weighed = ((metric * alignment, alignment), (metric * alignment, base))
                sums += torch.stack([(one * other).sum(dtype=torch.float64) for one, other in (*pairs, *weighed)])
        return Slopes(*sums.tolist(), share=force.vae)

    def _metric(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """1 / (sqrt(v) + eps) of Adam as it stands; at its first step v is the squared gradient."""
        group, state = self._optimiser.param_groups[0], self._optimiser.state.get(parameter, {})
        squares = state.get("exp_avg_sq")
        if squares is None:
            return 1 / (gradient.abs() + group["eps"])
        correction = 1 - group["betas"][1] ** float(state["step"])
        return 1 / ((squares / correction).sqrt() + group["eps"])

    def _go_back(self) -> None:
        """To the newest state; to an older one where that was gone back to before."""
        if self._memory.again > 1 and len(self._ring) > 1:
            self._ring = self._ring[:-1]
        put_back(self._vae, self._optimiser, self._ring[-1])
        self._reading = replace(self._reading, margin=self.margin())
        self._memory = replace(self._memory, accepted=self._reading.margin)
        self._pace()

    def _pace(self) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * self._memory.rate

    def _increments(self, latest: float | None) -> list[float]:
        """Of the margin, from decision to decision, the latest last."""
        before = [row["tentative"] for row in self.decisions[-RECENT:]] if latest is not None else []
        return [one for one in (*before, latest) if one is not None]

    def _row(self, epoch: int, step: int, tentative: float | None, *, undone: bool) -> dict[str, Any]:
        memory, slopes = self._memory, self._slopes
        alignment, base = (math.sqrt(s) for s in (slopes.alignment, slopes.base)) if slopes else (None, None)
        cosine = slopes.product / (alignment * base) if slopes and alignment and base else None
        row = {
            "epoch": epoch,
            "step": step,
            "state": float(memory.state),
            "margin": self._reading.margin,
            "lambda_ts": memory.force.lambda_ts,
            "vae_share": memory.force.vae,
            "floor": memory.floor,
            "alignment_gradient": alignment,
            "base_gradient": base,
            "cosine": cosine,
            "critical": slopes.critical if slopes else None,
            "tentative": tentative,
            "risk": risk(self._increments(tentative), self._reading.margin),
            "rollback": float(undone),
            "rollbacks": float(memory.rollbacks),
            "breaches": float(memory.breaches),
            "learning_rate": self._rate * memory.rate,
            "no_response": float(memory.is_still),
        }
        return {name: finite(value) for name, value in row.items()}


def controlled_loss(model: Model, goal: Unaligned, controller: Controller) -> Loss:
    """The loss of a chain under the weights that are in force at each step."""
    plain = chain_loss(model, replace(goal, lambda_bal=0.0), 0.0)

    def terms(vae: Vae, batch: Batch, noise: torch.Generator, epochs_done: Time) -> Terms:
        found, force = plain(vae, batch, noise, epochs_done), controller.force
        total = force.vae * found.total + force.lambda_ts * found.alignment
        return replace(found, total=total + force.student * goal.lambda_bal * found.balance)

    return terms
