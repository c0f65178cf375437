"""Measures the three edges of a triad, each against its own constant baseline (arXiv 2605.05813, triad).

They are diagnostics.

    head      KL(T(x) || S(z))         what the certificate is about
    through   KL(T(x) || T(xhat))      whether the reconstruction keeps what the teacher sees
    back      KL(T(xhat) || S(z))      whether the head says what the reconstruction shows

`bypass`: the second is above its baseline while the first is not. Then what the teacher sees reached the reconstruction
past the latent: by a decoder that is shown T, for example.
"""

import numpy as np
import torch
from jaxtyping import Float

from certvae.certificate import FLOAT_SLACK, Pairs
from certvae.evaluation.facts import Exam, Fact
from certvae.quality import measure
from certvae.training.triad import Read

Rows = Float[np.ndarray, "n K"]


def margin(teacher: Rows, log_student: Rows) -> float:
    """I - E KL of two rows per image, nats: 0 at the best constant student, at most I."""
    rows = teacher.astype(np.float64) / teacher.sum(axis=1, keepdims=True, dtype=np.float64)
    entropy = -np.sum(rows * np.log(np.where(rows > 0, rows, 1.0)), axis=1).mean()
    cross = -np.sum(np.where(rows > 0, rows * log_student, 0.0), axis=1).mean()
    return measure(rows).info - float(cross - entropy)


def edges(teacher: Rows, log_seen: Rows, log_student: Rows) -> dict[str, Fact]:
    """Margins of the three edges, and the flag.

    Args:
        log_seen: log T(xhat).
    """
    head, through = margin(teacher, log_student), margin(teacher, log_seen)
    return {
        "edge_head": head,
        "edge_through": through,
        "edge_back": margin(np.exp(log_seen), log_student),
        "bypass": through > FLOAT_SLACK >= head,
    }


@torch.inference_mode()
def of_exam(exam: Exam, read: Read) -> dict[str, Fact]:
    """The edges of a network on the rows of an exam, z = mu."""
    found = []
    for batch in exam.batches.in_order():
        mu = exam.vae.encoder(batch.x)[0]
        found.append(read(torch.sigmoid(exam.vae.decoder(mu, exam.targets(batch, mu)))).double().cpu().numpy())
    pairs: Pairs = exam.pairs(exam.raw_logits())
    return edges(exam.teacher.astype(np.float64), np.concatenate(found), pairs.log_student)
