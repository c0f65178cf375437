"""Code that a user brings: found by `module:function`, named by its text, called, and its errors told as theirs.

    text    the file of the module and those of its own folder that it imports, however indirectly: what is imported by
            a computed name, or from elsewhere, is not read
    source  SHA-256 over the text, the same wherever the folder lies

It is looked for where Python looks, and in the working directory.
"""

import ast
import contextlib
import functools
import hashlib
import importlib
import itertools
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from certvae.errors import ConfigFault, Fault, is_short_of_memory
from certvae.shadowing import shadowed

Given = ParamSpec("Given")
Result = TypeVar("Result")

INSTALLED = tuple(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))
OURS = Path(__file__).parent
NOT_THEIRS = (OURS, *INSTALLED)
SOURCE_LENGTH = 16
IMPORTED = "<module>"
"""What Python calls the text of a module, where functions have names."""
LACKING = "install what it needs, or mend the import"
MEND = "mend it, or give it values that it accepts"
SCRIPT = "put what a script runs below `if __name__ == '__main__':`"
ENDS = "let it raise an error instead"
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_loaded: dict[str, str] = {}
"""Module -> the source that it was imported with here."""


class TheirFault(ConfigFault):
    """An error that code of a user raised."""


def is_reference(text: str) -> bool:
    """Whether it reads `module:function`."""
    return _REFERENCE.fullmatch(text) is not None


def source(reference: str) -> str:
    """The first digits of the SHA-256 over the text that `module:function` is made of. Nothing of it is run.

    Raises:
        ConfigFault: it does not read so, no such module is found, or it is no Python.
    """
    module = _module(reference)
    told = hashlib.sha256()
    for name, text in sorted(_texts(_file(module), module).items()):
        told.update(f"{name}\0{len(text)}\0".encode() + text)
    return told.hexdigest()[:SOURCE_LENGTH]


def is_installed(reference: str) -> bool:
    """Whether `module:function` lies in an installed package, whose version names it.

    Raises:
        ConfigFault: as `source`.
    """
    return _is_below(_file(_module(reference)), INSTALLED)


def function(reference: str, wanted: str) -> Callable[..., Any]:
    """What `module:function` names, imported from the text that `wanted` names, whatever was imported before.

    Raises:
        ConfigFault: the text is another one now, or there is no such function.
        TheirFault: the module does not import.
    """
    module, _, name = reference.partition(":")
    if (found := source(reference)) != wanted:
        raise ConfigFault(
            f"the text of {reference} is {found} here and now, and {wanted} is wanted",
            "leave it alone while a study runs, and start the command again: changed text is another result",
            where=str(_file(module)),
            cause="it was changed after this run began, or it is another one on this host",
        )
    if _loaded.get(module) != wanted or module not in sys.modules:
        for one in _texts(_file(module), module):  # what was imported before may be of an older text
            sys.modules.pop(one.removesuffix(".py").removesuffix("/__init__").replace("/", "."), None)
    given = _member(module, name)
    _loaded[module] = wanted
    return given


def brought(reference: str) -> Callable[..., Any]:
    """What `module:function` names, of the text that is there now; an installed one is what its package has.

    Raises:
        ConfigFault, TheirFault: as `function`.
    """
    if is_installed(reference):
        module, _, name = reference.partition(":")
        return _member(module, name)
    return function(reference, source(reference))


def search_path() -> tuple[str, ...]:
    """Folders in which this process looks for code of a user, for one that shall find the same."""
    folders = [Path(place).absolute() for place in (*sys.path, ".")]
    return tuple(dict.fromkeys(str(one) for one in folders if one.is_dir() and not _is_below(one, INSTALLED)))


def look_in(folders: tuple[str, ...]) -> None:
    """Lets this process find what another one found in `search_path`."""
    sys.path += [folder for folder in folders if folder not in sys.path]


def called(function: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
    """The result of a function that a user wrote, or a library did that the user chose.

    Raises:
        TheirFault: it raised anything but a fault, or had too little memory; the fault names its file, line and
            function.
        ConfigFault: a file of theirs hides a module that it imports.
        ModuleNotFoundError: no function of theirs ran, and what was imported needs a module that is not there.
    """
    try:
        return function(*given, **named)
    except Fault:
        raise
    except SystemExit as stopped:
        if stopped.code == signal.SIGTERM or hasattr(stopped, "ray_terminate_msg"):  # how Ray hears of it
            raise
        raise refused(function, stopped) from stopped
    except Exception as error:
        if is_short_of_memory(error):  # it may fit alone
            raise
        if isinstance(error, ModuleNotFoundError) and not any(one.name != IMPORTED for one in ran(error)):
            raise
        raise shadowed(error) or refused(function, error) from error


def refused(function: Callable[..., object], error: Exception | SystemExit) -> TheirFault:
    """The fault for an error in, or below, a function that a user wrote."""
    name = getattr(function, "__name__", type(function).__name__)
    if theirs := ran(error):
        last = theirs[-1]
        name, where = last.name, f"{last.filename}:{last.lineno}, `{(last.line or '').strip()}`"
    else:
        where = place_of(function)
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    said = (str(error).strip() or "no message").splitlines()[0]
    return TheirFault(
        f"{name} raised {type(error).__name__}: {said}",
        _remedy(error),
        where=where,
        cause="this code is yours",
    )


def _remedy(error: Exception | SystemExit) -> str:
    match error:
        case ModuleNotFoundError():
            return LACKING
        case FileNotFoundError(filename=str(name)) if not Path(name).is_absolute():
            beside = f"name it by the place of your code: Path(__file__).parent / {name!r}"
            return f"if {name} is a path, it begins in {Path.cwd()}: start the command where it lies, or {beside}"
        case SystemExit():
            return SCRIPT if any(one.name == IMPORTED for one in ran(error)) else ENDS
        case _:
            return MEND


def place_of(function: Callable[..., object]) -> str:
    """Where a function, or how a class is made, is written."""
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}, {code.co_filename}:{code.co_firstlineno}" if code else name


