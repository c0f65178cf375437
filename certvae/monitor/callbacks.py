"""A monitor as a callback of a library that trains. The library is imported when its callback is asked for."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certvae.monitor.watching import Monitor

Encode = Callable[[Any, Any], Any]
"""(module, images) -> mu, or (mu, logvar)."""
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""Names under which it is installed."""


def lightning(monitor: "Monitor", encode: Encode | None) -> Any:
    """A callback for Lightning's Trainer: a step of the monitor after every training batch.

    Raises:
        ModuleNotFoundError: Lightning is not installed.
    """

    class Watched(_library(LIGHTNING).Callback):
        """Calls the monitor."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ARG002
            _step(monitor, encode, pl_module)

    return Watched()


def transformers(monitor: "Monitor", encode: Encode | None) -> Any:
    """A callback for the Trainer of transformers: a step of the monitor after every optimiser step.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    class Watched(_library(("transformers",)).TrainerCallback):
        """Calls the monitor."""

        def on_step_end(self, *_: Any, model: Any = None, **given: Any) -> None:  # noqa: ARG002
            _step(monitor, encode, model)

    return Watched()


def _step(monitor: "Monitor", encode: Encode | None, module: Any) -> None:
    monitor.step(module.encode if encode is None else _Bound(encode, module))


class _Bound:
    """A function bound to a module, as its methods are: the monitor finds the module behind it."""

    def __init__(self, encode: Encode, module: Any):
        self._encode, self.__self__ = encode, module

    def __call__(self, images: Any) -> Any:
        return self._encode(self.__self__, images)


def _library(names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])
