"""A Ray of one run alone: it comes up or says why not, its token is private, and nothing of it is left."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from ray.exceptions import OutOfMemoryError

from certvae.cluster import join, local
from certvae.cluster.slots import Slots, local_slots
from certvae.cluster.watch import stoppable
from certvae.errors import ExitCode, RayFault
from certvae.store.process import owner
from certvae.store.selftest import ended, forked
from certvae.terminal import handled

SLOTS = Slots(2, 1.0, 0.0, "one CPU core each")


class TestStart:
    def start(self, monkeypatch, tmp_path, failures):
        """A Ray that does not come up so many times: half a minute each on a machine that is too busy."""
        tried = []

        def init(**_):
            tried.append(1)
            if len(tried) <= failures:
                raise Exception("The current node timed out during startup.\nmore")  # a bare one, as Ray does

        monkeypatch.setattr(local.ray, "init", init)
        local.start(SLOTS, tmp_path / "ray")
        return len(tried)

    def test_a_busy_machine_gets_a_second_try(self, monkeypatch, tmp_path):
        assert self.start(monkeypatch, tmp_path, 1) == 2

    def test_then_it_is_said_what_to_do(self, monkeypatch, tmp_path):
        with pytest.raises(RayFault, match=r"timed out during startup\. \|.*run the same command"):
            self.start(monkeypatch, tmp_path, 2)

    def test_it_is_a_ray_of_its_own_on_this_host_whatever_the_environment_says(self, monkeypatch, tmp_path):
        asked = []
        monkeypatch.setenv("RAY_ADDRESS", "somebody:6379")
        monkeypatch.setattr(local.ray, "init", lambda **how: asked.append(how))
        local.start(SLOTS, tmp_path / "ray")
        (how,) = asked
        assert how["address"] == "local"  # else RAY_ADDRESS decides
        assert how["_node_ip_address"] == "127.0.0.1"
        assert how["include_dashboard"] is False
        assert how["num_cpus"] == 2

    @pytest.mark.parametrize(
        ("workers", "per_gpu", "gpus", "cores"),
        [(None, 1, 3, 20), (3, 1, 8, 12), (1, 2, 1, 4), (5, 2, 4, 8), (None, 7, 2, 3), (3, 1, 0, 4)],
    )
    def test_every_slot_fits_into_what_ray_is_told_is_there(self, monkeypatch, tmp_path, workers, per_gpu, gpus, cores):
        """Of three GPUs beside twenty cores one stood still; half a GPU was none, and its lane waited for ever."""
        asked = []
        monkeypatch.setattr("certvae.machine.cores", lambda: cores)
        monkeypatch.setattr("certvae.fingerprint.gpu_count", lambda: 0)
        monkeypatch.setattr(local.ray, "init", lambda **how: asked.append(how))
        slots = local_slots(workers, per_gpu, gpus)
        local.start(slots, tmp_path / "ray")
        (how,) = asked
        assert slots.count * slots.cpus <= how["num_cpus"]
        assert slots.count * slots.gpus <= how["num_gpus"] <= gpus

    def test_objects_lie_elsewhere_where_shared_memory_cannot_be_written(self, monkeypatch, tmp_path):
        """As in a sandbox; Ray did not start, and the machine was called overloaded."""
        asked = []
        monkeypatch.setattr(local, "SHARED", tmp_path / "absent")
        monkeypatch.setattr(local.ray, "init", lambda **how: asked.append(how))
        local.start(SLOTS, tmp_path / "ray")
        assert asked[0]["_plasma_directory"] == str(tmp_path)

    @pytest.mark.parametrize(
        ("said", "logged", "cause"),
        [
            ("AF_UNIX path length cannot exceed 107 bytes", "", "path of its sockets is too long"),
            ("Failed to start GCS", "[x E 1 1] plasma: No space left on device", "a disk is full"),
            (
                "Failed to start GCS",
                "[x F 1 1] pthread_create: Resource temporarily unavailable",
                "number of processes",
            ),
            ("'utf-8' codec can't encode character: surrogates not allowed", "", "in another encoding.*--workers 0"),
            ("Failed to start GCS", "[x I 1 1] all is well", "overloaded"),
            ("something else", "[x E 1 1] bad thing 42", "log ends with: .*bad thing 42.*not known to this program"),
        ],
    )
    def test_each_failure_has_its_own_diagnosis(self, monkeypatch, tmp_path, said, logged, cause):
        """Every failure was once an overloaded machine."""
        logs = tmp_path / "ray" / "session_2026-01-01_00-00-00_0_1" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text(f"{logged}\n")

        def init(**_):
            raise Exception(said)

        monkeypatch.setattr(local.ray, "init", init)
        with pytest.raises(RayFault, match=cause):
            local.start(SLOTS, tmp_path / "ray")


class TestScratch:
    """A scheduler or macOS gives a TMPDIR of 50 to 80 characters, and a socket has room for about 20."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch, tmp_path):
        self.long = tmp_path / ("t" * 90)
        self.long.mkdir()
        monkeypatch.setattr(local.tempfile, "tempdir", str(self.long))

    def test_a_long_temporary_folder_is_not_used_for_sockets(self):
        scratch = local.scratch_folder()
        try:
            assert scratch.stat().st_mode & 0o777 == 0o700
            assert len(str(scratch / "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")) <= 107
            assert not scratch.is_relative_to(self.long)
            assert (scratch / "owner").read_text() == owner()
        finally:
            shutil.rmtree(scratch)

    def test_a_short_one_comes_first(self, monkeypatch):
        monkeypatch.setattr(local.tempfile, "tempdir", "/dev/shm")  # noqa: S108
        assert local.short_places()[0] == Path("/dev/shm")  # noqa: S108

    def test_a_home_of_somebody_else_is_none(self, monkeypatch, tmp_path):
        """As that of root, which a container keeps in HOME for another user: looking into it raised."""
        (closed := tmp_path / "root").mkdir(mode=0o000)
        monkeypatch.setenv("HOME", str(closed / "home"))
        monkeypatch.setattr(local, "BELOW", 0)

        def looked() -> None:
            if not os.geteuid():
                os.setuid(65534)
            assert closed / "home" / ".certvae" not in local.short_places()

        assert ended(forked(looked)) == 0

    def test_where_there_is_none_the_message_names_it_and_its_length(self, monkeypatch):
        monkeypatch.setattr(local, "short_places", list)
        with pytest.raises(RayFault, match=rf"path of TMPDIR has {len(str(self.long))} characters"):
            local.scratch_folder()


