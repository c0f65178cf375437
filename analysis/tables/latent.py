"""Tables about the latent behind a margin: other heads that read it, and the code itself."""

from analysis.table import Column, Table
from analysis.tables.margins import CELL, table
from analysis.views import Partition, everything


def head_table(parts: Partition) -> Table:
    """Margins of heads other than the raw one, all of which read the latent alone, row by row."""
    rows = everything(parts)
    columns = (
        *CELL,
        Column("teacher_status", "teacher", "text"),
        Column("margin", "raw head, G_0", "signed"),
        Column("sampled_margin", "raw head on draws", "signed"),
        Column("affine_margin", "best affine head", "signed"),
        Column("short_affine_margin", "affine head, short fit", "signed"),
        Column("relabelled_margin", "raw head, relabelled", "signed"),
        Column("rotation_margin", "best rotation", "signed"),
        Column("sampled_affine_margin", "best affine head on draws", "signed"),
        Column("probe_accuracy", "label probe", "share"),
    )
    notes = (
        "a positive margin of any of these heads shows that the latent varies with the input; that of the raw head is "
        "the certificate of the network as it was trained",
        "fitted heads read the latent alone, are fitted on train rows and stopped on guard rows; margins at tau = 0",
    )
    return table("heads", "Other heads on the same latent", rows, rows, columns, notes)


def code_table(parts: Partition) -> Table:
    """What is known of the code besides the margin, row by row."""
    rows = everything(parts)
    columns = (
        *CELL,
        Column("kl_rate", "KL, nats", "decibel"),
        Column("mean_square_mu", "mean square norm of mu", "decibel"),
        Column("active_units", "active units", "count"),
        Column("student_used_classes", "classes used", "count"),
        Column("reconstruction", "reconstruction, nats", "decibel"),
        Column("usage_gap_witness", "cost of a permuted witness part, nats", "short"),
        Column("force_norm", "force", "short"),
        Column("view_gap", "view gap", "short"),
        Column("teacher_code_energy", "teacher code energy", "short"),
        Column("teacher_drift", "teacher drift, nats", "short"),
    )
    note = "diagnostics: none of them certifies anything, and none takes a certificate away"
    return table("code", "The code behind the margin", rows, rows, columns, (note,))
