"""What is installed beside us: versions of packages, and which extra of ours brings one that is missing."""

import functools
import re
from importlib import metadata

DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "mpl_toolkits": "matplotlib"}
"""Top-level modules that are not named like the package that brings them."""
ALL = "all"
OURS = "certvae"


@functools.cache
def version(package: str) -> str:
    """Of a package, nothing where it is absent. Looked up once: to find and parse its metadata takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def extra_with(module: str) -> str:
    """The extra of ours that brings a module of this name."""
    top = module.partition(".")[0]
    return extra_of(DISTRIBUTIONS.get(top, top))


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
