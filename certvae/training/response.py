"""Measures whether alignment can move a network at all: the local response of arXiv 2605.05813, at a checkpoint.

    response = E <T - Tbar, Da>     nats, Da the change of the raw head's logits by one step of Adam along -grad L_TS

At the best constant student it is the first-order fall of L_TS, and a positive margin needs tr Cov(T, a) > 0: without
response no alignment weight helps, however large. It is zero where the encoder cannot see its input, where the head
does not see the latent and the latent is constant, and where the teacher is constant. It says that there is a force,
and not that the force wins: against the KL term it needs the critical weight.

    T  (n, K)  teacher rows        a  (n, K)  logits of the raw head        z = mu throughout
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from certvae.answers import NO_RESPONSE
from certvae.models.nets import Vae
from certvae.training import objective
from certvae.training.batches import Batches

ROWS = 4096  # train rows that the step is taken on, at most
EPSILON = 1e-8  # of Adam


@dataclass(frozen=True)
class Response:
    """What one step of alignment does to the logits of the guard rows.

    response    E <T - Tbar, Da>, nats       of_head    the part of it that the head gets without the encoder, nats
    gradient    ||grad L_TS|| of encoder and head
    """

    response: float
    of_head: float
    gradient: float

    @property
    def responds(self) -> bool:
        """Whether alignment moves the logits towards the teacher at all."""
        return self.response > NO_RESPONSE

    @property
    def words(self) -> str:
        """One line for whoever is about to start a rescue, with the remedy where it cannot work."""
        if self.responds:
            return f"response {self.response:+.3g} nats a step: alignment moves this network where its weight suffices"
        return (
            f"no response ({self.response:+.3g} nats a step): a larger weight alone will not help; begin student-first "
            "from an earlier state, or restart the head and the last layers of the encoder"
        )


def respond(vae: Vae, train: Batches, guard: Batches, learning_rate: float) -> Response:
    """One step along -grad L_TS of the train rows, read on the guard rows; the network is left as it is.

    Args:
        train: rows with teacher rows; at most `ROWS` of them are used.
        guard: the same, of the split that is read.
        learning_rate: of the step, Adam's first one from a fresh state.
    """
    moved = copy.deepcopy(vae)
    pull = _gradient(moved, train)
    teacher, before = _logits(vae, guard)
    with torch.no_grad():
        _step(moved.head, pull, learning_rate)
        of_head = _along(teacher, _logits(moved, guard)[1] - before)
        _step(moved.encoder, pull, learning_rate)
        found = _along(teacher, _logits(moved, guard)[1] - before)
    norm = sum(float(g.double().square().sum()) for g in pull.values()) ** 0.5
    return Response(found, of_head, norm)


def _gradient(vae: Vae, batches: Batches) -> dict[nn.Parameter, Tensor]:
    """grad L_TS of the parameters of encoder and head, mean over the rows."""
    shared, rows = [*vae.encoder.parameters(), *vae.head.parameters()], 0
    sums = [torch.zeros_like(parameter) for parameter in shared]
    for batch in batches.in_order():
        loss = objective.alignment(batch.taught, vae.head(vae.encoder(batch.x)[0])) * len(batch.x)
        found = torch.autograd.grad(loss, shared, allow_unused=True)
        sums = [total if part is None else total + part for total, part in zip(sums, found, strict=True)]
        rows += len(batch.x)
        if rows >= ROWS:
            break
    return {parameter: total / rows for parameter, total in zip(shared, sums, strict=True)}


def _step(part: nn.Module, pull: dict[nn.Parameter, Tensor], learning_rate: float) -> None:
    for parameter in part.parameters():
        gradient = pull[parameter]
        parameter.sub_(learning_rate * gradient / (gradient.abs() + EPSILON))


@torch.no_grad()
def _logits(vae: Vae, batches: Batches) -> tuple[Tensor, Tensor]:
    """Teacher rows and logits, float64; a small step is a difference of logits that are nearly equal."""
    head, teachers, logits = copy.deepcopy(vae.head).double(), [], []
    for batch in batches.in_order():
        teachers.append(batch.taught.double())
        logits.append(head(vae.encoder(batch.x)[0].double()))
    return torch.cat(teachers), torch.cat(logits)


def _along(teacher: Tensor, change: Tensor) -> float:
    return float(((teacher - teacher.mean(dim=0)) * change).sum(dim=1).mean())
