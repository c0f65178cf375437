"""Where cells run: folders that a worker needs, and the slots of the pool. None of it can change a number."""

import os
from dataclasses import dataclass

from certvae.errors import RayFault


@dataclass(frozen=True)
class Place:
    """Where a worker finds what it needs."""

    store: str
    data_root: str | None
    cache: str
    checkpoint_seconds: float


@dataclass(frozen=True)
class Slots:
    """What one cell gets, and how many run at once."""

    count: int
    cpus: float
    gpus: float
    threads: int

    @property
    def resources(self) -> dict[str, float]:
        return {"cpu": self.cpus, "gpu": self.gpus} if self.gpus else {"cpu": self.cpus}


def local_slots(workers: int | None, per_gpu: int) -> Slots:
    """One slot per share of a GPU that this process may use, or one per CPU core it may use.

    Raises:
        RayFault: when more slots are asked for than there are.
    """
    cores = len(os.sched_getaffinity(0))
    gpus = _gpus()
    most = gpus * per_gpu if gpus else cores
    if workers is not None and workers > most:
        where = f"{gpus} GPUs x {per_gpu}" if gpus else f"{cores} CPU cores"
        raise RayFault(
            1, f"{workers} slots asked for, {most} are there", where=where,
            cause="a slot is a share of a GPU, or a CPU core", remedy="ask for fewer --workers, or raise --per-gpu",
        )  # fmt: skip
    count = workers or most
    return Slots(count, cpus=max(1.0, cores // count) if gpus else 1.0, gpus=1 / per_gpu if gpus else 0.0, threads=1)


def _gpus() -> int:
    import torch  # noqa: PLC0415  (slow to import; a plan or a help text needs none)

    return torch.cuda.device_count()