def _module(reference: str) -> str:
    if not is_reference(reference):
        raise ConfigFault(
            f"{reference!r} is no module:function", "write it as mynets:build, for a function build in mynets.py"
        )
    return reference.partition(":")[0]


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Modules of the working directory can be imported, and what is imported leaves no byte code beside them: that of
    an older text of the same second and length would be taken for it."""
    here, writes = str(Path.cwd()), sys.dont_write_bytecode
    added = [here] if here not in sys.path else []
    sys.path += added
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
        sys.dont_write_bytecode = writes


def _file(module: str) -> Path:
    """Where a module is written.

    Raises:
        ConfigFault: nowhere, or not in Python.
    """
    with importable():
        found = _spec(module)
    if module == "__main__" or found is None or found.origin is None or not found.origin.endswith(".py"):
        there = f"start the command where {module.replace('.', '/')}.py lies, or set PYTHONPATH to that folder"
        if module.endswith(".py"):
            there = f"name the module, without .py: {module.removesuffix('.py')}:FUNCTION"
        raise _behind(module) or ConfigFault(
            f"no module {module} that is written in Python is found",
            "put the function into a file beside this one, and name that" if module == "__main__" else there,
            where=f"{Path.cwd()}, sys.path",
        )
    return Path(found.origin)


def _behind(module: str) -> ConfigFault | None:
    """The fault for a file of the working directory in whose place Python takes another module of its name."""
    place, top = Path.cwd().joinpath(*module.split(".")), module.partition(".")[0]
    file = next(filter(Path.is_file, (place / "__init__.py", place.with_suffix(".py"))), None)
    with importable():
        found, first = (spec and spec.origin for spec in map(_spec, (module, top)))
    is_built_in = top in sys.builtin_module_names
    if file is None or (found and not is_built_in and file.resolve() == Path(found).resolve()):
        return None
    return ConfigFault(
        f"{module} is not {file}: {top} is {first if first and not is_built_in else 'a part of Python'}",
        "give yours another name, and use that",
        where=str(file),
        cause="Python finds that first",
    )


def _spec(module: str) -> ModuleSpec | None:
    """Found on the path, whatever was imported before and without running what lies above it."""
    places, found = None, None
    for name in itertools.accumulate(module.split("."), "{}.{}".format):
        if found is not None and places is None:  # no package: nothing lies in it, and Python would look elsewhere
            return None
        found = PathFinder.find_spec(name, places)
        if found is None:
            return None
        places = found.submodule_search_locations
    return found


def _texts(file: Path, module: str) -> Mapping[str, bytes]:
    """Name below the folder of the outermost package -> text, of a file and of its neighbours that it imports."""
    depth = module.count(".") + (file.name == "__init__.py")
    folder = file.parents[depth]
    top = module.partition(".")[0]
    is_alone = _is_below(folder, INSTALLED)  # beside an installed package lie all the others
    found: dict[str, bytes] = {}
    left = [file]
    while left:
        path = left.pop()
        name = path.relative_to(folder).as_posix()
        is_read = not is_alone or name.partition("/")[0] in (top, f"{top}.py")
        if is_read and name not in found and not path.is_relative_to(OURS):
            found[name] = path.read_bytes()
            left += _imported(path, found[name], folder)
    return found


def _imported(path: Path, text: bytes, folder: Path) -> Iterator[Path]:
    """Files below a folder that a file imports, with the `__init__` of the packages that hold them."""
    for node in ast.walk(called(functools.partial(ast.parse, filename=str(path)), text)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _below(folder, alias.name.split("."))
            case ast.ImportFrom(module=module, names=names, level=level):
                base, parts = path.parents[level - 1] if level else folder, module.split(".") if module else []
                for alias in names:
                    yield from (one for one in _below(base, [*parts, alias.name]) if one.is_relative_to(folder))


def _below(folder: Path, parts: list[str]) -> Iterator[Path]:
    for depth in range(len(parts) + 1):
        place = folder.joinpath(*parts[:depth])
        candidates = (place / "__init__.py", place.with_suffix(".py")) if depth else ()
        yield from (path for path in candidates if path.is_file())


def _member(module: str, name: str) -> Callable[..., Any]:
    """A function or class of a module, which is imported unless it was.

    Raises:
        TheirFault: the import raises something.
        ConfigFault: it needs what is not installed, or there is no such function.
    """
    where = str(_file(module))
    with importable():
        try:
            loaded = called(importlib.import_module, module)
        except ModuleNotFoundError as error:
            raise ConfigFault(f"{module} does not import: {error}", LACKING, where=where) from error
    given = getattr(loaded, name, None)
    if not callable(given):
        known = sorted(key for key, value in vars(loaded).items() if callable(value) and key[0] != "_")
        raise _behind(module) or ConfigFault(
            f"{module} has no function or class {name}; it has {', '.join(known) or 'none'}",
            "name one of them",
            where=where,
        )
    return given


def ran(error: BaseException) -> list[traceback.FrameSummary]:
    """What ran of a user's code when it was raised, the innermost last."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]


def _is_theirs(filename: str) -> bool:
    path = Path(filename)
    return path.is_absolute() and not _is_below(path, NOT_THEIRS)


def _is_below(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
