"""The job for Slurm: what it asks Ray for is there, and two hosts in namespaces really run it."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import symmetric_run

from certvae.store.store import Store
from tests import sweep_runs
from tests.cluster_files import NODE, ROOT, SLURM
from tests.network_hosts import NETWORK, Host, hosts, missing

DAEMONS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue")
RAY = re.compile(r"raylet|gcs_server|ray::")
CONFIGURATION = """
ClusterName=certvae
SlurmctldHost=head({network}.11)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/ctld.pid
SlurmdPidFile=/run/slurm/d.pid
GresTypes=gpu
NodeName=head NodeAddr={network}.11 CPUs=4 RealMemory=1000 Gres=gpu:4
NodeName=one NodeAddr={network}.12 CPUs=4 RealMemory=1000 Gres=gpu:4
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class TestFile:
    text = SLURM.read_text()

    def test_it_parses_and_takes_two_edits(self):
        subprocess.run(["bash", "-n", str(SLURM)], check=True)
        marked = [line for line in self.text.splitlines() if line.endswith("# <-")]
        assert [line.split("=")[0] for line in marked] == ["#SBATCH --nodes", "study"]

    def test_each_option_is_one_of_the_installed_ray(self):
        known = {option for command in (symmetric_run, start) for one in command.params for option in one.opts}
        command = self.text.partition("symmetric-run")[2].partition(" -- ")[0]
        asked = re.findall(r"--[a-z-]+", command)
        assert len(asked) == 4
        assert set(asked) <= known

    def test_ray_is_started_by_the_script_that_wants_a_token(self):
        assert '"$node" token' in self.text
        assert re.findall(r"\S+ ray\b", self.text) == ['"$node" ray']
        assert "--dashboard-host=127.0.0.1" in self.text

    def test_nodes_are_its_own_and_it_resumes(self):
        """Ray's command refuses a node with another Ray."""
        assert {"--exclusive", "--requeue"} <= set(self.text.split())


def test_ray_starts_and_stops_through_the_script(tmp_path):
    """Ray's own stop, which it calls by name, would end every Ray of this machine."""
    root = tmp_path / "root"
    (root / "certvae" / "cluster").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    node = Path(shutil.copy(NODE, root / "certvae" / "cluster" / "node.sh"))
    texts = {"ray": f'[ "$1" = symmetric-run ] && ray {"stop"} || echo real ray "$@"', "python": 'echo "$@"'}
    for name, text in texts.items():
        (root / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / ".venv" / "bin" / name).chmod(0o700)
    there = {"HOME": str(tmp_path), "CERTVAE_TMP": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(node), "ray", "symmetric-run", "--address", "127.0.0.1:6390"],
        env=there,
        capture_output=True,
        text=True,
        check=True,
    )
    ended = f"-m certvae.cluster.processes {tmp_path}"
    assert [line.startswith(ended) for line in done.stdout.splitlines()] == [
        True,
        True,
    ]  # before, and in the place of Ray's stop


def absent() -> str:
    lacking = [name for name in DAEMONS if shutil.which(name) is None]
    return missing() or (f"needs {', '.join(lacking)}" if lacking else "")


@pytest.mark.slow
@pytest.mark.skipif(bool(absent()), reason=absent() or "Slurm is here")
class TestSlurm:
    def test_two_nodes_give_the_table_of_one_machine_and_leave_nothing(self, tmp_path):
        # The second node was seen to join twenty seconds after the first, which had made all cells of two seconds.
        seeds = ("--training.epochs", "800", "--seeds", "0", "1", "2", "3")
        shared, rig = checkout(tmp_path / "shared"), tmp_path / "rig"
        rig.mkdir()
        with hosts(rig, [shared], ["head", "one"]) as there:
            cluster(shared, there)
            code, said = handed_in(shared, there["head"], 2, seeds)
            assert code == "0", said
            machines = {event["owner"].partition("-")[0] for event in Store(shared / "store").executions()}
            assert len(machines) == 2, said
            gone(there)
            assert "Failed to start Ray" not in said
            assert said.rstrip().splitlines()[-2].startswith("one has left the cluster")
            private = [shared / ".certvae", shared / ".certvae" / "token"]
            assert [f"{path.stat().st_mode & 0o777:o}" for path in private] == ["700", "600"]

            code, said = handed_in(shared, there["head"], 1, (*seeds, "4"))
            assert code == "0", said
            assert "5 cells, 4 done before, 1 to run" in said
        alone = tmp_path / "alone"
        done = sweep_runs.run(alone, *seeds, "4")
        assert done.returncode == 0, done.stdout + done.stderr
        assert sweep_runs.table(shared / "store") == sweep_runs.table(alone)


