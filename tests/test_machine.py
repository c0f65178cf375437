"""What may be used of a machine: bounded by affinity and by cgroups of both versions, wherever in their tree."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from certvae import machine
from certvae.machine import cores, memory

Limit = Callable[[str, str], None]


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Writes a file of a tree of cgroups, in which this process is in /batch/job (version 2) and /docker/id (1)."""
    tree, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("4:memory:/docker/id\n3:cpu,cpuacct:/docker/id\n1:name=systemd:/x\n0::/batch/job\n")
    tree.mkdir()
    monkeypatch.setattr(machine, "CGROUPS", tree)
    monkeypatch.setattr(machine, "OWN_CGROUPS", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(place: str, text: str) -> None:
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_text(text + "\n")

    return write


def test_without_limits_it_is_the_machine(limit: Limit) -> None:
    assert (cores(), memory()) == (8, psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("nonsense", 8), ("", 8)],
)
def test_a_quota_of_version_2(limit: Limit, text: str, wanted: int) -> None:
    limit("batch/job/cpu.max", text)
    assert cores() == wanted


def test_the_tightest_limit_on_the_way_up_counts(limit: Limit) -> None:
    limit("batch/job/cpu.max", "600000 100000")
    limit("batch/cpu.max", "300000 100000")
    limit("cpu.max", "400000 100000")
    assert cores() == 3
    limit("batch/memory.max", "1073741824")
    limit("batch/job/memory.max", "max")
    assert memory() == 2**30


def test_a_container_that_sees_its_own_part_of_the_tree(limit: Limit) -> None:
    """Its path in the tree is that of the host, the tree that is mounted begins at the container."""
    limit("cpu.max", "200000 100000")
    assert cores() == 2


@pytest.mark.parametrize("tree", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1(limit: Limit, tree: str) -> None:
    limit(f"{tree}/docker/id/cpu.cfs_period_us", "50000")
    limit(f"{tree}/docker/id/cpu.cfs_quota_us", "-1")
    assert cores() == 8
    limit(f"{tree}/docker/id/cpu.cfs_quota_us", "150000")
    assert cores() == 3
    limit("memory/docker/id/memory.limit_in_bytes", str(2**29))
    assert memory() == 2**29


def test_a_system_without_affinity_or_cgroups(limit: Limit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "absent")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


class TestGpus:
    @pytest.fixture(autouse=True)
    def not_asked_yet(self):
        machine.driver.cache_clear()
        yield
        machine.driver.cache_clear()

    def test_what_the_driver_lists(self, tmp_path, monkeypatch):
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 570.1'\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        assert machine.gpus() == ["NVIDIA H100 80GB HBM3, 81559 MiB, driver 570.1"]
        assert machine.driver() == "570.1"

    @pytest.mark.parametrize("text", ["no program", "#!/bin/sh\necho 'driver not loaded'\nexit 9\n"])
    def test_a_tool_that_cannot_run_lists_nothing(self, tmp_path, monkeypatch, text):
        (tmp_path / "nvidia-smi").write_text(text)
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        assert machine.gpus() == []
        assert machine.driver() == "unknown"


def test_the_cpu_has_a_name(tmp_path, monkeypatch):
    assert machine.cpu()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.cpu() == "Some CPU @ 2 GHz"
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "absent")
    assert machine.cpu()
