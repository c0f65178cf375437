"""A machine as a number sees it: the fingerprint that enters every key, and what may be said of it without torch.

Results are equal byte for byte only under equal fingerprints: one torch build, one device model, one thread count.
torch takes a second and half a gigabyte. A question to a store needs none of it: where there is no GPU, the kernel
tells what torch would say.
"""

import functools
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certvae import machine
from certvae.installed import packages, version

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "safetensors", "pillow")
ACCELERATORS = ("nvidia[0-9]*", "nvidiactl", "nvhost-gpu", "dxg", "kfd")
"""Files in /dev that a driver of GPUs makes."""
CAPABILITIES = {"AVX512": {"avx512vl", "avx512bw", "avx512dq", "fma"}, "AVX2": {"avx2", "fma"}, "DEFAULT": set()}
"""What torch compiles its loops for -> flags of a CPU that runs them, the widest first."""

KERNELS = (
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"),
    *(f"{library}_{name}" for library in ("ONEDNN", "DNNL") for name in ("MAX_CPU_ISA", "CPU_ISA_HINTS")),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE"),
    *("TORCH_BLAS_PREFER_CUBLASLT", "TORCH_LINALG_PREFER_CUSOLVER"),
    *("CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION", "CUBLAS_EMULATION_STRATEGY"),
    *("CUBLASLT_WORKSPACE_SIZE", "TORCH_CUBLASLT_UNIFIED_WORKSPACE", "DISABLE_ADDMM_CUDA_LT"),
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
)
"""Variables by which a site or a user has libraries choose other kernels, whose last bits are others."""


def asked(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of `KERNELS` that are set."""
    return {name: variables[name] for name in KERNELS if variables.get(name)}


ASKED = asked(os.environ)
"""As this process began: libraries read them as they are loaded, and code of a user may change them later."""


def described(model: str, *, threads: int, deterministic: bool, tf32: bool | str) -> dict[str, Any]:
    """All that can change a bit of a result besides the spec, the data and the code version."""
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "packages": {name: version(name) for name in PACKAGES},
        "device": model,
        "threads": threads,
        "deterministic": deterministic,
        "tf32": tf32,
        **({"kernels": ASKED} if ASKED else {}),
    }


@functools.cache
def table() -> dict[str, str]:
    """This machine for a reader: processor, GPUs and their driver, memory, system, Python, pip, and every package."""
    gpus = {f"GPU {number}": gpu for number, gpu in enumerate(machine.gpus())} or {"GPU": "none"}
    return {
        "CPU": f"{machine.cpu()}, {machine.cores()} of {os.cpu_count()} cores",
        "memory": f"{machine.memory() / 2**30:.0f} GiB",
        **gpus,
        "system": platform.platform(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **{f"package {name}": found for name, found in packages().items()},
    }


@functools.cache
def expected() -> dict[str, Any]:
    """The fingerprint that a settled worker of this machine has."""
    return described(light_device_model() or device_model(device()), threads=1, deterministic=True, tf32=False)


def device() -> str:
    """The device of this process: its first visible GPU, or the CPU."""
    import torch  # noqa: PLC0415

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def device_model(device: str) -> str:
    """The architecture of the CPU and what torch uses of it, after the model, driver and libraries of a GPU.

    A card does not compute alone: k-means, small fits and every certificate are the host's.
    """
    import torch  # noqa: PLC0415

    host = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if not device.startswith("cuda"):
        return host
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.cuda.get_device_name(device)}, driver {machine.driver()}, {libraries}, host {host}"


def light_device_model(proc: Path = Path("/proc"), dev: Path = Path("/dev")) -> str | None:
    """`device_model` of a machine without GPUs, told without torch; None where only torch can tell."""
    cpus = proc / "cpuinfo"
    if platform.machine() != "x86_64" or not cpus.exists():
        return None
    if any(found for name in ACCELERATORS for found in dev.glob(name)):
        return None
    flags = re.search(r"^flags\s*:(.*)$", cpus.read_text(), re.MULTILINE)
    if flags is None:
        return None
    there, asked = set(flags[1].split()), os.environ.get("ATEN_CPU_CAPABILITY", "")
    widest = next(name for name, needs in CAPABILITIES.items() if needs <= there)
    forced = {name.lower(): name for name in CAPABILITIES}
    return f"{platform.machine()} {forced.get(asked, widest)}"


def gpu_count() -> int:
    """GPUs that this process may use."""
    if light_device_model() is not None:
        return 0
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()
