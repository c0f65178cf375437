"""Sets how a process computes: thread counts and deterministic mode, which its fingerprint tells."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

from certvae.fingerprint import described, device_model

deterministic: Any = torch.utils.deterministic
"""Its switch is a property of the module, which type checkers do not see."""
THREADS = 1  # of each worker: a sum that more threads share has other last bits
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def settle() -> None:
    """Fixes thread counts and deterministic mode of this process; call it before the first tensor is made.

    Libraries that are loaded later read the variables, those that are loaded already are told. With SCIPY_ARRAY_API
    scikit-learn fits mixtures on torch tensors, so on a GPU.
    """
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(THREADS)) | {"SCIPY_ARRAY_API": "1"}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threadpool_limits(THREADS)
    torch.set_num_threads(THREADS)
    # The same switch as `use_deterministic_algorithms`, which imports torch's compiler: 3 s for whoever only looks.
    torch.set_deterministic_debug_mode("error")
    deterministic.fill_uninitialized_memory = False  # what nobody reads: a kernel more for each tensor that is made
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def restored() -> Iterator[None]:
    """Puts back what `settle` changes when the block ends: the process may be somebody's notebook."""
    variables, pools = dict(os.environ), [(pool, pool.num_threads) for pool in ThreadpoolController().lib_controllers]
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill = deterministic.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    matmul = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        for name in (*THREAD_VARIABLES, "SCIPY_ARRAY_API", "CUBLAS_WORKSPACE_CONFIG"):
            os.environ.pop(name, None)
            os.environ.update({name: variables[name]} if name in variables else {})
        for pool, count in pools:
            pool.set_num_threads(count)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = cudnn
        torch.backends.cuda.matmul.allow_tf32 = matmul


def fingerprint(device: str) -> dict[str, Any]:
    """The fingerprint of this process as it computes now."""
    return described(
        device_model(device),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        tf32=bool(torch.backends.cuda.matmul.allow_tf32),
    )
