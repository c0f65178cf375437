"""A study in which something collapses, is kept from it, and is rescued: alpha_kl from mild to deadly.

    python sweeps/collapse_and_rescue.py                               scikit-learn's digits
    python sweeps/collapse_and_rescue.py --data mnist --limit 20000    the same weights in units of alpha_crit

Five KL weights, three seeds. `full` and `rescue` align with a fixed weight; `guarded_full` and `guarded_rescue` let a
guard find it, by the margin of the guard rows. On digits the spectrum of the data says beforehand that a plain code
dies at 1.4 and an aligned one (lambda_ts = 5) at 5.9, and they die near there; at 20 the least weight that holds one is
20. A row says how the channel ended; nothing is called dead for its head alone.
"""

import sys

from certvae.engine.main import main
from certvae.engine.study import Study
from certvae.spec.cell import CellSpec
from certvae.spec.control import Guard
from certvae.spec.fields import replaced
from certvae.spec.parts import Description
from certvae.spec.presets import rescue

WEIGHTS = (0.05, 0.5, 2.0, 8.0, 20.0)
UNIT = {"digits": 1.0}
"""alpha_crit over that of digits. Of other data sets it is taken to be that of MNIST, 52, and not their own: a config
is named before its data are read, for --help, --status and a resume, and a name must not hang on the last bits of an
eigenvalue. --plan prints the forecast of the data at hand and where these weights lie."""
OTHERWISE = 52 / 1.4


def preset(data: str | Description) -> CellSpec:
    """The chain of the presets, guarded modes beside the plain ones; alignment weighs the same against alpha_crit."""
    base = rescue(data)
    unit = UNIT.get(base.data.name, OTHERWISE)
    aligned = replaced(base, "objective.lambda_ts", 5.0 * unit)
    return replaced(aligned, "controller", Guard(lambda_max=500.0 * unit))


def configs(base: CellSpec) -> tuple[CellSpec, ...]:
    """The base under each KL weight; warm-up and teacher are shared."""
    unit = UNIT.get(base.data.name, OTHERWISE)
    return tuple(replaced(base, "objective.alpha_kl", unit * weight) for weight in WEIGHTS)


STUDY = Study(name="collapse_and_rescue", about=__doc__ or "", data="digits", preset=preset, configs=configs)

if __name__ == "__main__":
    sys.exit(main(STUDY))