def test_a_process_that_is_lost_ends_the_run_within_a_second(monkeypatch):
    """Ray itself waits a minute, and then ends the driver with a line of C++."""
    victim = subprocess.Popen(["sleep", "600"])  # a child, as the processes of a Ray of our own are
    monkeypatch.setattr(local, "VITAL", (psutil.Process(victim.pid).name(),))

    def run():
        with stoppable() as stop, local.watched(stop):
            victim.kill()
            time.sleep(30)

    with pytest.raises(RayFault, match="the Ray of this run has ended"):
        run()


def test_a_run_in_another_thread_leaves_the_signals_alone():
    """Only the main thread may handle them: a study started from a web page ended in a ValueError."""
    before, seen = signal.getsignal(signal.SIGUSR2), []

    def run():
        with stoppable(), handled(signal.SIGTERM, seen.append):
            seen.append(signal.getsignal(signal.SIGUSR2))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_worker_that_ray_ends_to_save_memory_is_no_bug_of_ours():
    """Ray Tune foresees errors of tasks and of actors, and this is neither."""
    with pytest.raises(RayFault, match="running low on memory; no result is lost") as found, stoppable():
        raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("running low on memory\nMemory on ...")
    assert found.value.exit_code == ExitCode.RESUMABLE


def test_its_processes_do_not_end_of_warnings_of_their_own(monkeypatch):
    """With PYTHONWARNINGS=error a run waited a minute for a Ray that had ended, and called the machine overloaded."""
    seen = []

    def begin(*_):
        seen.append(os.environ.get(local.WARNINGS))
        seen.append({name: os.environ[name] for name in local.KERNELS if name in os.environ})
        raise RayFault("it was seen", "nothing", where="here")

    monkeypatch.setenv(local.WARNINGS, "error")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # by a network of the user, say: a worker had another fingerprint
    monkeypatch.setattr(local, "start", begin)
    with pytest.raises(RayFault, match="it was seen"), local.own_ray(SLOTS):
        pass
    assert [*seen, os.environ[local.WARNINGS]] == [None, local.ASKED, "error"]


def test_a_ray_that_came_first_is_refused_at_once():
    """It has read that it needs no token, and would not start for forty seconds without saying why."""
    code = (
        "import ray\nfrom certvae.cluster.local import own_ray\nfrom certvae.cluster.slots import Slots\n"
        "with own_ray(Slots(1, 1.0, 0.0, 'x')): pass"
    )
    told = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=False)
    assert "E-RAY: Ray was imported before certvae" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["", "gcs_server", "raylet"])
