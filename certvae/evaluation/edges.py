"""Measures the three edges of a triad, each against its own constant baseline (arXiv 2605.05813, triad).

They are diagnostics.

    head      KL(T(x) || S(z))         what the certificate is about
    through   KL(T(x) || T(xhat))      whether the reconstruction keeps what the teacher sees
    back      KL(T(xhat) || S(z))      whether the head says what the reconstruction shows

`bypass`: the second is above its baseline while the first is not. Then what the teacher sees reached the reconstruction
past the latent: by a decoder that is shown T, for example.
"""

from dataclasses import replace

import numpy as np
import torch

from certvae.certificate import FLOAT_SLACK, Pairs, observe
from certvae.evaluation.facts import Exam, Fact
from certvae.training.triad import Read


def edges(head: Pairs, through: Pairs) -> dict[str, Fact]:
    """Margins of the three edges, nats, and the flag.

    Args:
        head: T(x) and S(z).
        through: T(x) and T(xhat), of the same rows.
    """
    back = replace(head, teacher=np.exp(through.log_student))
    of_head, of_through, of_back = (observe(pairs).margin for pairs in (head, through, back))
    return {
        "edge_head": of_head,
        "edge_through": of_through,
        "edge_back": of_back,
        "bypass": of_through > FLOAT_SLACK >= of_head,
    }


@torch.inference_mode()
def of_exam(exam: Exam, read: Read) -> dict[str, Fact]:
    """The edges of a network on the rows of an exam, z = mu."""
    found = []
    for batch in exam.batches.in_order():
        mu = exam.vae.encoder(batch.x)[0]
        found.append(read(torch.sigmoid(exam.vae.decoder(mu, exam.targets(batch, mu)))).cpu().numpy())
    return edges(exam.pairs(exam.raw_logits()), exam.pairs(np.concatenate(found)))
