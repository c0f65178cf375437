"""A study by its name: a script, `module:NAME`, or a store, which knows the last command of each of its studies."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from certvae.engine.main import main
from certvae.engine.study import STUDY, Study, named
from certvae.errors import ConfigFault
from certvae.foreign import called
from certvae.store.disk import Disk
from certvae.store.layout import STORE
from certvae.store.log import commands
from certvae.terminal import certvae, option, without

_HEAD = re.compile(r"(--[^=]+=)?([\w-]+:)?")
"""What a word may have before a path: its option, and the kind of what lies there."""


def run(target: str, arguments: Sequence[str]) -> int:
    """Runs a study and returns its exit code.

    Args:
        target: a script, module:NAME, or the folder of a store.
        arguments: its command line.

    Raises:
        ConfigFault: there is no study of this name, or the user's own module fails.
    """
    if Path(target, STORE).exists():
        target, arguments = _last(Path(target), arguments)
    study = find(target)
    where = str(Path(target).absolute()) if _is_script(target) else target
    return main(study, arguments, where)


def find(target: str) -> Study:
    """The study that a script or `module:NAME` defines.

    Raises:
        ConfigFault: there is none.
    """
    if _is_script(target):
        if not Path(target).is_file():
            raise _no_study(target, "there is no such file")
        return _in(called(_loaded, Path(target).absolute()), STUDY, target)
    module, colon, name = target.partition(":")
    if not colon or not module:
        raise _no_study(target, "it is no script, no module:NAME and no store")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return _in(called(importlib.import_module, module), name or STUDY, target)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise _no_study(target, str(error)) from error
        raise


def _is_script(target: str) -> bool:
    return target.endswith(".py")


def _loaded(path: Path) -> ModuleType:
    """A script as a module of its own name, as Python would run it: its neighbours can be imported."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name := f"certvae_study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise _no_study(str(path), "Python cannot load it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _in(module: ModuleType, name: str, target: str) -> Study:
    """The study of a module that `named` gives. Raises ConfigFault for none."""
    if (found := named(vars(module), name)) is None:
        studies = [label for label, value in vars(module).items() if isinstance(value, Study)]
        raise _no_study(target, f"it defines {', '.join(studies) or 'no Study'}, and none of them is called {name}")
    return found


def _last(store: Path, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The last command of a store, or of one of its studies, with what is asked for besides."""
    known = commands(Disk(store.resolve()))
    asked = option(arguments, "--study")
    if asked not in known and (asked is not None or len(known) != 1):
        raise ConfigFault(
            f"the store knows the commands of {', '.join(known) or 'no study'}"
            + (f", not of {asked}" if asked else ""),
            f"run `{certvae('run', str(store.absolute()), '--study', 'NAME')}` with one of them, or the script",
            where=str(store),
            cause="a store holds several studies, or none was started on it by this version",
        )
    last = known[asked or next(iter(known))]
    return last["study"], [*_here(last["arguments"], store.absolute()), *arguments]


def _here(remembered: Sequence[str], store: Path) -> list[str]:
    """The words of a command in the store that was named, which was moved since, or is a copy of the one in them."""
    before = option(remembered, "--store") or str(store)
    return [*(_moved(word, before, store) for word in without(remembered, ["--store"])), "--store", str(store)]


def _moved(word: str, before: str, store: Path) -> str:
    """A word whose path, after an option or a kind such as `folder:`, lay in a store that lies elsewhere now."""
    path = _HEAD.sub("", word, count=1)
    if not Path(path).is_relative_to(before):
        return word
    return f"{word.removesuffix(path)}{store / Path(path).relative_to(before)}"


def _no_study(target: str, why: str) -> ConfigFault:
    return ConfigFault(
        f"{target!r} is no study: {why}",
        "give a script such as sweeps/tiny_fixed_q.py, module:NAME, or the folder of a store",
        where="certvae run",
        cause="a study is a Python file, or an importable module, with a certvae.engine.study.Study in it",
    )
