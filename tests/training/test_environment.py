"""The environment of a worker: threads and determinism are fixed, and enter every key."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from certvae import fingerprint
from certvae.canonical import canonical_json
from certvae.errors import ConfigFault
from certvae.models.arithmetic import MODES, kept
from certvae.training import environment
from tests.conftest import pytest_configure

WORKER = """
import json, os, sys

from certvae.training import environment

environment.settle()
scipy_came_first = "scipy" in sys.modules
import numpy as np
import threadpoolctl
import torch
from scipy._lib._array_api import SCIPY_ARRAY_API

from certvae.teachers import mixture

mixture.FEW = 0  # few points would be the host's on every device
points = np.random.default_rng(0).normal(size=(90, 3))
start = mixture.Start(points, 3, seed=0)
devices = [mixture.fit(points, start, "tied", 1e-3, 50, device).mixture.arrays["means_"].tolist()
           for device in ("cpu", "cpu:0")]
pools = threadpoolctl.threadpool_info()
print(json.dumps(dict(
    scipy_came_first=scipy_came_first,
    scipy_dispatches=bool(SCIPY_ARRAY_API),
    pools=sorted(set((pool["user_api"], pool["num_threads"]) for pool in pools)),
    torch_threads=torch.get_num_threads(),
    variables=[os.environ[name] for name in environment.THREAD_VARIABLES],
    workspaces=os.environ["CUBLAS_WORKSPACE_CONFIG"],
    by_stopwatch=os.environ["PYTORCH_TUNABLEOP_ENABLED"],
    means=devices,
    fingerprint=environment.fingerprint("cpu"),
)))
"""


@pytest.fixture(scope="module")
def worker() -> dict:
    """What a fresh process finds after `settle`. Ray sets the variable to the CPUs of a task: it must not decide."""
    inherited = {name: value for name, value in os.environ.items() if name not in environment.THREAD_VARIABLES}
    found = subprocess.run(
        [sys.executable, "-c", WORKER],
        env={**inherited, "OMP_NUM_THREADS": "2", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "PYTORCH_TUNABLEOP_ENABLED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


class TestSettle:
    def test_every_thread_pool_has_one_thread(self, worker):
        """Also those of libraries that were loaded before, such as numpy's BLAS."""
        assert {api for api, _ in worker["pools"]} == {"blas", "openmp"}
        assert {threads for _, threads in worker["pools"]} == {1}
        assert worker["torch_threads"] == 1
        assert set(worker["variables"]) == {"1"}

    def test_the_workspaces_of_a_gpu_are_the_same_everywhere(self, worker):
        """By their size cuBLAS chooses how it multiplies, and no key tells it."""
        assert worker["workspaces"] == ":4096:8"

    def test_no_kernel_is_chosen_by_a_stopwatch(self, worker):
        """Which differs from one run to the next, whatever stands in a key."""
        assert worker["by_stopwatch"] == "0"

    def test_tests_for_a_gpu_compute_so_from_their_first_product_on(self, monkeypatch):
        """Whether cuBLAS had its variable torch notes once, at the first product of a process."""
        with environment.restored():
            monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
            pytest_configure(SimpleNamespace(option=SimpleNamespace(markexpr="gpu")))
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
            assert environment.fingerprint("cpu")["deterministic"]

    @pytest.mark.parametrize("asked", ["not slow and not gpu", "slow", ""])
    def test_all_other_tests_see_no_gpu(self, monkeypatch, asked):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        pytest_configure(SimpleNamespace(option=SimpleNamespace(markexpr=asked)))
        assert not os.environ["CUDA_VISIBLE_DEVICES"]

    def test_mixtures_are_fitted_on_torch_tensors(self, worker):
        """Which scikit-learn and scipy allow only where a variable says so before scipy is imported."""
        assert not worker["scipy_came_first"]
        assert worker["scipy_dispatches"]
        on_numpy, on_torch = worker["means"]
        assert on_torch == [pytest.approx(row, abs=1e-9) for row in on_numpy]

    def test_the_fingerprint_says_so(self, worker):
        assert worker["fingerprint"]["threads"] == 1
        assert worker["fingerprint"]["deterministic"] is True
        assert worker["fingerprint"]["tf32"] is False

    def test_no_gpu_loses_bits_that_a_notebook_had_given_away(self):
        """TF32 keeps 10 of 23 bits, and many a notebook begins by switching it on for speed."""
        modes = torch.backends.cuda.matmul, torch.backends.cudnn
        before = [one.allow_tf32 for one in modes]
        try:
            for one in modes:
                one.allow_tf32 = True
            with environment.restored():
                environment.settle()
                assert not any(one.allow_tf32 for one in modes)
            assert all(one.allow_tf32 for one in modes)
        finally:
            for one, earlier in zip(modes, before, strict=True):
                one.allow_tf32 = earlier


REFUSED = (
    "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or ..., you must set an "
    "environment variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8"
)
"""What torch says on a GPU that a process multiplied on before it had the variable."""


class Poisoned:
    """A tensor of such a process."""

    def __init__(self, *_: object, said: str, device: str):
        self.said = said

    def mm(self, _: object) -> None:
        raise RuntimeError(self.said)


class TestProducts:
    def test_a_process_that_multiplied_too_early_is_told_what_to_do(self, monkeypatch):
        monkeypatch.setattr(torch, "ones", partial(Poisoned, said=REFUSED))
        with pytest.raises(ConfigFault, match="give workers=1, which is another process") as refused:
            environment.check_products("cuda:0")
        wanted = f"CUBLAS_WORKSPACE_CONFIG={environment.VARIABLES['CUBLAS_WORKSPACE_CONFIG']}"
        assert wanted in str(refused.value)
        assert wanted in REFUSED, "torch takes this value for one that gives the same numbers again"

    def test_any_other_error_of_a_device_is_left_alone(self, monkeypatch):
        monkeypatch.setattr(torch, "ones", partial(Poisoned, said="CUDA error: out of memory"))
        with pytest.raises(RuntimeError, match="out of memory"):
            environment.check_products("cuda:0")

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_devices_without_cublas_pass(self, device):
        environment.check_products(device)


