"""What a study is: a name, a preset per data set, seeds. A study is a Python module with one of these in it."""

from collections.abc import Callable
from dataclasses import dataclass

from certvae.spec import CellSpec, DataName, check_seeds


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question asked of several seeds.

    Args:
        name: names rows, MLflow experiments and the certify gate.
        about: one paragraph for `--help`.
        data: the data set it runs on when nothing else is asked for.
        preset: data set -> the cell of seed 0 with this study's protocol for it.
        seeds: the seeds of a plain run, each certified.
    """

    name: str
    about: str
    data: DataName
    preset: Callable[[DataName], CellSpec]
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)


def study_name(study: Study, data: DataName) -> str:
    """Rows of different data sets never share a study: its own data set needs no mention."""
    return study.name if data == study.data else f"{study.name}-{data}"
