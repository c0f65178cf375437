"""`ray up`, a sweep that loses a worker, `ray down`: three hosts and a laptop, in namespaces of their own, over ssh."""

import re
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import sweep_runs
from tests.cluster_files import FOLDER, HOSTS
from tests.network_hosts import NETWORK, Host, hosts, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "there are hosts")]

STUDY = "tiny_fixed_q-digits"
SEEDS = ("--seeds", *map(str, range(8)))
RUN = "python -m certvae cluster run"
NODE = "~/certvae/certvae/cluster/node.sh"
STRANGER = "/tmp/stranger"  # noqa: S108 - on a host of our own


def cluster_file(folder: Path) -> Path:
    """The one that ships, with the marked lines changed, and GPUs that these hosts have not."""
    text = (FOLDER / "several_hosts.yaml").read_text()
    for written, wanted in {
        "head_ip: 10.0.0.10": f"head_ip: {NETWORK}.12",
        "[10.0.0.11, 10.0.0.12]": f"[{NETWORK}.13, {NETWORK}.14]",
        "ssh_user: me": "ssh_user: root",
        "ray start --head": "ray start --head --num-cpus=1 --num-gpus=0 --object-store-memory=100000000",
        ":6390 --dash": ":6390 --num-cpus=4 --num-gpus=4 --object-store-memory=100000000 --dash",
    }.items():
        assert text.count(written) == 1
        text = text.replace(written, wanted)
    path = folder / "several_hosts.yaml"
    path.write_text(text)
    return path


def status(head: Host) -> str:
    return head.run(f"{NODE} ray status --address {head.address}:6390", check=False)


def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(2)
    return found


class Sweep(threading.Thread):
    """The one documented line, typed on the laptop."""

    def __init__(self, laptop: Host, config: Path, *more: str):
        super().__init__(daemon=True)
        typed = [*sweep_runs.SMALL, *SEEDS, "--store", str(config.parent / "store"), *more]
        self.line = f"{RUN} {config} sweeps/tiny_fixed_q.py {' '.join(typed)}; echo exit=$?"
        self.laptop, self.said = laptop, ""

    def run(self):
        self.said = self.laptop.run(f"export PYTHONPATH=$PWD && mkdir -p ~/desk && cd ~/desk && {self.line}", 1200)

    def finished(self, seconds=900):
        self.join(seconds)
        assert not self.is_alive()
        return self.said


def asked_with(head: Host, method: str, header: str) -> str:
    """The status that the job API answers with, on the head."""
    url = "http://127.0.0.1:8265/api/jobs/"
    code = (
        "import sys, urllib.request as r, urllib.error as e\n"
        f"q = r.Request({url!r}, method={method!r}, headers={{'Authorization': {header!r}}} if {header!r} else {{}})\n"
        "try: print('status', r.urlopen(q, timeout=20).status)\n"
        "except e.HTTPError as error: print('status', error.code)\n"
    )
    [status_code] = re.findall(r"status (\d+)", head.run(f'{sys.executable} -c "{code}"'))
    return status_code


