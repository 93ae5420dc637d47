"""`corral tune` on a real server: runners are tried one by one, the choice is remembered and used, none is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
def test_a_model_is_measured_and_the_choice_is_used(serve: Callable[..., ServerProcess]) -> None:
    server = serve(TUNE="off")
    done = subprocess.run(
        [sys.executable, "-m", "corral", "tune", "tiny"],
        env={**os.environ, "CORRAL_HOST": f"127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "measuring: " in done.stderr
    assert done.stdout.startswith("tiny: ")
    assert done.stdout.endswith("tokens/s; used from the next load on\n")
    (entry,) = json.loads((server.home / "tuning.json").read_text()).values()
    assert done.stdout.startswith(f"tiny: {entry['n_threads']} threads")
    assert entry["decode_per_s"] > 0
    assert children(server.pid) == []
    answer = server.post("/api/generate", {"model": "tiny", "prompt": "a", "options": {"num_predict": 2}})
    assert answer["done"]
    assert server.post("/api/tune", {"model": "tiny"}) == {"status": "success"}
