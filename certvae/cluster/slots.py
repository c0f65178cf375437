"""Where cells run: folders that a worker needs, and the slots of the pool. None of it can change a number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from certvae import fingerprint, machine
from certvae.errors import ConfigFault, RayFault
from certvae.terminal import number_of


@dataclass(frozen=True)
class Place:
    """Where a worker finds what it needs."""

    store: str
    data_root: str | None
    cache: str
    code: tuple[str, ...] = ()
    """Folders in which code of the user is looked for."""
    gpu_share: float = 1.0
    """The share of a GPU's memory that a cell may use."""
    deadline_seconds: float | None = None
    """A cell that takes longer is ended, with a dump of all its stacks."""
    recompute: bool = False
    """What another text of the program had a part in is made again."""


@dataclass(frozen=True)
class Slots:
    """What one cell gets, and how many run at once."""

    count: int
    cpus: float
    """CPU cores per slot, as Ray counts them; torch gets one thread whatever this is."""
    gpus: float
    """Share of a GPU per slot."""
    on: str
    """What a slot is, for messages."""

    def resources(self, *, alone: bool) -> dict[str, float]:
        """What Ray sets aside for a cell; a cell alone gets a whole GPU, or all cores."""
        if self.gpus:
            return {"CPU": self.cpus, "GPU": 1.0 if alone else self.gpus}
        return {"CPU": self.cpus * self.count if alone else self.cpus}


def local_slots(workers: int | None, per_gpu: int, logical_gpus: int) -> Slots:
    """One slot per share of a GPU that this process may use, or one per CPU core it may use.

    Raises:
        ConfigFault: when more slots are asked for than there are.
    """
    cores = machine.cores()
    gpus = logical_gpus or fingerprint.gpu_count()
    most = gpus * per_gpu if gpus else cores
    count = min(workers or most, most)
    if workers is not None and workers > most:
        raise ConfigFault(
            f"{workers} slots asked for, {most} are there",
            "ask for fewer --workers" + (", or raise --per-gpu" if gpus else ""),
            where=f"{gpus} GPUs x {per_gpu}" if gpus else f"{cores} CPU cores",
            cause="a slot is a share of a GPU, or a CPU core where there is none",
        )
    if not gpus:
        return Slots(count, cpus=1.0, gpus=0.0, on="one CPU core each")
    share = "one GPU each" if per_gpu == 1 else f"1/{per_gpu} of a GPU each"
    return Slots(count, cpus=round(cores / most, 3), gpus=1 / per_gpu, on=("logical: " if logical_gpus else "") + share)


def cluster_slots(resources: Sequence[Mapping[str, float]], per_gpu: int, most: int | None = None) -> Slots:
    """Slots of a cluster: one per share of a GPU, or one per CPU core where no node has a GPU.

    Args:
        resources: what Ray counts on each node, by name.
        per_gpu: cells that share a GPU.
        most: at most so many.

    Raises:
        RayFault: when there is neither.
    """
    with_gpus = [node for node in resources if node.get("GPU", 0) >= 1]
    if with_gpus:
        there = sum(int(node["GPU"]) for node in with_gpus) * per_gpu
        cores = min(node.get("CPU", 0) / (int(node["GPU"]) * per_gpu) for node in with_gpus)
        share = "one GPU each" if per_gpu == 1 else f"1/{per_gpu} of a GPU each"
        on = f"{number_of(len(with_gpus), 'node')}, {share}"
        # Rounded down, or the last slot of a node would not fit on it.
        slots = Slots(there, cpus=math.floor(cores * 1000) / 1000, gpus=1 / per_gpu, on=on)
    else:
        there = sum(int(node.get("CPU", 0)) for node in resources)
        slots = Slots(there, cpus=1.0, gpus=0.0, on=f"{number_of(len(resources), 'node')}, one CPU core each")
    if not there:
        raise RayFault(
            "the cluster has no slot: no node with a GPU or a CPU core",
            "wait for the workers (`ray status` lists them), then run the same command again",
            where=number_of(len(resources), "node"),
        )
    return replace(slots, count=min(there, most or there))
