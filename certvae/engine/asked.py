"""One question to a network of a store: will alignment wake it?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certvae import fingerprint
from certvae.answers import awakens
from certvae.data.loading import load
from certvae.errors import ConfigFault, ExitCode
from certvae.protocols import chain
from certvae.protocols.response import of_cell
from certvae.spec.reading import read
from certvae.store.store import Store
from certvae.training import environment


def response(prefix: str, store: Path, mode: str, data_root: Path | None) -> int:
    """Prints the answer for the network that a mode of a cell ended with; the exit code says it as well.

    Raises:
        ConfigFault: no cell, or more than one, has a digest that begins so, or its network is not there.
        DataFault: the decoded data set is gone, and the data set too.
    """
    environment.settle()
    device = fingerprint.device()
    opened = Store(store, fingerprint=environment.fingerprint(device), device=device)
    spec = read(_row_of(prefix, opened)["spec"])
    dataset = load(spec.data, data_root, cache=opened.path / "data", progress=False)
    found = of_cell(spec, chain.graph(spec), mode, dataset, opened)
    print(f"{mode} of seed {spec.seed}, config {spec.config[:12]}: {found.words}")
    return ExitCode.DONE if awakens(found.columns) else ExitCode.BUG


def _row_of(prefix: str, store: Store) -> Mapping[str, Any]:
    """A row of the one cell whose digest begins so."""
    cells = {row["cell"]: row for row in store.rows() if row["cell"].startswith(prefix)}
    if len(cells) != 1:
        raise ConfigFault(
            f"{len(cells)} cells of this store have a digest that begins with {prefix!r}",
            "take the first digits of one from the column `cell` of --status",
            where=str(store.path),
        )
    return next(iter(cells.values()))
