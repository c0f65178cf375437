"""Sets the precision (fp32, tf32, bf16) in which the layers of a network multiply while it trains.

The layers alone: what they return is float32 again before a loss sees it, and guard rows are read in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from certvae.errors import ConfigFault
from certvae.spec.parts import Precision

AMPERE = (8, 0)
"""The first compute capability with TF32."""


def check_precision(precision: Precision, device: str) -> None:
    """Refuses a precision that a device would emulate, or ignore without a word.

    Raises:
        ConfigFault: the device does not have it.
    """
    on_gpu = device.startswith("cuda")
    match precision:
        case "fp32":
            there = True
        case "tf32":
            there = on_gpu and torch.cuda.get_device_capability(device) >= AMPERE
        case "bf16":
            there = not on_gpu or torch.cuda.get_device_capability(device) >= AMPERE
    if not there:
        name = torch.cuda.get_device_name(device) if on_gpu else "a CPU"
        raise ConfigFault(
            f"{name} does not multiply in {precision}",
            "say --training.precision fp32 and --warm-up.training.precision fp32",
            where="training.precision",
            cause="tf32 and bf16 are those of NVIDIA GPUs since compute capability 8.0; bf16 of a CPU is for tests",
        )


@contextmanager
def multiplying(network: nn.Module, precision: Precision) -> Iterator[None]:
    """The parts of this network compute in a precision within the block, forward and backward, and return float32."""
    match precision:
        case "fp32":
            yield
        case "tf32":
            with _tf32():
                yield
        case "bf16":
            with _autocast(network, torch.bfloat16):
                yield


@contextmanager
def _autocast(network: nn.Module, kind: torch.dtype) -> Iterator[None]:
    """Around each part and not around the loss, whose own products stay what they are."""
    parts = list(network.children())
    cast = torch.autocast(next(network.parameters()).device.type, kind)
    for part in parts:
        part.forward = _returning_float32(cast(part.forward))
    try:
        yield
    finally:
        for part in parts:
            del part.forward  # that of its class shows again


@contextmanager
def _tf32() -> Iterator[None]:
    backends: Any = torch.backends  # of which type checkers do not see all
    olders = [(part, part.allow_tf32) for part in (backends.cuda.matmul, backends.cudnn)]
    newers = [(part, part.fp32_precision) for part in (backends.cudnn.conv, backends.cudnn.rnn)]
    try:
        for part, _ in olders:
            part.allow_tf32 = True
        yield
    finally:
        for part, before in olders:
            part.allow_tf32 = before
        for part, before in newers:  # the older switch leaves them to what stands above both, which is anybody's
            part.fp32_precision = before


def _returning_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*given: Any) -> Any:
        match forward(*given):
            case Tensor() as one:
                return one.float()
            case tuple() as several:
                return tuple(map(Tensor.float, several))
            case other:
                return other

    return wrapped
