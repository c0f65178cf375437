"""What is installed beside us."""

import functools
from importlib import metadata


@functools.cache
def version(package: str) -> str:
    """Of a package, nothing where it is absent. Looked up once: to find and parse its metadata takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
