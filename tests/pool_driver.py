"""A driver of its own process, for tests that do something to its cluster meanwhile.

python -m tests.pool_driver FOLDER ADDRESS CELLS        prints {seed: how it ended}; cells wait for the file FOLDER/go
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from certvae.cluster.slots import Place, Slots
from certvae.engine import executor
from certvae.engine.dispatch import Dispatcher, Ended
from certvae.errors import Fault
from certvae.store.store import Store
from tests.ears import Ears
from tests.simulated_pool import undivided

LOCAL = Slots(1, 1.0, 0.0, "not used: a cluster counts its own")


def cell_that_waits(config: Mapping[str, Any], *, place: Place) -> None:
    """Leaves a line with its node, and waits until it may go on."""
    cell, folder = config["cell"][0], Path(place.cache)
    with (folder / "lines").open("a") as lines:
        lines.write(f"{cell.spec.seed} {ray.get_runtime_context().get_node_id()} {os.getpid()}\n")
    while not (folder / "go").exists():
        time.sleep(0.1)
    tune.report({"events": [{"at": "judge"}], "ended": Ended("ok")})


def main(folder: str, address: str, cells: str) -> int:
    """Runs the cells and returns what a command would."""
    store = Store(Path(folder, "store"), fingerprint={})
    ears = Ears.of_seeds(range(int(cells)))
    dispatcher = Dispatcher(ears, lambda spec, only: {}, undivided)  # noqa: ARG005 - nothing is shared here
    try:
        executor.run(dispatcher, Place(str(store.path), None, folder), LOCAL, address=address, work=cell_that_waits)
    except Fault as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    print(json.dumps(ears.kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
