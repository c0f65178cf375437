"""What is installed beside us: versions of packages, and what to run for one that is missing."""

import functools
import re
from collections.abc import Sequence
from importlib import metadata

DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "flint": "python-flint", "mpl_toolkits": "matplotlib"}
"""Top-level modules that are not named like the package that brings them."""
TRAIN, ALL = "train", "all"
OURS = "certvae"
WANTED = {"certify-latents": TRAIN, "verify": "verify", "report": "report", "store": "report"}
"""Command -> our extra that it wants; any other one, a study above all, wants them all."""


@functools.cache
def version(package: str) -> str:
    """The version of a package, empty where it is absent; looked up once, since that takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def packages() -> dict[str, str]:
    """Every package of this environment, by name."""
    found = ((one.metadata["Name"], one.version) for one in metadata.distributions())
    return dict(sorted((name.lower().replace("_", "-"), version) for name, version in found if name))


def extra_of(words: Sequence[str]) -> str:
    """The extra that a command line of ours wants: the first module that is missing is seldom the only one."""
    return WANTED.get(words[0], ALL) if words else ""


def remedy(module: str, extra: str = "") -> str:
    """What brings a module that is missing: our extra that needs it, from a checkout, or where none does, its own name.

    Args:
        extra: what the command wants that misses it; that of the module alone when empty.

    From a checkout, because there is no release: where packages are published our name may be somebody else's.
    """
    top = module.partition(".")[0]
    wanted = DISTRIBUTIONS.get(top, top.replace("_", "-"))
    try:
        requirements = metadata.requires(OURS) or []
    except metadata.PackageNotFoundError:  # run from a folder, and not installed
        return _ours(ALL)
    named = [one for one in requirements if re.split(r"[\[<>=!~; ]", one)[0].lower() == wanted.lower()]
    if not named:
        return f"run `pip install '{wanted}'`"
    extras = [found[1] for one in named if (found := re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", one))]
    least = (one for one in extras if one not in (ALL, "dev"))
    own = TRAIN if TRAIN in extras else next(least, ALL if extras else "")  # others hold `train` and more
    return _ours(extra if extra in extras else own)  # our metadata spell out what extras bring with them


def _ours(extra: str) -> str:
    return f"run `pip install '.{f'[{extra}]' if extra else ''}'` in the checkout of {OURS}"
