"""Ranges from a command line as a space: `--range lambda_ts 0.1 10 log` draws that field and nothing else.

--range FIELD LOW HIGH          a number between both, ends included; whole where the field is whole
--range FIELD LOW HIGH log      the same in log scale
--range FIELD LOW HIGH STEP     LOW, LOW + STEP, ... up to HIGH
"""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from certvae.engine.space import Space
from certvae.errors import ConfigFault
from certvae.foreign import called
from certvae.spec.cell import CellSpec
from certvae.spec.fields import fields, path_of, replaced

LOG = "log"
FORM = "--range FIELD LOW HIGH, and perhaps `log` or a step"


@dataclass(frozen=True)
class Range:
    """One field by its path, and where its values lie."""

    path: str
    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def suggest(self, trial: BaseTrial) -> float:
        """Draws the value of this field for a trial."""
        if not self.whole:
            return trial.suggest_float(self.path, self.low, self.high, log=self.log, step=self.step)
        return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log, step=int(self.step or 1))


@dataclass(frozen=True)
class Ranges:
    """A space of numeric fields: a config has what was drawn, and all else of the base."""

    ranges: tuple[Range, ...]

    def __call__(self, trial: BaseTrial, base: CellSpec) -> CellSpec:
        """A config, as every space makes one."""
        for one in self.ranges:
            base = replaced(base, one.path, one.suggest(trial))
        return base


def ranges(given: Sequence[Sequence[str]], base: CellSpec) -> Ranges:
    """Reads `--range` options into the space that draws those fields of a base.

    Raises:
        ConfigFault: no numeric field, a range that is none, or one whose ends the field does not allow.
    """
    found = tuple(_range(words, base) for words in given)
    paths = [one.path for one in found]
    if repeated := [path for path in paths if paths.count(path) > 1]:
        raise _refused(repeated[0], f"{repeated[0]} has two ranges", "give one per field")
    return Ranges(found)


def described(space: Space, base: CellSpec) -> list[str]:
    """What a space draws, a line per parameter, as one draw shows it: a later draw may ask for others.

    Raises:
        ConfigFault: the space raised something.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    optuna.logging.set_verbosity(verbosity)
    called(space, trial, base)
    return [f"{name} {_words(kind)}" for name, kind in trial.distributions.items()]


def _words(kind: BaseDistribution) -> str:
    match kind:
        case CategoricalDistribution(choices=choices):
            return f"one of {', '.join(map(str, choices))}"
        case (
            FloatDistribution(low=low, high=high, log=log, step=step)
            | IntDistribution(low=low, high=high, log=log, step=step)
        ):
            whole = isinstance(kind, IntDistribution)
            steps = f" in steps of {step:g}" if step and not (whole and step == 1) else ""
            return f"{low:g} to {high:g}{', whole' if whole else ''}{', log scale' if log else ''}{steps}"
        case _:
            return str(kind)


def _range(words: Sequence[str], base: CellSpec) -> Range:
    name, *rest = words or ("",)
    path = path_of(base, name)
    usual = fields(base)[path]
    if isinstance(usual, bool) or not isinstance(usual, int | float):
        raise _refused(path, f"{path} is {usual!r}, which is no number", "name a numeric field, or write a space")
    if len(rest) not in (2, 3):
        raise _refused(path, f"a range has {len(rest)} words after its field", f"write {FORM}")
    whole, log = isinstance(usual, int), rest[2:] == [LOG]
    low, high, *step = (_number(path, word, whole) for word in (rest[:2] if log else rest))
    if not low < high or (log and low <= 0) or (step and not 0 < step[0] <= high - low):
        wanted = "0 < LOW < HIGH" if log else "LOW < HIGH" + (" and a step between both" if step else "")
        raise _refused(path, f"wanted {wanted}, got {' '.join(rest)}", f"write {FORM}")
    for end in (low, high):
        replaced(base, path, end)
    return Range(path, low, high, whole, log, step[0] if step else None)


def _number(path: str, word: str, whole: bool) -> float:
    try:
        return int(word) if whole else float(word)
    except ValueError:
        wanted = "a whole number" if whole else "a number"
        raise _refused(path, f"wanted {wanted}, got {word!r}", f"write {FORM}") from None


def _refused(path: str, what: str, remedy: str) -> ConfigFault:
    return ConfigFault(what, remedy, where=f"--range {path}")
