"""At which KL weight does a code die? alpha_kl in steps of 7 % on both sides of a forecast.

    python sweeps/critical_weight.py                                              digits: 1.4 without alignment
    python sweeps/critical_weight.py --only full rescue --objective.alpha-kl 5.86             5.9 with it
    python sweeps/critical_weight.py --data mnist --limit 4000 --objective.alpha-kl 53.2   what --plan --decode says
    certvae run sweeps.critical_weight:BERNOULLI --data mnist --limit 4000 --objective.alpha-kl 25

The KL weight of the base is that forecast, and six weights from 0.82 to 1.14 of it are run. `no_align` and `full`
begin with a living code, `rescue` with what `no_align` left, which may be dead: where both end differently, the start
decides. No heads are fitted afterwards: a code is called dead for its KL rate alone.
"""

import sys
from dataclasses import replace

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.fields import fields, replaced
from certvae.spec.parts import Bernoulli, Description
from certvae.spec.presets import rescue

STEP = 1.07
FACTORS = tuple(STEP**power for power in range(-3, 3))
DIGITS = 1.4
ALPHA_KL = "objective.alpha_kl"


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets without controls, at the weight at which digits die."""
    bare = replaced(replaced(rescue(data), "controls", ()), "fair_heads", False)
    return replaced(bare, ALPHA_KL, DIGITS)


def bernoulli(data: str | Description) -> CellSpec:
    """The same under the other likelihood."""
    base = preset(data)
    return replace(base, model=replace(base.model, likelihood=Bernoulli()))


def configs(base: CellSpec) -> tuple[CellSpec, ...]:
    """The base under KL weights around its own; warm-up and teacher are shared."""
    weights = (round(factor * fields(base)[ALPHA_KL], 6) for factor in FACTORS)
    return tuple(replaced(base, ALPHA_KL, weight) for weight in weights)


STUDY = Study(name="critical_weight", about=__doc__ or "", data="digits", preset=preset, configs=configs)
BERNOULLI = replace(STUDY, name="critical_weight_bernoulli", preset=bernoulli)

if __name__ == "__main__":
    sys.exit(main(STUDY))
