"""The doctor says what is wrong with a machine, and what to do about it."""

import os
import pwd
import socket
import time
from pathlib import Path

import pytest

from certvae import machine
from certvae.__main__ import main
from certvae.cluster import doctor
from certvae.cluster.doctor import Finding, clock, disk, examine, gpus, store_folder, together, token, verdict, versions
from certvae.errors import RayFault
from certvae.store.sealed import seal
from certvae.store.store import Store
from tests.cluster_files import ROOT
from tests.ray_clusters import cluster


def only(findings):
    [finding] = findings
    return finding


def bad(finding, *words):
    """It is bad, says these words, and has a remedy."""
    assert finding.verdict == "bad"
    assert finding.remedy
    assert all(word in str(finding) for word in words), str(finding)
    return True


def test_this_machine_is_examined_without_a_gpu(tmp_path):
    found = examine(tmp_path / "store", needed_gb=0.0)
    seen = {finding.what for finding in found}
    assert {"python", "versions", "gpus", "disk", "store", "clock", "token", "ports"} <= seen
    assert not (tmp_path / "store").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_bad_has_a_remedy(tmp_path):
    for finding in examine(tmp_path / "store", needed_gb=1e9):
        assert finding.remedy or finding.verdict != "bad"


class TestPlatform:
    @pytest.mark.parametrize(
        ("name", "processor", "word"),
        [
            ("Linux", "x86_64", "ok"),
            ("Linux", "aarch64", "ok"),
            ("Darwin", "arm64", "note"),
            ("Windows", "AMD64", "bad"),
            ("Linux", "riscv64", "bad"),
        ],
    )
    def test_a_system_is_known_or_has_a_remedy(self, name, processor, word):
        found = only(doctor.system(name, processor))
        assert found.verdict == word
        assert (word == "ok") == (found.remedy == "")

    def test_a_quota_of_a_container_is_said(self, monkeypatch, tmp_path):
        (tmp_path / "cpu.max").write_text("50000 100000")
        (tmp_path / "memory.max").write_text("1000000000")
        (tmp_path / "own").write_text("0::/")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path)
        monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
        found = only(doctor.cores())
        assert found.verdict == "note"
        assert found.said.startswith("1 of ")
        assert "1.0 of" in found.said

    def test_a_system_without_affinity_is_no_fault(self, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert only(doctor.cores()).verdict in ("ok", "note")

    def test_little_or_no_shared_memory_is_no_reason_not_to_start(self, monkeypatch, tmp_path):
        assert only(doctor.shared_memory(tmp_path / "none")).verdict == "ok"
        monkeypatch.setattr(doctor, "LEAST_SHARED", float("inf"))
        assert "--shm-size" in only(doctor.shared_memory(tmp_path)).remedy

    def test_a_home_that_cannot_be_written_is_said(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
        found = only(doctor.home())
        assert (found.verdict, "HOME" in found.remedy) == ("note", True)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert only(doctor.home()).verdict == "ok"
        assert list(tmp_path.iterdir()) == []

    def test_a_home_that_is_missing_is_said_among_all_else(self, monkeypatch, tmp_path):
        """The look at tokens raised what a missing home raises, and nothing was said at all."""

        def unknown(_):
            raise KeyError("uid not found")

        monkeypatch.setattr(pwd, "getpwuid", unknown)
        monkeypatch.delenv("HOME", raising=False)
        found = [finding for finding in examine(tmp_path / "store") if finding.what == "home"]
        assert bad(only(found), "export HOME=DIR")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert only(doctor.home()).verdict == "ok"


class TestVersions:
    def lock(self, folder, text):
        path = folder / "requirements.lock"
        path.write_text(text)
        return path

    def test_the_environment_of_the_tests_is_that_of_the_lock(self):
        assert [finding.verdict for finding in versions(ROOT / "requirements.lock")] == ["ok", "ok"]

    def test_a_version_that_differs_is_named(self, tmp_path):
        lock = self.lock(tmp_path, "numpy==1.0.0 \\\n    --hash=sha256:00\n")
        assert bad(list(versions(lock))[1], "numpy", "not 1.0.0", "--require-hashes")

    def test_a_pin_for_another_system_is_no_fault(self, tmp_path):
        lock = self.lock(tmp_path, "pywin32-of-nobody==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n")
        assert list(versions(lock))[1].verdict == "ok"

    def test_no_lock_is_noted(self, tmp_path):
        assert list(versions(tmp_path / "none"))[1].verdict == "note"

    @pytest.mark.parametrize("version", [(3, 10), (3, 15)])
    def test_a_python_that_the_lock_has_no_packages_for(self, monkeypatch, tmp_path, version):
        monkeypatch.setattr(doctor.sys, "version_info", (*version, 0, "final", 0))
        assert bad(next(versions(tmp_path / "none")), "use Python 3.11 to 3.14")


class TestGpus:
    def test_none_is_no_fault(self):
        assert only(gpus([], [])).verdict == "note"

    def test_all_that_are_listed_compute(self):
        found = only(gpus(["GPU 0: H100", "GPU 1: H100"], ["H100", "H100"]))
        assert (found.verdict, found.said) == ("ok", "2 x H100, computing")

    def test_a_driver_that_is_too_old(self, monkeypatch):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert bad(only(gpus(["GPU 0: H100", "GPU 1: H100"], [])), "lists 2", "computes on 0", "driver")

    def test_fewer_are_fine_when_they_were_chosen(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        found = only(gpus(["GPU 0: H100", "GPU 1: H100"], ["H100"]))
        assert (found.verdict, found.said) == ("ok", "1 x H100, computing, 1 hidden by CUDA_VISIBLE_DEVICES='0'")

    @pytest.mark.parametrize("value", ["", "-1", "7"])
    def test_all_hidden_on_purpose_is_called_hidden(self, monkeypatch, value):
        """It was a crash, or the advice to update a driver that is fine."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        found = only(gpus(["GPU 0: H100"], []))
        assert found.verdict == "note"
        assert f"1 hidden by CUDA_VISIBLE_DEVICES='{value}'" in found.said
        assert "driver" not in str(found)

    def test_two_models_are_refused(self):
        assert bad(only(gpus(["GPU 0", "GPU 1"], ["H100", "A100"])), "A100, H100", "CUDA_VISIBLE_DEVICES")


class TestStore:
    def test_room_is_measured_where_the_store_will_be(self, tmp_path):
        assert only(disk(tmp_path / "a" / "b", 0.0)).said.endswith(str(tmp_path))
        assert bad(only(disk(tmp_path, 1e9)), "GB free", "--plan")

    def test_a_store_is_recognised(self, tmp_path):
        Store(tmp_path / "store", fingerprint={})
        assert list(store_folder(tmp_path / "store"))[-1].said.endswith("writable")

    def test_a_relative_name_is_the_same_store(self, tmp_path, monkeypatch):
        Store(tmp_path / "store", fingerprint={})
        monkeypatch.chdir(tmp_path)
        assert list(store_folder(Path("store")))[-1].said == list(store_folder(tmp_path / "store"))[-1].said
        (tmp_path / "store").chmod(0o777)
        assert bad(list(store_folder(Path("store")))[-1], "chmod go-w")

    def test_another_folder_is_refused(self, tmp_path):
        tmp_path.chmod(0o700)
        (tmp_path / "thesis.tex").touch()
        assert bad(list(store_folder(tmp_path))[-1], "no store and not empty")

    def test_a_damaged_store_is_refused(self, tmp_path):
        Store(tmp_path / "store", fingerprint={})
        (tmp_path / "store" / "STORE.json").write_text("{}")
        found = list(store_folder(tmp_path / "store"))[-1]
        assert bad(found, "STORE.json is damaged", "store repair")
        assert "quarantine" not in str(found)
        (tmp_path / "store" / "STORE.json").write_bytes(seal({"layout": 9}))
        assert bad(list(store_folder(tmp_path / "store"))[-1], "use that version, or another folder")

    def test_one_that_others_can_write_is_refused(self, tmp_path):
        Store(tmp_path / "store", fingerprint={})
        (tmp_path / "store").chmod(0o777)
        assert bad(list(store_folder(tmp_path / "store"))[-1], "chmod go-w")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_one_that_cannot_be_written_is_refused(self, tmp_path):
        tmp_path.chmod(0o500)
        assert bad(only(store_folder(tmp_path / "store")), "cannot be written")
        tmp_path.chmod(0o700)


class TestClock:
    def test_a_local_file_system_agrees(self, tmp_path):
        assert only(clock(tmp_path)).verdict == "ok"
        assert list(tmp_path.iterdir()) == []

    def test_a_file_server_that_is_late_is_found(self, tmp_path, monkeypatch):
        monkeypatch.setattr(doctor.time, "time", lambda now=time.time: now() + 60)
        assert bad(only(clock(tmp_path)), "-60 s", "NTP")

    def test_nodes_are_compared_with_this_machine(self):
        assert only(together([("one", 100.0), ("two", 103.0)], 100.0, 104.0)).verdict == "ok"
        assert bad(only(together([("one", 100.0), ("two", 160.0)], 100.0, 104.0)), "two", "NTP")


class TestToken:
    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        return tmp_path / "token"

    def test_none_is_fine(self, path):
        assert only(token()).verdict == "ok"

    def test_a_private_one_is_fine_and_is_not_shown(self, path):
        path.write_text("5" * 64)
        path.chmod(0o600)
        assert only(token()).verdict == "ok"
        assert "5555" not in str(only(token()))

    def test_one_that_others_can_read_is_refused(self, path):
        path.write_text("5" * 64)
        path.chmod(0o644)
        assert bad(only(token()), "0644", f"chmod 600 {path}")


def test_a_port_in_use_is_noted():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert only(doctor.free_port(port, "a test")).verdict == "note"
    assert only(doctor.free_port(port, "a test")).verdict == "ok"


def test_the_exit_code_is_that_of_the_worst(tmp_path, capsys):
    assert verdict([Finding("a", "ok", ""), Finding("b", "note", "")]) == 0
    assert verdict([Finding("a", "ok", ""), Finding("b", "bad", "", "mend it")]) == 1
    assert main(["doctor", "--store", str(tmp_path / "store"), "--needed-gb", "1000000000"]) == 1
    assert "bad  disk" in capsys.readouterr().out


@pytest.mark.slow
def test_every_node_of_a_cluster_is_examined(tmp_path):
    with cluster(2) as made:
        found = doctor.cluster(made.address, tmp_path / "store", needed_gb=0.0)
    assert len([finding for finding in found if finding.what == "disk"]) == 2
    assert all(finding.host for finding in found if finding.what == "disk")
    assert found[-1] == Finding("clocks", "ok", "2 nodes agree")


def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(RayFault, match=r"E-RAY: .* Connection refused"):
        doctor.cluster("127.0.0.1:1", Path(tmp_path))
