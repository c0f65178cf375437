"""Runs hosts of one's own as a Ray cluster: what `ray up` and `ray down` do to machines that others use too.

Ray's provider for given hosts brings a cluster down by ending every Ray process that it can see on the head, whoever
started it, forgets the workers, and trusts whatever host answers. This one ends only what this cluster started, on
every host, and keeps the keys of hosts it has met. A cluster file names it as `module: certvae.cluster.hosts.Hosts`.
"""

import logging
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.local.node_provider import ClusterState, LocalNodeProvider
from ray.autoscaler.node_provider import NodeProvider

NODE_TYPE = "host"
STOP = "~/certvae/certvae/cluster/node.sh stop"
SSH_SECONDS = 10
_RAY_DOWN = ["ray", "stop"]  # what Ray sends to the head to bring a cluster down

logger = logging.getLogger(__name__)


class Hosts(LocalNodeProvider):
    """A head and workers with fixed addresses, reached by ssh.

    Args:
        provider_config: `head_ip`, `worker_ips`, and optionally `external_head_ip` for a launcher that is outside.
        cluster_name: names the file that remembers which hosts were set up.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str):
        NodeProvider.__init__(self, provider_config, cluster_name)
        # Not in /tmp/ray, which may belong to somebody else on this machine.
        folder = Path.home() / ".certvae" / "clusters"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = str(folder / cluster_name)
        self.state = ClusterState(f"{stem}.lock", f"{stem}.state", provider_config)
        self.use_coordinator = False

    def get_command_runner(
        self,
        log_prefix: str,
        node_id: str,
        auth_config: dict[str, Any],
        cluster_name: str,
        process_runner: Any,
        use_internal_ip: bool,
        docker_config: dict[str, Any] | None = None,  # noqa: ARG002 - Ray's signature; no containers here
    ) -> "OurHost":
        """How to run commands on a host."""
        return OurHost(log_prefix, node_id, self, auth_config, cluster_name, process_runner, use_internal_ip)

    def terminate_node(self, node_id: str) -> None:
        """Ends what this cluster started on a host; one that does not answer has its Ray end within a minute."""
        auth = self.provider_config["auth"]
        runner = self.get_command_runner("", node_id, auth, self.cluster_name, subprocess, False)
        try:
            runner.run(STOP, timeout=SSH_SECONDS, silent=True)
        except Exception as error:  # Ray's runners raise what click, subprocess or ssh gave them
            logger.warning("%s: not stopped from here (%s); its Ray ends when the head is gone", node_id, error)
        super().terminate_node(node_id)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Derives from the addresses what Ray wants to be told besides them."""
        config = deepcopy(cluster_config)
        provider = config["provider"]
        workers = len(provider["worker_ips"])
        provider["auth"] = config["auth"]
        config["max_workers"] = workers
        config["available_node_types"][NODE_TYPE] |= {"min_workers": workers, "max_workers": workers}
        head = f"export RAY_HEAD_IP={provider['head_ip']}; "
        config["head_start_ray_commands"] = [head + command for command in config["head_start_ray_commands"]]
        return config

    def prepare_for_head_node(self, cluster_config: dict[str, Any]) -> dict[str, Any]:
        """The head reaches the workers with the key that it has been given."""
        cluster_config["provider"]["auth"] = cluster_config["auth"]
        return cluster_config


class OurHost(SSHCommandRunner):
    """Commands over ssh to a host that has other users and keeps its key."""

    def __init__(self, *where: Any):
        super().__init__(*where)
        self.ssh_options.arg_dict |= {"StrictHostKeyChecking": "accept-new", "UserKnownHostsFile": None}

    def run(self, cmd: str | None = None, *how: Any, **further: Any) -> Any:
        """Runs a command; Ray's own for bringing a cluster down becomes ours."""
        return super().run(STOP if cmd is not None and cmd.split() == _RAY_DOWN else cmd, *how, **further)
