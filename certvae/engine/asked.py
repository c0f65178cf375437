"""`certvae response`: would alignment wake a trained network whose channel may be dead?"""

from pathlib import Path

from certvae import fingerprint
from certvae.answers import awakens
from certvae.data.loading import load
from certvae.errors import ExitCode
from certvae.protocols import chain
from certvae.protocols.response import of_cell
from certvae.spec.reading import read
from certvae.store.layout import DATA
from certvae.store.lookup import cell_of
from certvae.store.store import Store
from certvae.training import environment


def response(prefix: str, store: Path, mode: str, data_root: Path | None) -> int:
    """Prints whether alignment would wake the network of one mode of a cell; the exit code says the same.

    Raises:
        ConfigFault: no cell, or more than one, has a digest that begins so, or its network is not there.
        DataFault: the decoded data set is gone, and the data set too.
    """
    environment.settle()
    device = fingerprint.device()
    opened = Store(store, fingerprint=environment.fingerprint(device), device=device)
    rows = opened.rows()
    cell = cell_of(opened, rows, prefix)
    spec = read(next(row for row in rows if row["cell"] == cell)["spec"])
    dataset = load(spec.data, data_root, cache=opened.path / DATA, progress=False)
    found = of_cell(spec, chain.graph(spec), mode, dataset, opened)
    print(f"{mode} of seed {spec.seed}, config {spec.config[:12]}: {found.words}")
    return ExitCode.DONE if awakens(found.columns) else ExitCode.NO
