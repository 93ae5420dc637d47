"""How long a load takes beside a llama-server built here."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest
from tests.bench import llama_server
from tests.bench.contenders import build_kernels, load_s, serve

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not llama_server.BINARY.exists(), reason="python -m tests.bench.llama_server makes it"),
]
ROUNDS = 12
PORT = 11498
# times as long as the llama-server; without kernels of ours the caches of all slots are written
WITH_KERNELS, WITHOUT = 1.2, 2.5


@pytest.mark.parametrize(("kernels", "most"), [("auto", WITH_KERNELS), ("off", WITHOUT)])
def test_a_small_model_is_ready_as_fast_as_from_a_llama_server(
    tmp_path: Path, models_dir: Path, kernels: str, most: float
) -> None:
    model = models_dir / "smollm2.gguf"
    if kernels == "auto":
        build_kernels(tmp_path / "now" / "home")
    server = serve(tmp_path / "now", model, {"CORRAL_KERNELS": kernels})
    try:
        load_s(server, "m")
        pairs = [(load_s(server, "m"), llama_server.load_s(model, PORT)) for _ in range(ROUNDS)]
    finally:
        server.stop()
        shutil.rmtree(tmp_path / "now")
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"\nload, kernels {kernels}: {ratio:.2f}; s {[tuple(round(each, 2) for each in pair) for pair in pairs]}")
    assert ratio <= most
