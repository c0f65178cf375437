"""A monitor as a callback of a library that trains. The library is imported when its callback is asked for."""

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from certvae.errors import ConfigFault

if TYPE_CHECKING:
    from certvae.monitor.watching import Monitor

Encode = Callable[[Any, Any], Any]
"""(module, images) -> mu, (mu, logvar), or a normal distribution."""
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""Names under which it is installed."""
STATES = "certvae"
"""Of a checkpoint of Lightning: a state for each monitor in the order of its callbacks: two may watch alike."""
COPIES = "DDPStrategy"
"""Of Lightning, by either name: each process holds the whole network. With shards all are needed at a look."""
SHARDS = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")
"""Of accelerate, whose launcher asks for them by ACCELERATE_USE_<name>, of which a Trainer's arguments know nothing."""


def lightning(monitor: "Monitor", encode: Encode | None) -> Any:
    """A callback for Lightning's Trainer: a step of the monitor after every training batch.

    Of processes that hold a copy each (DDP) the first looks alone: the others wait for it at their next step, and so
    would it for each of them.

    Raises:
        ModuleNotFoundError: Lightning is not installed.
    """

    class Watched(_library(LIGHTNING).Callback):
        """Calls the monitor."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.is_global_zero or type(trainer.strategy).__name__ != COPIES:
                _step(monitor, encode, pl_module)

        def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
            checkpoint.setdefault(STATES, []).append(monitor.state_dict())

        def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
            if states := checkpoint.get(STATES):
                monitor.load_state_dict(states.pop(0))

        def __reduce__(self) -> tuple[Any, ...]:  # Lightning pickles callbacks where it spawns processes
            return lightning, (monitor, encode)

    return Watched()


def transformers(monitor: "Monitor", encode: Encode | None) -> Any:
    """A callback for the Trainer of transformers: a step of the monitor after every optimiser step.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    class Watched(_library(("transformers",)).TrainerCallback):
        """Calls the monitor."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.global_step:  # of a checkpoint
                monitor.load_state_dict({**monitor.state_dict(), "steps": state.global_step})

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
            if state.is_world_process_zero or _in_shards(args, model):
                _step(monitor, encode, model)

        def __reduce__(self) -> tuple[Any, ...]:
            return transformers, (monitor, encode)

    return Watched()


def _in_shards(args: Any, model: Any) -> bool:
    """Whether each process of a Trainer holds but a part of the network: a look by one alone would wait for ever."""
    launched = any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true") for name in SHARDS)
    on_mesh = any(hasattr(weight, "device_mesh") for weight in model.parameters())  # of a DTensor: tensor parallelism
    return bool(args.fsdp or args.deepspeed) or launched or on_mesh


def _step(monitor: "Monitor", encode: Encode | None, module: Any) -> None:
    if encode is None and not hasattr(module, "encode"):
        raise ConfigFault(
            f"{type(module).__name__} has no method encode",
            "say what encodes, as monitor.lightning(lambda module, images: module.encoder(images)); "
            "monitor.transformers takes the same",
            where="Monitor",
        )
    monitor.step(module.encode if encode is None else partial(encode, module))


def _library(names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])
