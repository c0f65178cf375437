"""Hosts on one machine: each a network, process and mount namespace of its own, with sshd. Needs root on Linux.

A host has its own address, home, /tmp, /run and /dev/shm, so several nodes of one cluster do not meet; it shares the
Python environment of the tests and the folders that it is told to. Killing its first process powers it off.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "nsenter")
NETWORK = "10.77.0"
BRIDGE = "certvae-br"
REPOSITORY = Path(__file__).parents[1]
HOST = r"""
set -eu
name=$1; rig=$2; shift 2
hostname "$name"
mount --make-rprivate /
mount -t tmpfs none /mnt
number=0
for kept in "$rig" "$@"; do
    number=$((number + 1)); mkdir "/mnt/$number"; mount --rbind "$kept" "/mnt/$number"
done
for private in /tmp "$HOME" /run; do mount -t tmpfs none "$private"; done
chmod 1777 /tmp
mount -t tmpfs -o size=2g none /dev/shm
number=0
for kept in "$rig" "$@"; do
    number=$((number + 1)); mkdir -p "$kept"; mount --rbind "/mnt/$number" "$kept"
done
mkdir -p /run/sshd "$HOME/.ssh" "$HOME/certvae"
cp "$rig/key" "$HOME/.ssh/id_ed25519"; cp "$rig/key.pub" "$HOME/.ssh/authorized_keys"; chmod -R go= "$HOME/.ssh"
ln -s "$ENVIRONMENT" "$HOME/certvae/.venv"; cp "$LOCK" "$HOME/certvae/.venv.lock"
exec "$SSHD" -D -o PidFile=none -o HostKey="$rig/host_key" -o PermitRootLogin=prohibit-password -o UsePAM=no \
    -o StrictModes=no -o MaxStartups=100 -E "$rig/$name.sshd"
"""


def missing() -> str:
    """Why there can be no such hosts here, or nothing."""
    if sys.platform != "linux" or os.geteuid():
        return "needs root on Linux"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    probe = subprocess.run(["ip", "netns", "add", "certvae-probe"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", "certvae-probe"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "network namespaces are not allowed here"


@dataclass
class Host:
    """One machine."""

    name: str
    address: str
    process: subprocess.Popen = field(repr=False)

    @property
    def first(self) -> int:
        """The process that holds all others of this host."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def run(self, command: str, seconds: float = 120, *, check: bool = True) -> str:
        """What a command prints on this host, in a shell of root."""
        entered = ["nsenter", f"--target={self.first}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        done = subprocess.run(
            [*entered, "--", "bash", "-c", f"cd {REPOSITORY} && {command}"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done.stdout + done.stderr

    def processes(self) -> dict[int, str]:
        """Process id on this host -> command line."""
        lines = self.run("ps -eo pid=,args=").splitlines()
        return {int(line.split(None, 1)[0]): line.split(None, 1)[1] for line in lines if line.strip()}

    def power_off(self) -> None:
        """Ends everything on this host at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def environment() -> dict[str, str]:
    """That of a login, without what the tests were started with."""
    path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"HOME": str(Path.home()), "PATH": path, "TERM": "dumb", "USER": "root", "LOGNAME": "root"}


@contextlib.contextmanager
def hosts(rig: Path, shared: Sequence[Path], names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts by name, on one bridge; all of it is gone afterwards.

    Args:
        rig: a folder for keys and logs.
        shared: folders that all hosts see at the same path.
    """
    for key in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(rig / key)], check=True)
    (rig / "host.sh").write_text(HOST)
    up: dict[str, Host] = {}
    _ip(f"link add {BRIDGE} type bridge")
    try:
        _ip(f"address add {NETWORK}.254/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for number, name in enumerate(names, 11):
            up[name] = _start(name, f"{NETWORK}.{number}", rig, shared)
        for host in up.values():
            _wait_for_ssh(host)
        yield up
    finally:
        for host in up.values():
            host.power_off()
        for name in names:
            _ip(f"netns delete {name}", check=False)
        _ip(f"link delete {BRIDGE}", check=False)


def _start(name: str, address: str, rig: Path, shared: Sequence[Path]) -> Host:
    _ip(f"netns add {name}")
    _ip(f"link add v-{name} type veth peer name eth0 netns {name}")
    _ip(f"link set v-{name} master {BRIDGE} up")
    _ip(f"-n {name} address add {address}/24 dev eth0")
    _ip(f"-n {name} link set eth0 up")
    _ip(f"-n {name} link set lo up")
    _ip(f"-n {name} route add default via {NETWORK}.254")
    kept = [str(path) for path in (*shared, REPOSITORY, Path(sys.prefix), Path(sys.base_prefix))]
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "--mount"]
    variables = {"ENVIRONMENT": sys.prefix, "LOCK": str(REPOSITORY / "requirements.lock")}
    process = subprocess.Popen(
        ["ip", "netns", "exec", name, *apart, "bash", str(rig / "host.sh"), name, str(rig), *kept],
        env=environment() | variables | {"SSHD": str(shutil.which("sshd"))},
        stdout=(rig / f"{name}.out").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return Host(name, address, process)


def _wait_for_ssh(host: Host) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError, IndexError, FileNotFoundError):
            host.run("exec 3<>/dev/tcp/127.0.0.1/22")
            return
        time.sleep(0.2)
    raise AssertionError(f"no sshd on {host.name}")


def _ip(arguments: str, *, check: bool = True) -> None:
    subprocess.run(["ip", *shlex.split(arguments)], capture_output=True, check=check)
