"""Real clusters of several nodes on this machine, with a token and a folder of their own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from ray.cluster_utils import Cluster

from certvae.cluster.local import secret

NODE = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}


@contextmanager
def cluster(nodes: int = 1, **node: object) -> Iterator[Cluster]:
    """A head and workers of two CPU cores each. The socket paths of Ray must be short."""
    with TemporaryDirectory(prefix="rc-") as folder:
        token = Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secret())
        own = {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": folder}
        os.environ |= own
        made = Cluster(initialize_head=True, head_node_args={**NODE, **node})
        try:
            for _ in range(nodes - 1):
                made.add_node(**{**NODE, **node})
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
            for name in own:
                del os.environ[name]
