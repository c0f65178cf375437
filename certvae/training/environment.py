"""The machine as a number sees it: thread counts, deterministic mode, and the fingerprint that enters every key.

Results are equal byte for byte only under equal fingerprints: one torch build, one device model, one thread count.
"""

import os
import platform
import sys
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from certvae.installed import version

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "safetensors", "pillow")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def settle(threads: int = 1) -> None:
    """Fixes thread counts and deterministic mode of this process; call it before the first tensor is made.

    Libraries that are loaded later read the variables, those that are loaded already are told. With SCIPY_ARRAY_API
    scikit-learn fits mixtures on torch tensors, so on a GPU.
    """
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"SCIPY_ARRAY_API": "1"}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threadpool_limits(threads)
    torch.set_num_threads(threads)
    # The same switch as `use_deterministic_algorithms`, which imports torch's compiler: 3 s for whoever only looks.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def device() -> str:
    """The device of this process: its first visible GPU, or the CPU."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def fingerprint(device: str) -> dict[str, Any]:
    """All that can change a bit of a result besides the spec, the data and the code version."""
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "packages": {name: version(name) for name in PACKAGES},
        "device": _device_model(device),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def _device_model(device: str) -> str:
    if device.startswith("cuda"):
        return (
            f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        )
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