def switched(*owners: object, to: object, name: str = "fp32_precision") -> None:
    for one in owners:
        setattr(one, name, to)


BACKENDS = torch.backends
FOREIGN = {
    "another type": lambda: torch.set_default_dtype(torch.float64),
    "another device": lambda: torch.set_default_device("meta"),
    "no gradients": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "no small numbers": lambda: torch.set_flush_denormal(True),
    "bf16 in products": lambda: torch.set_float32_matmul_precision("medium"),
    "TF32 by the older switches": lambda: switched(BACKENDS.cuda.matmul, BACKENDS.cudnn, to=True, name="allow_tf32"),
    "TF32 by the newer ones": lambda: switched(BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, to="tf32"),
    "bf16 by the newest rule": lambda: switched(BACKENDS, to="bf16"),
    "other convolutions": lambda: switched(BACKENDS.cudnn, BACKENDS.mkldnn, to=False, name="enabled"),
    "rounded sums of bf16": lambda: switched(
        BACKENDS.cuda.matmul, to=False, name="allow_bf16_reduced_precision_reduction"
    ),
    "sums of bf16 in one piece": lambda: switched(
        BACKENDS.cuda.matmul, to=(False, False), name="allow_bf16_reduced_precision_reduction"
    ),
    "filled tensors": lambda: switched(torch.utils.deterministic, to=True, name="fill_uninitialized_memory"),
}
if BACKENDS.cuda.is_built():  # elsewhere torch refuses to set these
    FOREIGN |= {
        "another library for products": lambda: BACKENDS.cuda.preferred_blas_library("cublaslt"),
        "another library for decompositions": lambda: BACKENDS.cuda.preferred_linalg_library("cusolver"),
    }


def modes() -> list[object]:
    return [read() for read, _, _ in MODES]


class TestRestored:
    """A notebook computes as it likes, and a study in it as everywhere: its numbers bear no mark of the notebook."""

    @pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
    def test_what_a_notebook_has_set_is_not_there_in_a_study_and_is_there_again(self, foreign):
        with environment.restored():
            environment.settle()
            settled = modes()
        with environment.restored():
            foreign()
            before = modes()
            assert before != settled
            with environment.restored():
                environment.settle()
                assert modes() == settled
                assert torch.ones(1, requires_grad=True).mul(2).requires_grad
            assert modes() == before

    @pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
    def test_what_code_of_a_user_sets_is_not_there_when_it_has_run(self, foreign):
        with environment.restored():
            environment.settle()
            settled, threads = modes(), torch.get_num_threads()
            with kept():
                foreign()
                torch.set_num_threads(threads + 1)
                assert modes() != settled
            assert (modes(), torch.get_num_threads()) == (settled, threads)

    @pytest.mark.skipif(not BACKENDS.cuda.is_built(), reason="this torch knows no library for GPUs")
    def test_a_library_that_a_variable_asks_for_from_the_start_is_kept_and_in_the_fingerprint(self):
        code = (
            "import torch; from certvae.models import arithmetic; from certvae.fingerprint import ASKED;"
            "arithmetic.settle();"
            "print(torch.backends.cuda.preferred_blas_library().name, ASKED['TORCH_BLAS_PREFER_CUBLASLT'])"
        )
        variables = {**os.environ, "TORCH_BLAS_PREFER_CUBLASLT": "1"}
        said = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        assert said.stdout.split() == ["Cublaslt", "1"]

    def test_a_study_within_a_block_of_torch_leaves_it_for_as_long(self):
        with torch.inference_mode(), torch.device("meta"):
            with environment.restored():
                environment.settle()
                assert not torch.ones(1, requires_grad=True).mul(2).is_inference()
                assert torch.ones(1).device.type == "cpu"
            assert torch.is_inference_mode_enabled()
            assert torch.ones(1).device.type == "meta"


class TestFingerprint:
    def test_is_the_same_whenever_it_is_asked_for(self):
        assert canonical_json(environment.fingerprint("cpu")) == canonical_json(environment.fingerprint("cpu"))

    def test_names_every_package_that_computes(self):
        versions = environment.fingerprint("cpu")["packages"]
        assert versions["torch"] == torch.__version__.split("+")[0]
        assert {"numpy", "scipy", "scikit-learn", "safetensors", "pillow"} <= versions.keys()

    def test_another_number_of_threads_is_another_environment(self):
        before, threads = environment.fingerprint("cpu"), torch.get_num_threads()
        try:
            torch.set_num_threads(threads + 1)
            after = environment.fingerprint("cpu")
        finally:
            torch.set_num_threads(threads)
        assert {name for name in before if before[name] != after[name]} == {"threads"}

    def test_says_nothing_of_host_user_or_path(self):
        text = canonical_json(environment.fingerprint("cpu")).decode()
        assert os.uname().nodename not in text
        assert os.getcwd() not in text  # noqa: PTH109


@pytest.mark.gpu
def test_a_gpu_is_found_and_named_with_its_libraries():
    assert fingerprint.device() == "cuda:0"
    found = environment.fingerprint("cuda:0")["device"]
    assert re.fullmatch(r".+, driver [0-9.]+, CUDA [0-9.]+, cuDNN [0-9]+, host \S+ \S+", found)
