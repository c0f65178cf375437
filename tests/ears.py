"""A list of cells that remembers how they ended."""

import dataclasses
from collections.abc import Iterable, Sequence

from certvae.engine.dispatch import Cell, Ended, Listed
from certvae.spec.cell import CellSpec


class Ears(Listed):
    """Cells of different seeds; `said` holds how each ended."""

    def __init__(self, cells: Sequence[Cell]):
        super().__init__(cells)
        self.said: dict[int, Ended] = {}

    @classmethod
    def of_seeds(cls, seeds: Iterable[int]) -> "Ears":
        """Cells of one config that nobody trains."""
        return cls([Cell(dataclasses.replace(CellSpec(study="pool"), seed=seed)) for seed in seeds])

    @property
    def kinds(self) -> dict[int, str]:
        """{seed: kind of its end}."""
        return {seed: ended.kind for seed, ended in self.said.items()}

    def heard(self, cell: Cell, ended: Ended) -> None:
        self.said[cell.spec.seed] = ended
