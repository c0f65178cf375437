"""One loop, its objective and losses, and what it is fed with."""

from certvae.training.batches import Batch, Batches
from certvae.training.environment import fingerprint, settle
from certvae.training.loop import fit
from certvae.training.losses import chain_loss
from certvae.training.objective import Terms

__all__ = [
    "Batch",
    "Batches",
    "Terms",
    "chain_loss",
    "fingerprint",
    "fit",
    "settle",
]
