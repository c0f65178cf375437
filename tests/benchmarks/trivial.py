"""A cell that does nothing but end, for 64 workers at once: torch, which real ones load, would be 24 GB of memory.

CERTVAE_CELL_SECONDS lets it wait before: Ray Tune gives a worker that is free to a cell whose own is still starting,
and ends that one, so that cells which end at once keep 64 workers from ever being there.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from certvae.cluster.slots import Place
from certvae.engine import executor  # before Ray itself: it settles what Ray reads when it is imported
from certvae.engine.dispatch import Ended


def trivial(config: Mapping[str, Any], *, place: Place) -> None:
    """Waits, and ends."""
    time.sleep(float(os.environ.get("CERTVAE_CELL_SECONDS", "0")))
    executor.tune.report({"events": [], "ended": Ended("ok")})
