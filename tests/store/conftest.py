from pathlib import Path

import pytest

from certvae.store.disk import Disk


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """The folders of a store, without what says that it is one."""
    for name in ("tmp", "obj", "ckpt", "rows", "plan", "quarantine", "lock", "log"):
        (tmp_path / name).mkdir()
    return Disk(tmp_path)
