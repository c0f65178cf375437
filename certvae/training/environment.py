"""Sets how a process computes: thread counts and deterministic mode, which its fingerprint tells."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

from certvae.errors import ConfigFault
from certvae.fingerprint import described, device_model
from certvae.models import arithmetic
from certvae.terminal import variables_kept

THREADS = 1  # of each worker: a sum that more threads share has other last bits
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
VARIABLES = {"SCIPY_ARRAY_API": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTORCH_TUNABLEOP_ENABLED": "0"}
"""scikit-learn fits on tensors of torch. By the size of its workspaces cuBLAS chooses how it multiplies; torch may by a
stopwatch."""


def settle() -> None:
    """Fixes thread counts and modes of this process; call it before the first tensor is made.

    Libraries that are loaded later read the variables, those that are loaded already are told. With SCIPY_ARRAY_API
    scikit-learn fits mixtures on torch tensors, so on a GPU.
    """
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(THREADS)) | VARIABLES
    threadpool_limits(THREADS)
    torch.set_num_threads(THREADS)
    arithmetic.settle()


def check_products(device: str) -> None:
    """Refuses a GPU on which this process multiplied before it was settled: torch notes once, at the first product,
    whether cuBLAS has its variable, and makes no product that could differ the next time.

    Raises:
        ConfigFault: it did.
    """
    if device == "cpu":
        return
    one = torch.ones(1, 1, device=device)
    try:
        one.mm(one)
    except RuntimeError as error:
        name = "CUBLAS_WORKSPACE_CONFIG"
        if name not in str(error):
            raise
        raise ConfigFault(
            "this process has used its GPU in a way that does not give the same numbers again",
            f"restart it (in a notebook, its kernel) and set {name}={VARIABLES[name]} before anything else, or give "
            "workers=1, which is another process",
            where="this process",
            cause="cuBLAS reads that variable at the first product alone",
        ) from error


@contextmanager
def restored() -> Iterator[None]:
    """Puts back what `settle` changes when the block ends: the process may be somebody's notebook."""
    pools = [(pool, pool.num_threads) for pool in ThreadpoolController().lib_controllers]
    with variables_kept(*THREAD_VARIABLES, *VARIABLES), arithmetic.kept():
        try:
            with torch.inference_mode(False):
                yield
        finally:
            for pool, count in pools:
                pool.set_num_threads(count)


def fingerprint(device: str) -> dict[str, Any]:
    """The fingerprint of this process as it computes now."""
    return described(
        device_model(device),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        tf32=bool(torch.backends.cuda.matmul.allow_tf32),
    )
