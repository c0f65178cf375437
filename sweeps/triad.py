"""Image, latent and reconstruction, each read: does the decoder bypass the latent? (arXiv 2605.05813, triad)

    python sweeps/triad.py                    scikit-learn's digits, at a KL weight that kills the channel
    python sweeps/triad.py --data mnist       any data set that another study takes

Two configs: a decoder that sees the teacher row, and one that does not. `triad_no_align` is a plain code, dead here;
its edges are only read. Where the decoder sees T, what the teacher recognises reaches the reconstruction past a dead
channel: the edge through the reconstruction clears its constant baseline, that of the head does not, and `bypass` is
set. Where it does not see T there is no such way. `triad_full` minimises all three edges. No edge is a certificate.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Description
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue, Triad

DEADLY = 400.0
"""Times the KL weight of the preset: 20 on digits, where a plain code dies near 1.3."""


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets under a deadly KL weight, with the triad beside it."""
    base = rescue(data)
    chain = base.protocol
    if not isinstance(chain, Rescue):
        raise TypeError(f"a triad stands in a rescue chain, got {type(chain).__name__}")
    goal = replace(chain.objective, alpha_kl=DEADLY * chain.objective.alpha_kl)
    return replace(base, protocol=replace(chain, objective=goal, triad=Triad()))


def configs(base: CellSpec) -> tuple[CellSpec, ...]:
    """A decoder that sees the teacher row, and one that sees the latent alone."""
    return tuple(replace(base, model=replace(base.model, decoder_sees_teacher=sees)) for sees in (True, False))


STUDY = Study(name="triad", about=__doc__ or "", data="digits", preset=preset, configs=configs)

if __name__ == "__main__":
    sys.exit(main(STUDY))
