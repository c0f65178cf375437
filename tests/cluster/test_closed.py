"""One host as `cluster.yaml` starts it: every port on this host alone, nothing without the token, and a clean end."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from certvae.cluster.processes import marked
from tests.cluster_files import HOSTS, read, starts
from tests.cluster_files import NODE as NODE_SCRIPT

LISTENING = "0A"  # a state in the kernel's table
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
NODE = str(NODE_SCRIPT)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def head_command(port: int, client: int, dashboard: int) -> str:
    """The one in `cluster.yaml`, with this checkout, free ports, and without an autoscaler."""
    command = starts(read(HOSTS[0]))[0].replace("~/certvae/certvae/cluster/node.sh", NODE)
    command = command.replace("6390", str(port)).replace("6391", str(client))
    command = re.sub(r" --autoscaling-config=\S+", "", command)
    return f"{command} --dashboard-port={dashboard} --num-cpus=1 --num-gpus=0 --object-store-memory=100000000"


def listening(pids: set[int]) -> set[str]:
    """Hexadecimal addresses on which these processes listen."""
    inodes = set()
    for pid in pids:
        for held in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(held))  # noqa: PTH115 - not a path
            except FileNotFoundError:
                continue
            inodes |= {found[1]} if found else set()
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTENING and row[9] in inodes}


def runs(pid: int) -> bool:
    """A process that has ended may still wait to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answer(url: str, method: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - localhost
        return urllib.request.urlopen(request, timeout=30).status  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's tables of Linux")
def test_one_host_is_closed_and_ends_cleanly():
    # Not pytest's folder: the paths of Ray's sockets must be short.
    with TemporaryDirectory(prefix="cc-") as home:
        environment = {**os.environ, "HOME": home, "CERTVAE_TMP": home}
        for name in ("RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
            environment.pop(name, None)
        path = f"{Path(sys.executable).parent}:{environment['PATH']}"
        how = {"env": environment | {"PATH": path}, "capture_output": True, "text": True, "timeout": 200}
        port, client, dashboard = free_ports(3)
        subprocess.run([NODE, "token"], check=True, **how)
        user = subprocess.run(["id", "-un"], check=True, **how).stdout.strip()
        scratch = f"{home}/certvae-{user}"
        try:
            begun = subprocess.run(["bash", "-c", head_command(port, client, dashboard)], check=False, **how)
            assert begun.returncode == 0, begun.stdout + begun.stderr
            ours = {process.pid for process in marked(scratch)}
            assert len(ours) >= 4
            assert listening(ours) <= LOOPBACK
            assert listening(ours)
            token = Path(home, ".certvae", "token").read_text()
            url = f"http://127.0.0.1:{dashboard}/api/jobs/"
            assert answer(url, "GET", None) == 401
            assert answer(url, "POST", None) == 401
            assert answer(url, "DELETE", None) == 401
            assert answer(url, "GET", "0" * 64) == 403
            assert answer(url, "GET", token) == 200
            joined = f"import ray; ray.init(address='127.0.0.1:{port}'); print(ray.cluster_resources()['CPU'])"
            assert "1.0" in subprocess.run([NODE, "python", "-c", joined], check=True, **how).stdout
            assert Path(scratch).stat().st_mode & 0o777 == 0o700
            assert not [pid for pid in ours if token.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
        finally:
            ended = subprocess.run([NODE, "stop"], check=False, **how)
        assert ended.returncode == 0, ended.stderr
        assert marked(scratch) == set()
        assert not [pid for pid in ours if runs(pid)]
