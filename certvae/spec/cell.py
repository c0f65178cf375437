"""Specs: the frozen tree that names a cell, and nothing else does.

    CellSpec = study, seed + Data, Model, Training + the protocol: warm-up, teacher and objective of a chain

An invalid combination cannot be built. A field that cannot change a number (device, workers, paths) is not in here.
Stages are given only the branch they read, so branches are cache keys: see `certvae.protocols`.

    nats per image for every loss term        epochs for every duration        [0, 1] for every pixel
"""

import re
from functools import cached_property

from certvae.canonical import digest, plain
from certvae.spec.baselines import Baselines, VqVae
from certvae.spec.parts import Data, Model, Seed, SimplexHead, Training
from certvae.spec.rescue import Rescue, check_curriculum
from certvae.spec.simplex import Witness, check_witness
from certvae.spec.validation import refuse, spec


def check_own(protocol: Rescue | Baselines | Witness) -> None:
    """Refuses protocols that ask of a user's own network what needs its last layers to be known.

    Raises:
        ConfigFault: a codebook in the place of its posterior, or an exactly collapsed start.
    """
    match protocol:
        case Baselines(baselines=baselines) if any(isinstance(one, VqVae) for one in baselines):
            raise refuse("Baselines.baselines", "without VqVae for a network of your own", "VqVae", "leave it out")
        case Witness(modes=modes) if "escape_collapsed" in modes:
            wanted = "without escape_collapsed for a network of your own"
            raise refuse("Witness.modes", wanted, modes, "leave it out: its means cannot be set to a constant")


@spec
class CellSpec:
    """One (config, seed): one chain, one trial, one slot of the pool."""

    study: str = "tiny_fixed_q"
    seed: Seed = 0
    data: Data = Data()
    model: Model = Model()
    protocol: Rescue | Baselines | Witness = Rescue()
    training: Training = Training()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_-][a-z0-9_.-]{0,99}", self.study):
            wanted = "a name of a-z, 0-9, _, - and ., at most 100 of them and no . first"
            raise refuse("CellSpec.study", wanted, self.study, "choose such a name")
        if isinstance(self.protocol, Witness):
            check_witness(
                fixed_head=isinstance(self.model.head, SimplexHead),
                decoder_sees_teacher=self.model.decoder_sees_teacher,
                latent=self.model.latent,
                classes=self.protocol.teacher.classes,
            )
        if isinstance(self.protocol, Rescue) and self.protocol.curriculum is not None:
            check_curriculum(self.protocol.curriculum, self.protocol.teacher.classes, self.training.epochs)
        if self.model.network is not None:
            check_own(self.protocol)

    @cached_property
    def cell(self) -> str:
        """Names the cell: 64 hexadecimal digits."""
        return digest(self)

    @cached_property
    def config(self) -> str:
        """Names everything but the seed: 64 hexadecimal digits."""
        return digest({name: value for name, value in plain(self).items() if name != "seed"} | {"type": "config"})
