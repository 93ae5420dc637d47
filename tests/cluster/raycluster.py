"""A Ray cluster of virtual nodes in a process of its own, as others would have started one. `python -m` of this module.

Prints its address, and ends when stdin does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Two nodes: n1 and n2."""
    from ray.cluster_utils import Cluster

    share = {
        "num_cpus": 1,
        "num_gpus": 0,
        "object_store_memory": 80 * 2**20,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**share, "node_name": "n1"})
    cluster.add_node(**share, node_name="n2")
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


@contextmanager
def ray_cluster() -> Iterator[tuple[str, int]]:
    """(its address, its process)."""
    with tempfile.TemporaryDirectory(prefix="cr", dir="/tmp") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.raycluster"],
            cwd=ROOT,
            env={**os.environ, "RAY_TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("address "))
            yield line.split()[1], process.pid
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(60)


if __name__ == "__main__":
    main()
