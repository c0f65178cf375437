"""Who proposes configs: Optuna's samplers by name, and any other one as `module:function`.

    auto             gp for the first configs, tpe for those after them: a function of the number of a config and of
                     nothing else, so a search that grows goes on as if it had been asked for all of them at once
    module:function  what it returns when it is called with seed=...: a function of one's own, or a class such as
                     optuna.samplers:CmaEsSampler

A sampler is made anew for each config, seeded by (seed of the study, number of the config), and learns from the trials
of the study it is given: what it would keep in itself is lost. `python -m tests.benchmarks.samplers` compares them.
"""

import warnings
from typing import Literal, get_args

import optuna
from optuna.samplers import BaseSampler

from certvae import foreign
from certvae.foreign import called, is_reference
from certvae.spec.validation import nearest, refuse

Name = Literal["auto", "tpe", "gp", "nsga2", "random", "grid"]
NAMES: tuple[Name, ...] = get_args(Name)
AUTO: Name = "auto"
GP_CONFIGS = 200
"""The configs of `auto` that gp proposes: its ask then takes 0.3 s of processor, and the time grows with the square."""


def check_sampler(name: str) -> str:
    """Returns the name of a sampler, if it is one that can be asked for.

    Raises:
        ConfigFault: it is none of ours, and no function or class that is there.
    """
    if name in NAMES:
        return name
    if not is_reference(name):
        raise refuse("sampler", f"one of {', '.join(NAMES)}, or module:function", name, nearest(name, NAMES))
    foreign.brought(name)
    return name


def written(name: str) -> str:
    """A sampler as the rule of a search holds it: code of one's own with the digest of its text."""
    is_own = name not in NAMES and not foreign.is_installed(name)
    return f"{name} of text {foreign.source(name)}" if is_own else name


def read(text: str) -> str:
    """The name of a sampler, out of the text that `written` gave."""
    return text.partition(" ")[0]


def sampler_of(name: str, number: int, seed: int) -> BaseSampler:
    """The sampler that proposes config `number`.

    Raises:
        ConfigFault: `module:function` is not there, raises, or returns no sampler.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "auto":
                return sampler_of("gp" if number < GP_CONFIGS else "tpe", number, seed)
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=16, seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "grid":
                return optuna.samplers.BruteForceSampler(seed=seed)
        made = called(foreign.brought(name), seed=seed)
    if not isinstance(made, BaseSampler):
        raise refuse(
            "sampler", f"what returns an Optuna sampler; {name} returns", made, "return one, made with the seed"
        )
    return made
