"""By what code of a user changes how torch, or numpy, computes in a process: read, settled, and put back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from certvae.fingerprint import ASKED

Mode = tuple[Callable[[], Any], Callable[[Any], object], Any]
"""How a mode of this process is read, how it is set, and what it is once it is settled."""


def _attribute(owner: Any, name: str, settled: Any) -> Mode:
    return partial(getattr, owner, name), partial(setattr, owner, name), settled


def _older(read: Callable[[], Any], put: Callable[[Any], object], settled: Any) -> Mode:
    """A switch that torch will not read where a newer one was used for some of what it stands for: then it is None."""

    def known() -> Any:
        try:
            return read()
        except RuntimeError:
            return None

    return known, lambda earlier: put(settled if earlier is None else earlier), settled


def _library(preferred: Callable[..., Any], variable: str, asked: str) -> Mode:
    """Which library torch prefers, by name: torch's choice, or what this variable asked for from the start."""

    def name() -> str:
        return preferred().name.lower()

    return name, preferred, asked if ASKED.get(variable) == "1" else "default"


def _set_device(device: torch.device) -> None:
    """Takes a default away where none is needed, for it costs each call of torch some microseconds."""
    torch.set_default_device(None)
    if torch.get_default_device() != device:
        torch.set_default_device(device)


def _flushes() -> bool:
    """Whether this thread takes float32 numbers below 1e-38 for 0; torch has no call that says so."""
    return bool(torch.full((), 1e-40, dtype=torch.float32, device="cpu") == 0)


_backends: Any = torch.backends  # of which type checkers do not see all


def _bf16_sums() -> tuple[bool, bool]:
    """Whether partial sums of a product may be rounded to bf16, and whether a product may be made in parts."""
    matmul = _backends.cuda.matmul
    return matmul.allow_bf16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction_split_k


MODES: tuple[Mode, ...] = (
    (
        np.geterr,
        lambda known: np.seterr(**known),
        dict.fromkeys(("divide", "over", "invalid"), "warn") | {"under": "ignore"},
    ),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_default_device, _set_device, torch.device("cpu")),
    (torch.is_grad_enabled, torch.set_grad_enabled, True),
    *(
        (partial(torch.is_autocast_enabled, on), partial(torch.set_autocast_enabled, on), False)
        for on in ("cpu", "cuda")
    ),
    (_flushes, torch.set_flush_denormal, False),
    # The same switch as `use_deterministic_algorithms`, which imports torch's compiler: 3 s for whoever only looks.
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 2),  # 2: an error
    # What nobody reads: a kernel more for each tensor that is made.
    _attribute(torch.utils.deterministic, "fill_uninitialized_memory", False),
    _attribute(_backends.cudnn, "benchmark", False),
    # Without these libraries a convolution has other last bits.
    *(_attribute(library, "enabled", True) for library in (_backends.cudnn, _backends.mkldnn)),
    (_bf16_sums, partial(setattr, _backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"), (True, True)),
    # By another library products, and decompositions, on a GPU have other last bits.
    _library(_backends.cuda.preferred_blas_library, "TORCH_BLAS_PREFER_CUBLASLT", "cublaslt"),
    _library(_backends.cuda.preferred_linalg_library, "TORCH_LINALG_PREFER_CUSOLVER", "cusolver"),
    # torch has two ways to ask for fewer bits of float32. The older one comes first: it ends a mixture of both.
    _older(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    _older(*_attribute(_backends.cudnn, "allow_tf32", False)),
    *(
        _attribute(part, "fp32_precision", "ieee")
        for part in (
            *(_backends, _backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn),
            *(_backends.mkldnn.matmul, _backends.mkldnn.conv, _backends.mkldnn.rnn),
        )
    ),
)


def settle() -> None:
    """Every mode is what results are computed in."""
    _put([settled for _, _, settled in MODES])


@contextmanager
def kept() -> Iterator[None]:
    """Whatever code of a user does within the block, torch computes afterwards as before, with as many threads."""
    threads, modes = torch.get_num_threads(), [read() for read, _, _ in MODES]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _put(modes)


@contextmanager
def of_results() -> Iterator[None]:
    """Whatever a notebook has set, torch computes within the block as results are computed.

    As strict about kernels as it was: cuBLAS is refused where a process did not begin with its variable.
    """
    strictness = torch.get_deterministic_debug_mode()
    with kept(), torch.inference_mode(False):
        settle()
        torch.set_num_threads(1)
        torch.set_deterministic_debug_mode(strictness)
        yield


def _put(modes: Sequence[Any]) -> None:
    for (read, put, _), wanted in zip(MODES, modes, strict=True):
        if read() != wanted:  # torch remembers some calls, whatever they change
            put(wanted)
