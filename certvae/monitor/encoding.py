"""Calls an encoder of somebody else's: which modules it reaches, images as these read them, and the code it returns.

levels   modules that a callable reaches, nearest first      mu, logvar  (n, ...)  of q(z|x)
"""

import dis
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from certvae.errors import ConfigFault

Encode = Callable[[Any], Any]
Levels = Sequence[Sequence[nn.Module]]
DEEP = 6  # steps from a function to a module: its helper, a method, its object, a dict there
MOST = 5_000  # things looked at on the way, milliseconds: what is named reaches half a library
FEW = 100  # a container of more is data


def reached(encode: Encode) -> Levels:
    """The modules behind a function, nearest first: itself, its object, and what it closes over, names or wraps.

    A module that is missed stays in training mode while it is looked at, and its running statistics move.
    """
    levels, seen, ahead = [], dict[int, Any](), [encode]
    for _ in range(DEEP):
        new = {id(one): one for one in ahead if id(one) not in seen}
        seen |= new  # and kept, so that no id is given again
        levels.append([one for one in new.values() if issubclass(type(one), nn.Module)])
        ahead = [further for one in new.values() for further in _leads_to(one)][: max(0, MOST - len(seen))]
    return [level for level in levels if level]


def beside(images: Any, levels: Levels) -> Any:
    """The images where the nearest modules are, which Lightning moves when it begins; elsewhere where they were."""
    places = dict.fromkeys(weight.device for weight in _weights(levels))
    if not isinstance(images, Tensor) or not places or images.device in places:
        return images
    return images.to(next(iter(places)))


def encoded(encode: Encode, images: Any, levels: Levels) -> tuple[Any, Any]:
    """mu and logvar of these images; the modules notice nothing. An encoder without noise has no logvar.

    Raises:
        ConfigFault: the encoder returned something else.
    """
    with _resting(levels), torch.no_grad():
        return _code(encode(_as_read(images, encode, levels)))


def _leads_to(one: Any) -> Sequence[Any]:
    """What it holds; nothing where it raises when it is asked, as a proxy does of what is not there yet."""
    with suppress(Exception):
        return [*_held(one)]
    return ()


def _held(one: Any) -> Iterable[Any]:
    match one:
        case nn.Module() | type() | ModuleType():
            return ()
        case partial():
            return one.func, *one.args, *one.keywords.values()
        case MethodType():
            return one.__self__, one.__func__
        case FunctionType():
            return _read_by(one)
        case dict() | list() | tuple():  # no other mapping: one that is lazy would read its values from a disk
            return (dict.values(one) if isinstance(one, dict) else one) if len(one) <= FEW else ()
    slots = chain.from_iterable(vars(kind).get("__slots__", ()) for kind in type(one).__mro__)
    return [*(getattr(one, name, None) for name in slots), *getattr(one, "__dict__", {}).values()]


def _read_by(function: FunctionType) -> Iterable[Any]:
    """What a function closes over, as a decorator over what it wraps, and names: that of a library names half of it."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it is not there yet
            yield cell.cell_contents
    if (wrapped := getattr(function, "__wrapped__", None)) is not None:
        yield wrapped
        return
    yield from (function.__globals__[name] for name in _named(function.__code__) if name in function.__globals__)


def _named(code: CodeType) -> Iterator[str]:
    """Global names that it loads, also in what is nested: names of attributes are none."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    yield from chain.from_iterable(_named(inner) for inner in code.co_consts if isinstance(inner, CodeType))


def _weights(levels: Levels) -> list[nn.Parameter]:
    """Of the nearest modules that have any, as an augmentation has not."""
    found = ([weight for module in level for weight in module.parameters()] for level in levels)
    return next(filter(None, found), [])


def _as_read(images: Any, encode: Encode, levels: Levels) -> Any:
    """Images in the floating type of the nearest weights; an array becomes a tensor where a module reads it itself."""
    weights = _weights(levels)
    if isinstance(images, np.ndarray) and isinstance(getattr(encode, "__self__", encode), nn.Module):
        images = torch.as_tensor(images, device=weights[0].device if weights else None)
    kinds = dict.fromkeys(weight.dtype for weight in weights if weight.is_floating_point())
    if not isinstance(images, Tensor) or not images.is_floating_point() or not kinds or images.dtype in kinds:
        return images
    return images.to(next(iter(kinds)))


@contextmanager
def _resting(levels: Levels) -> Iterator[None]:
    """These modules in evaluation mode, and no random number drawn from the loop's."""
    modes = {module: module.training for one in chain.from_iterable(levels) for module in one.modules()}
    try:
        # Where nobody has used a GPU, nobody has drawn there: a loop on a CPU takes none for this.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            for module in modes:
                module.training = False
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _code(given: Any) -> tuple[Any, Any]:
    match given:
        case Normal() | Independent(base_dist=Normal()):
            return given.mean, 2 * given.stddev.log()
        case Tensor() | np.ndarray():
            return given, None
        case [one]:
            return _code(one)
        case [mu, logvar]:
            return mu, logvar
        case tuple() | list():
            raise _refused(f"{len(given)} things")
        case Mapping() if len(given) == 1:  # of diffusers: an output that holds q(z|x)
            return _code(next(iter(given.values())))
        case object(mean=Tensor() as mu, logvar=Tensor() as logvar):  # of diffusers: q(z|x)
            return mu, logvar
    if hasattr(given, "__array__"):  # of another library
        return given, None
    raise _refused(type(given).__name__)


def _refused(found: str) -> ConfigFault:
    return ConfigFault(
        f"encode must return mu, a pair (mu, logvar) or a normal distribution, got {found}",
        "give a function that picks them, as lambda x: model(x)[1:3], or lambda x: model(x).embedding",
        where="Monitor.step",
    )
