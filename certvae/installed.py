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
    """The version of a package, empty where it is absent; looked up once, since that takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def packages() -> dict[str, str]:
    """Every package of this environment, by name."""
    found = ((one.metadata["Name"], one.version) for one in metadata.distributions())
    return dict(sorted((name.lower().replace("_", "-"), version) for name, version in found if name))


def provider(module: str) -> str:
    """What pip must be given for a module: ours with the extra that brings it, or, where none does, its own name."""
    top = module.partition(".")[0]
    wanted = DISTRIBUTIONS.get(top, top)
    try:
        requirements = metadata.requires(OURS) or []
    except metadata.PackageNotFoundError:  # run from a folder, and not installed
        return f"{OURS}[{ALL}]"
    named = [one for one in requirements if re.split(r"[\[<>=!~; ]", one)[0].lower() == wanted.lower()]
    if not named:
        return wanted
    extras = [found[1] for one in named if (found := re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", one))]
    extra = next((one for one in extras if one not in (ALL, "dev")), ALL if extras else "")
    return f"{OURS}[{extra}]" if extra else OURS
