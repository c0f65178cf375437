"""Installed packages: their versions, and which extra of ours brings one that is missing."""

import functools
import re
from importlib import metadata

from certvae.errors import ConfigFault

DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "mpl_toolkits": "matplotlib"}
"""Top-level modules that are not named like the package that brings them."""
ALL = "all"
OURS = "certvae"


@functools.cache
def version(name: str) -> str | None:
    """Of an installed package, None where it is absent. Looked up once: its metadata takes a millisecond to parse."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing(error: ModuleNotFoundError) -> ConfigFault:
    """The fault for a package that is not there, with the extra that brings it."""
    module = (error.name or str(error)).partition(".")[0]
    extra = extra_of(DISTRIBUTIONS.get(module, module))
    return ConfigFault(
        30,
        f"the package {module!r} is not installed",
        where="this environment",
        cause="a certificate needs numpy alone; whatever trains, sweeps, tracks or reports is an extra",
        remedy=f"run `pip install 'certvae[{extra}]'`",
    )


def extra_of(distribution: str) -> str:
    """The extra of ours that asks for a package; `all` where none is known to."""
    try:
        requirements = metadata.requires(OURS) or []
    except metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        name = re.split(r"[\[<>=!~; ]", requirement)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if name.lower() == distribution.lower() and extra and extra[1] not in ("dev", ALL):
            return extra[1]
    return ALL
