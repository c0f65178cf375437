"""Tells a file of the user that hides a module which others import, such as a `torch.py` beside a script."""

import os
import sys
from importlib.machinery import PathFinder
from types import ModuleType

from certvae.errors import ConfigFault


def shadowed(error: BaseException | None) -> ConfigFault | None:
    """The fault for a file that hides a module which others import: a `torch.py` or `queue.py` beside a script.

    Args:
        error: what the import of it, or of something in it, raised.
    """
    while error is not None:
        name = getattr(error, "name", "") if isinstance(error, ImportError) else ""
        if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
            name = error.obj.__name__
        top = (name or "").partition(".")[0]
        file = getattr(sys.modules.get(top), "__file__", None)
        if file is not None and (hidden := _beyond(top, file)) is not None:
            return ConfigFault(
                f"{file} is imported in place of {hidden}, which has the same name",
                "give your file another name; its __pycache__ may be deleted",
                where=file,
                cause="Python looks beside a script, or in the current folder, before it looks among its packages",
            )
        error = error.__cause__ or error.__context__
    return None


def _beyond(name: str, file: str) -> str | None:
    """Where a module of this name lies in the folders that Python searches after that of this file."""
    folder = os.path.dirname(os.path.dirname(file) if os.path.basename(file) == "__init__.py" else file)  # noqa: PTH119, PTH120
    places = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100
    if folder not in places or os.path.dirname(file) == os.path.dirname(__file__):  # noqa: PTH120 - a checkout of ours
        return None
    found = PathFinder.find_spec(name, places[places.index(folder) + 1 :])
    return None if found is None or found.origin in (None, file) else found.origin
