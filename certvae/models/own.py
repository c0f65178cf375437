"""Makes and calls a network that a user wrote, and refuses one that gives other shapes than are wanted.

x  (n, C, H, W)  in [0, 1]      mu, logvar, z  (n, d)      T  (n, K)  teacher rows      logits  (n, C, H, W)
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from certvae import foreign
from certvae.errors import ConfigFault
from certvae.foreign import TheirFault, called
from certvae.models import arithmetic
from certvae.spec.parts import Module, check_parameters

Shape = tuple[int, int, int]
WANTED = "give it encode(x) -> (mu, logvar), both (n, d), and decode(z) -> logits of pixels, (n, C, H, W)"


def make(network: Module, shape: Shape, classes: int, seed: int) -> nn.Module:
    """The module that the user's function makes; what it draws from torch's global generator follows from the seed.

    Raises:
        ConfigFault: no module, too large a one, or of another text than the spec names.
    """
    with arithmetic.kept():
        function = foreign.function(network.build, network.source)
    with arithmetic.kept(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = _called(network, function, shape, classes)
    if not isinstance(made, nn.Module):
        raise _refused(network.build, f"it makes a {type(made).__name__}, no nn.Module")
    check_parameters(sum(weight.numel() for weight in made.parameters()))
    return made


def _called(network: Module, function: Callable[..., Any], shape: Shape, classes: int) -> Any:
    try:
        return called(function, shape, classes, **network.options)
    except TheirFault as fault:
        error = fault.__cause__
        if not isinstance(error, TypeError) or foreign.ran(error):
            raise
        given = ", ".join([str(shape), str(classes), *(f"{name}={value!r}" for name, value in network.options.items())])
        name = network.build.partition(":")[2]
        remedy = f"it is called as {name}({given}): let it take that, or name a function that does"
        raise TheirFault(fault.what, remedy, where=fault.where, cause=fault.cause) from fault


def latent(made: nn.Module, shape: Shape) -> int:
    """The latent dimension d: the width of what `encode` gives for two black images."""
    was_training = made.training
    with torch.no_grad():
        mu, _ = _pair(made, _asked(made.eval(), "encode", torch.zeros(2, *shape)))
    made.train(was_training)
    width = mu.shape[-1] if isinstance(mu, Tensor) and mu.ndim else "d"
    return _shaped(made, "encode: mu", mu, (2, width)).shape[1]


def encode(made: nn.Module, x: Tensor, latent: int) -> tuple[Tensor, Tensor]:
    """mu and logvar (n, d) of images, by the user's `encode`, their shapes checked."""
    mu, logvar = _pair(made, _asked(made, "encode", x))
    wanted = (len(x), latent)
    return _shaped(made, "encode: mu", mu, wanted), _shaped(made, "encode: logvar", logvar, wanted)


def decode(made: nn.Module, given: tuple[Tensor, ...], shape: Shape) -> Tensor:
    """Logits of pixels (n, C, H, W), by the user's `decode`, their shape checked.

    Args:
        given: z, and T where the decoder sees it.
    """
    return _shaped(made, "decode", _asked(made, "decode", *given), (len(given[0]), *shape))


def check_decode(made: nn.Module, *, sees_teacher: bool) -> None:
    """Refuses a `decode` that does not take what the model hands to it.

    Raises:
        ConfigFault: it reads less, or more.
    """
    given = ("z", "teacher") if sees_teacher else ("z",)
    decode = _method(made, "decode")
    try:
        inspect.signature(decode).bind(*given)
    except TypeError:
        flag = "--model.no-decoder-sees-teacher" if sees_teacher else "--model.decoder-sees-teacher"
        raise ConfigFault(
            f"decode{inspect.signature(decode)} is given ({', '.join(given)})",
            f"let it read that, or set Model.decoder_sees_teacher = {not sees_teacher}: {flag}",
            where=foreign.place_of(decode),
        ) from None


def named(made: nn.Module) -> str:
    """Where a network is written, for messages."""
    return f"{type(made).__module__}.{type(made).__qualname__}"


def _asked(made: nn.Module, name: str, *given: Tensor) -> Any:
    return called(_method(made, name), *given)


def _method(made: nn.Module, name: str) -> Callable[..., Any]:
    method = getattr(made, name, None)
    if not callable(method):
        raise _refused(named(made), f"it has no method {name}")
    return method


def _pair(made: nn.Module, found: Any) -> tuple[Any, Any]:
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise _refused(named(made), f"encode: a pair (mu, logvar) is wanted, got a {type(found).__name__}")
    return found[0], found[1]


def _shaped(made: nn.Module, name: str, found: Any, wanted: tuple[int | str, ...]) -> Tensor:
    """The same, if it is what is wanted."""
    if isinstance(found, Tensor) and tuple(found.shape) == wanted and found.is_floating_point():
        return found
    shown = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    told = f"{name}: floating-point numbers of shape ({', '.join(map(str, wanted))}) are wanted, got {shown}"
    raise _refused(named(made), told)


def _refused(where: str, what: str) -> ConfigFault:
    return ConfigFault(what, WANTED, where=where)
