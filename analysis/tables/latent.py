"""Tables about the latent behind a margin: other heads that read it, and the code itself."""

from certvae.spec.quantities import read_by

from ..table import Table
from ..views import Partition, everything
from .margins import CELL, table


def head_table(parts: Partition) -> Table:
    """Margins of heads other than the raw one, all of which read the latent alone, row by row."""
    rows = everything(parts)
    notes = (
        "a positive margin of any of these heads on means shows that the latent varies with the input; that of the raw "
        "head is the certificate of the network as it was trained; one on draws can be chance: its bound tells",
        "fitted heads read the latent alone, are fitted on train rows and stopped on guard rows; margins at tau = 0",
    )
    names = (*CELL, "teacher_status", *read_by("heads"))
    return table("heads", "Other heads on the same latent", rows, rows, names, notes)


def code_table(parts: Partition) -> Table:
    """What is known of the code besides the margin, row by row."""
    rows = everything(parts)
    notes = (
        "diagnostics: but for units, mean and channel none certifies anything, and none takes a certificate away",
        "units: how many, from the largest KL on, make an affine head on draws better at the teacher, one after the "
        "other; counts of a config hold together, and what is not shown may say what the teacher does not ask",
    )
    return table("code", "The code behind the margin", rows, rows, (*CELL, *read_by("code")), notes)