def test_a_ray_of_our_own_is_closed_to_others_and_its_loss_is_told(tmp_path, lost):
    """Every socket on this host alone; without one of its processes a message and a documented code."""
    code = "import sys; from tests import pool_driver as driver; sys.exit(driver.main(sys.argv[1], None, '1'))"
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "lines").exists():
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ours = psutil.Process(driver.pid).children(recursive=True)
        addresses = {
            one.laddr.ip
            for process in (psutil.Process(driver.pid), *ours)
            for one in process.net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        }
        assert addresses
        assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        for process in ours:
            if process.name() == lost:
                process.kill()
        if not lost:
            (tmp_path / "go").touch()
        said = driver.communicate(timeout=200)[1]
        assert driver.returncode == (ExitCode.RESUMABLE if lost else ExitCode.DONE)
        assert ("E-RAY" in said) == bool(lost)
        assert "Traceback" not in said
    finally:
        driver.kill()
        driver.wait()


@pytest.mark.parametrize("enter", [lambda: local.own_ray(SLOTS), lambda: join.driver_of("127.0.0.1:1")])
def test_a_ray_of_the_users_own_program_is_left_alone(monkeypatch, enter):
    """It was shut down under the user's feet, and the machine was called overloaded."""
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.shutdown", lambda: pytest.fail("it is not ours"))
    with pytest.raises(RayFault, match=r"call ray.shutdown\(\) before, .* workers=0"), enter():
        pass


@pytest.mark.slow
def test_a_ray_of_the_users_own_program_works_on_and_may_be_ended_before_ours(tmp_path):
    code = f"""
import os, sys
from certvae.cluster.local import own_ray
from certvae.cluster.slots import Slots
from certvae.errors import RayFault
import ray

def one():
    return 1

os.environ["RAY_AUTH_TOKEN_PATH"] = {str(tmp_path / "token")!r}
open(os.environ["RAY_AUTH_TOKEN_PATH"], "w").write(32 * "ab")
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
try:
    with own_ray(Slots(1, 1.0, 0.0, "x")):
        sys.exit("it was not refused")
except RayFault:
    assert ray.get(ray.remote(one).remote()) == 1
ray.shutdown()
with own_ray(Slots(1, 1.0, 0.0, "x")):
    assert ray.is_initialized()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
assert ray.get(ray.remote(one).remote()) == 1
assert os.environ["RAY_AUTH_TOKEN_PATH"] == {str(tmp_path / "token")!r}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_address_that_is_not_up_is_told_at_once(monkeypatch):
    """In a network namespace, or on a host of IPv6 alone, Ray tried for two minutes."""
    monkeypatch.setattr(local, "LOOPBACK", "192.0.2.1")  # of documents, and of no machine
    with pytest.raises(RayFault, match=r"talk over 192\.0\.2\.1.*--workers 0"), local.own_ray(SLOTS):
        pass


def test_the_token_of_a_run_is_private_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", theirs := str(tmp_path / "theirs"))
    with local.private_token(tmp_path):
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_text()) == 64
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == theirs
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_ray_that_keeps_its_token_elsewhere_is_named_and_its_absence_breaks_no_import(tmp_path, monkeypatch):
    monkeypatch.delattr("ray._raylet.AuthenticationTokenLoader")
    with pytest.raises(RayFault, match=r"keeps the token .*pip install .*--workers 0"), local.private_token(tmp_path):
        pass
    monkeypatch.undo()
    with local.private_token(tmp_path):
        pass


def test_a_process_has_one_token_for_all_that_it_starts(tmp_path):
    """Ray reads it once: with another one, the second run of a process was turned away by its own Ray."""
    told = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with local.private_token(tmp_path / name):
            told.append((tmp_path / name / "token").read_text())
    assert told[0] == told[1]


class TestAbandoned:
    def folder(self, parent, name, said):
        folder = parent / f"certvae-{name}"
        (folder / "ray").mkdir(parents=True)
        if said is not None:
            (folder / "owner").write_text(said)
        return folder

    def test_the_folder_of_a_killed_driver_is_removed_by_whoever_comes_next(self, tmp_path):
        code = "from certvae.store.process import owner; print(owner(), end='')"
        dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        killed = self.folder(tmp_path, "killed", dead)
        local.remove_abandoned(tmp_path)
        assert not killed.exists()

    def test_others_are_left_alone(self, tmp_path):
        kept = [
            self.folder(tmp_path, "mine", owner()),
            self.folder(tmp_path, "elsewhere", "0123456789ab-1-1"),
            self.folder(tmp_path, "nobody", None),
        ]
        local.remove_abandoned(tmp_path)
        assert all(folder.exists() for folder in kept)