def checkout(folder: Path) -> Path:
    """What a user has cloned and set up, on a file system of all nodes."""
    for part in ("certvae", "sweeps", "analysis"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "requirements.lock", folder)
    shutil.copy(ROOT / "requirements.lock", folder / ".venv.lock")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def cluster(shared: Path, there: dict[str, Host]) -> None:
    """A Slurm of these hosts, the first of which controls it."""
    configured = shared / "slurm"
    configured.mkdir(mode=0o755)
    (configured / "slurm.conf").write_text(CONFIGURATION.format(network=NETWORK))
    (configured / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/run/gpu[0-3]\n")
    (configured / "cgroup.conf").write_text(
        "CgroupPlugin=cgroup/v1\n"  # none is used, and this one asks nothing of systemd
    )
    there["head"].run(f"mungekey --create --keyfile={configured}/munge.key")
    for host in there.values():
        host.run("for number in 0 1 2 3; do mknod /run/gpu$number c 1 3; done")  # what Slurm takes for GPUs
        host.run("mkdir -p /run/munge /run/slurm/state /run/slurm/spool && chmod 755 /run/munge")
        places = "--socket=/run/munge/munge.socket.2 --pid-file=/run/munge/pid --seed-file=/run/munge/seed"
        host.run(f"munged --force --key-file={configured}/munge.key {places} --log-file=/run/munge/log")
    named = f"SLURM_CONF={configured}/slurm.conf"
    there["head"].run(f"{named} slurmctld -L /run/slurm/ctld.log")
    for name, host in there.items():
        host.run(f"{named} slurmd -N {name} -L /run/slurm/d.log")


def handed_in(shared: Path, head: Host, nodes: int, seeds: tuple[str, ...]) -> tuple[str, str]:
    """The job with its marked lines changed, on logical GPUs; its exit code and what it printed."""
    study = " ".join([*sweep_runs.SMALL, *seeds, "--store", str(shared / "store")])
    text = SLURM.read_text()
    for written, wanted in {
        "--nodes=2 --gres=gpu:8 --time=24:00:00": f"--nodes={nodes} --gres=gpu:4 --time=0:30:00",
        "--data digits --store certvae-store": study,
        '--num-cpus="$SLURM_CPUS_ON_NODE"': "--num-cpus=2 --num-gpus=2 --object-store-memory=100000000",
    }.items():
        assert text.count(written) == 1
        text = text.replace(written, wanted)
    (shared / "job.sbatch").write_text(text)
    run = f"cd {shared} && export SLURM_CONF={shared}/slurm/slurm.conf &&"
    number = head.run(f"{run} sbatch --parsable job.sbatch").strip()
    deadline = time.monotonic() + 900
    while head.run(f"{run} squeue --noheader --jobs {number}", check=False).strip():
        assert time.monotonic() < deadline
        time.sleep(2)
    [code] = re.findall(r"ExitCode=(\d+)", head.run(f"{run} scontrol show job {number}"))
    return code, (shared / f"certvae-{number}.log").read_text()


def gone(there: dict[str, Host]) -> None:
    """Nothing of Ray is left; its agents take a while to notice that their node has ended."""
    deadline = time.monotonic() + 120
    while left := [line for host in there.values() for line in host.processes().values() if RAY.search(line)]:
        assert time.monotonic() < deadline, left
        time.sleep(2)
