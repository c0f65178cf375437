"""Bundles of cells that train in a second, and the tool of a forger: any part, with a manifest that fits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from certvae.bundle import write
from certvae.data.loading import load
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Data
from certvae.store.store import Store
from certvae.training import environment
from certvae.verifier import folder as files
from certvae.verifier.bundle import Computed, assembled, computed
from tests.small_cells import small_cell

DATA = Data(name="digits", limit=240, certify_limit=60)


def judged(path: Path, spec: CellSpec, modes: tuple[str, ...] = ("full",)) -> tuple[Store, list[chain.Row]]:
    """A store with the certify rows of some modes of a cell."""
    store = Store(path, fingerprint=environment.fingerprint("cpu"))
    dataset = load(spec.data, cache=store.path / "data", progress=False)
    return store, chain.judge(chain.train(spec, dataset, store, only=modes), dataset, store, "certify")


def bundled(path: Path, spec: CellSpec | None = None, mode: str = "full") -> tuple[Path, chain.Row]:
    """A bundle of one network of a cell, and the row that it was made of."""
    store, (row,) = judged(path / "store", spec or replace(small_cell(), data=DATA), (mode,))
    write(store, row, path / "bundle")
    return path / "bundle", row


@dataclass
class Parts:
    """All that a bundle holds, to be changed at will."""

    network: dict[str, Any]
    weights: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    record: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def of(cls, bundle: Path) -> "Parts":
        """As they are, and free to be written."""
        _, given = files.read(bundle)
        documents = (files.document(given, name) for name in (files.NETWORK, files.RECORD, files.ENVIRONMENT))
        network, record, made_in = documents
        arrays = ({k: v.copy() for k, v in files.stored(given, name).items()} for name in (files.WEIGHTS, files.ROWS))
        return cls(network, *arrays, record, made_in)

    def claim(self) -> Computed:
        """What the parts give, which a forger can compute as well as anybody."""
        parts = (self.network, self.weights, self.rows, self.record, self.environment)
        return computed(assembled(*parts), self.rows["images"])

    def recorded(self) -> None:
        """Puts what the parts give into the record: a forgery that is consistent."""
        found = self.claim()
        self.record |= {"claim": dict(found.claim), "words": dict(found.words)}
        self.rows["teacher"] = found.pairs.teacher

    def write(self, target: Path) -> Path:
        """A bundle with a manifest that names these very bytes."""
        documents = {files.NETWORK: self.network, files.RECORD: self.record, files.ENVIRONMENT: self.environment}
        files.write(target, documents, {files.WEIGHTS: self.weights, files.ROWS: self.rows})
        return target


def forged(bundle: Path, target: Path, change: Callable[[Parts], object]) -> Path:
    """The bundle with a change."""
    parts = Parts.of(bundle)
    change(parts)
    return parts.write(target)