def test_a_sweep_on_three_hosts_loses_one_and_ends_as_on_one_machine(tmp_path):
    shared = tmp_path / "shared"
    rig = tmp_path / "rig"
    for folder in (shared, rig):
        folder.mkdir()
    alone = tmp_path / "alone"
    with hosts(rig, [shared], ["laptop", "head", "one", "two"]) as there:
        laptop, head, one, two = there.values()
        config = cluster_file(shared)
        start_stranger(head)
        time.sleep(5)  # its workers and agents
        strangers = started(head).keys()

        laptop.run(f"timeout 300 ray up -y {config}", 320)
        until(lambda: "/8.0 GPU" in status(head), 240)
        closed_to_strangers(head)
        token_is_private([head, one, two])

        two.run(f"umount {shared}")
        refused = Sweep(laptop, config)
        refused.start()
        assert "exit=4" in refused.finished()
        assert re.search(r"E-RAY: .*differ from the driver on head: two: the store cannot be used", refused.said)
        assert not list((shared / "store" / "rows").iterdir())
        remount(two, shared)

        sweep = Sweep(laptop, config)
        sweep.start()
        until(lambda: cells_begun(shared) >= 6, 400)
        one.run("kill -9 $(pgrep -x raylet)")
        said = sweep.finished()
        (tmp_path / "said").write_text(said)
        assert "exit=0" in said, said[-4000:]
        assert "lost its worker: attempt 2 of 3" in said
        assert f"rows of {STUDY} in store" in said
        assert "MLflow: " in said

        laptop.run(f"timeout 200 ray down -y {config}", 220)
        assert started(head).keys() == strangers
        assert started(one) == started(two) == {}

    done = sweep_runs.run(alone, *SEEDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sweep_runs.table(shared / "store") == sweep_runs.table(alone)


def test_one_host_takes_two_edits_and_three_lines(tmp_path):
    shared, rig = tmp_path / "shared", tmp_path / "rig"
    for folder in (shared, rig):
        folder.mkdir()
    with hosts(rig, [shared], ["laptop", "head"]) as there:
        laptop, head = there.values()
        text = HOSTS[0].read_text().replace("head_ip: gpu-host", f"head_ip: {head.address}")
        config = shared / "cluster.yaml"
        config.write_text(text.replace("ssh_user: me", "ssh_user: root"))
        desk = "export PYTHONPATH=$PWD && mkdir -p ~/desk && cd ~/desk"
        line = f"{RUN} {config} sweeps/tiny_fixed_q.py {' '.join(sweep_runs.SMALL)} --seeds 0"
        laptop.run(f"timeout 300 ray up -y {config}", 320)
        first = laptop.run(f"{desk} && {line}; echo exit=$?", 900)
        assert "exit=0" in first, first[-4000:]
        assert "rows of tiny_fixed_q-digits in certvae-store" in first
        assert "MLflow UI" in first
        assert len(laptop.run("ls ~/desk/certvae-store/rows").split()) > 0
        assert {socket.rpartition(":")[0] for socket in sockets(head)} <= {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}
        again = laptop.run(f"{desk} && {line}; echo exit=$?", 900)
        assert "exit=0" in again
        laptop.run(f"timeout 200 ray down -y {config}", 220)
        assert started(head) == {}


def sockets(host: Host) -> list[str]:
    """Local addresses on which a host listens, but for ssh."""
    found = [line.split()[3] for line in host.run("ss -Hltn").splitlines() if line.startswith("LISTEN")]
    return [address for address in found if not address.endswith(":22")]


def start_stranger(head: Host) -> None:
    """Another Ray on the head, of somebody who knows nothing of us."""
    variables = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={STRANGER}/token"
    options = f"--port=6400 --temp-dir={STRANGER} --num-cpus=1 --include-dashboard=false --disable-usage-stats"
    head.run(
        f"mkdir -p {STRANGER} && echo {'5' * 64} > {STRANGER}/token && "
        f"{variables} ray start --head {options} --object-store-memory=100000000",
        200,
    )


def closed_to_strangers(head: Host) -> None:
    listening = head.run("ss -Hltn").split("\n")
    assert [line.split()[3] for line in listening if line.strip().endswith("*") and ":8265 " in line] == [
        "127.0.0.1:8265"
    ]
    token = head.run("cat ~/.certvae/token").strip()
    assert asked_with(head, "GET", "") == "401"
    assert asked_with(head, "GET", f"Bearer {'0' * 64}") == "403"
    assert asked_with(head, "DELETE", "") == "401"
    assert asked_with(head, "GET", f"Bearer {token}") == "200"
    assert not [line for line in head.processes().values() if token in line]


def token_is_private(nodes: list[Host]) -> None:
    assert {node.run("stat -c %a ~/.certvae ~/.certvae/token").split()[1] for node in nodes} == {"600"}
    assert {node.run("stat -c %a ~/.certvae").strip() for node in nodes} == {"700"}
    assert len({node.run("cat ~/.certvae/token") for node in nodes}) == 1
    assert "ray_bootstrap_key" not in nodes[0].run("ls ~")


def remount(host: Host, shared: Path) -> None:
    """The folder is still held by the host's first process, under another name."""
    number = host.run("ls /mnt").split()
    found = [f"/mnt/{one}" for one in number if "several_hosts.yaml" in host.run(f"ls /mnt/{one}")]
    host.run(f"mount --rbind {found[0]} {shared}")


def cells_begun(shared: Path) -> int:
    """Cells whose first shared result is there."""
    return len(list((shared / "store" / "obj").glob("*/MANIFEST"))) if (shared / "store" / "obj").exists() else 0


def started(host: Host) -> dict[int, str]:
    """Processes of Ray and of studies."""
    kinds = re.compile(r"raylet|gcs_server|ray::|ray/dashboard|autoscaler|sweeps/|log_monitor")
    return {pid: line for pid, line in host.processes().items() if kinds.search(line)}
