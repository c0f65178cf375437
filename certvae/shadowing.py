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
                cause="Python looks beside a script, in the current folder and in PYTHONPATH before its packages",
            )
        error = error.__cause__ or error.__context__
    return None


def _beyond(name: str, file: str) -> str | None:
    """Where a module of this name lies in the folders that Python searches after that of this file."""
    folder = _real(os.path.dirname(os.path.dirname(file) if os.path.basename(file) == "__init__.py" else file))  # noqa: PTH119, PTH120
    places = [_real(place) for place in sys.path]
    is_ours = os.path.dirname(file) == os.path.dirname(__file__)  # noqa: PTH120 - a checkout
    if folder not in places or is_ours or not _is_of_the_user(folder):
        return None
    later = [place for place in places[places.index(folder) + 1 :] if place != folder]
    found = PathFinder.find_spec(name, later)
    return None if found is None or found.origin in (None, file) else found.origin


def _is_of_the_user(folder: str) -> bool:
    """Whether it is that of a script, the current one or one of PYTHONPATH; a package may well lie in two others."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = (*sys.path[:1], "", *map(os.path.dirname, sys.argv[:1]), *named)  # a script that is loaded comes first
    return folder in map(_real, places) and not folder.endswith(("site-packages", "dist-packages"))


def _real(place: str) -> str:
    """Without links; nothing where it is a current folder that is gone."""
    try:
        return os.path.realpath(place)
    except FileNotFoundError:
        return ""
