"""Progress bars for what a user waits for."""

from typing import Any

from tqdm import tqdm

PATIENCE = 1.0  # seconds; what ends sooner, or fails, needs no bar


def bar(total: int, label: str | None, **look: Any) -> tqdm:
    """A bar with a label; none without one."""
    return tqdm(total=total, desc=label, disable=label is None, delay=PATIENCE, **look)
