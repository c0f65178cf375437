"""What is told of a machine without torch is what torch tells of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from certvae import fingerprint

ASK = """
import json, sys
from certvae import fingerprint
light, loaded = fingerprint.light_device_model(), "torch" in sys.modules
from certvae.training import environment
environment.settle()
print(json.dumps([light, loaded, fingerprint.expected(), environment.fingerprint(fingerprint.device())]))
"""


@pytest.mark.parametrize("forced", ["", "default", "avx2", "AVX2", "no-such-thing"])
def test_the_expected_fingerprint_is_that_of_a_settled_process(forced: str) -> None:
    """Torch obeys a variable, in lower case alone; `avx512` is left out, which not every CPU has."""
    told = {**os.environ, "ATEN_CPU_CAPABILITY": forced}
    done = subprocess.run([sys.executable, "-c", ASK], env=told, capture_output=True, text=True, check=True)
    light, loaded, expected, settled = json.loads(done.stdout)
    assert not loaded
    assert expected == settled
    assert light in (None, settled["device"])


def test_kernels_that_a_variable_chooses_are_part_of_it(monkeypatch) -> None:
    """With other instructions a convolution or a product has other last bits: two results must not share a key."""
    shown = {"threads": 1, "deterministic": True, "tf32": False}
    monkeypatch.setattr(fingerprint, "ASKED", fingerprint.asked({"ONEDNN_MAX_CPU_ISA": "", "PATH": "/bin"}))
    usual = fingerprint.described("x86_64 AVX2", **shown)
    assert "kernels" not in usual
    monkeypatch.setattr(fingerprint, "ASKED", fingerprint.asked({"MKL_CBWR": "COMPATIBLE"}))
    told = fingerprint.described("x86_64 AVX2", **shown)
    assert told == {**usual, "kernels": {"MKL_CBWR": "COMPATIBLE"}}
    monkeypatch.setenv("MKL_CBWR", "AVX")  # by code of a user, say, which is imported when a run has begun
    assert fingerprint.described("x86_64 AVX2", **shown) == told


class TestLight:
    def tree(self, folder: Path, flags: str | None, *devices: str) -> tuple[Path, Path]:
        proc, dev = folder / "proc", folder / "dev"
        proc.mkdir()
        dev.mkdir()
        if flags is not None:
            (proc / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n\n")
        for name in devices:
            (dev / name).touch()
        return proc, dev

    @pytest.fixture(autouse=True)
    def on_x86(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fingerprint.platform, "machine", lambda: "x86_64")
        monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)

    @pytest.mark.parametrize(
        ("flags", "model"),
        [
            ("fpu sse4_2", "x86_64 DEFAULT"),
            ("avx2 fma", "x86_64 AVX2"),
            ("avx2 avx512vl avx512bw avx512dq fma", "x86_64 AVX512"),
            ("avx2 avx512vl avx512bw fma", "x86_64 AVX2"),
            (None, None),
        ],
    )
    def test_the_flags_of_the_kernel_decide(self, tmp_path: Path, flags: str | None, model: str | None) -> None:
        assert fingerprint.light_device_model(*self.tree(tmp_path, flags)) == model

    @pytest.mark.parametrize("driver", ["nvidia0", "kfd", "dxg"])
    def test_where_there_may_be_a_gpu_torch_is_asked(self, tmp_path: Path, driver: str) -> None:
        assert fingerprint.light_device_model(*self.tree(tmp_path, "avx2 fma", driver)) is None
