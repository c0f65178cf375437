"""The cluster files that ship, read as Ray reads them."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "sweeps" / "clusters"
NODE = ROOT / "certvae" / "cluster" / "node.sh"
HOSTS = (ROOT / "cluster.yaml", FOLDER / "several_hosts.yaml")
CLOUDS = (FOLDER / "aws.yaml", FOLDER / "gcp.yaml")
KUBERNETES = FOLDER / "kuberay.yaml"
SKYPILOT = FOLDER / "skypilot.yaml"
SLURM = FOLDER / "slurm.sbatch"


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def commands(config: dict[str, Any]) -> list[str]:
    """Everything that `ray up` runs on a node."""
    stages = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return [command for stage in stages for command in config[f"{stage}_commands"]]


def starts(config: dict[str, Any]) -> list[str]:
    """The commands that start Ray."""
    return [command for command in commands(config) if "ray start" in command]
