"""A host whose cores others keep busy: what is chosen automatically decodes half as fast as the best fixed number of
threads at least, whether the others were there before the load or came later, and follows when they leave.
`make bench`; it makes its own load.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, create_golden_models, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

MODEL = "smollm2:135m"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ROUNDS = 3
TOKENS = 32


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    """A busy loop for every core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CORES)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture
def fresh(tmp_path: Path, models_dir: Path) -> Iterator[ServerProcess]:
    env = {"CORRAL_THREADS": "0", "CORRAL_TUNE": "off", "CORRAL_SAVED_CONVERSATIONS": "0"}
    server = start_server(tmp_path, env=env)
    create_golden_models(server, models_dir, MODEL)
    yield server
    server.stop()


def rate(server: ServerProcess, threads: int = 0) -> float:
    """Tokens a second of one answer; threads 0 = what is chosen automatically. Reloads when the number changes."""
    options: dict[str, Any] = {"temperature": 0, "seed": 1, "num_predict": TOKENS, "num_ctx": 1024}
    if threads:
        options["num_thread"] = threads
    body = {"model": MODEL, "prompt": "Count: 1, 2, 3,", "raw": True, "options": options}
    times = [time.perf_counter() for line in server.stream("/api/generate", body) if line["response"]]
    return (len(times) - 1) / (times[-1] - times[0])


def unload(server: ServerProcess) -> None:
    server.post("/api/generate", {"model": MODEL, "keep_alive": 0})
    while server.request("GET", "/api/ps")["models"]:
        time.sleep(0.02)


def best_fixed(server: ServerProcess) -> dict[int, float]:
    """The best of three for 1, 2, ... threads and all cores."""
    counts = sorted({1, 2, CORES // 2, CORES} - {0})
    return {threads: max(rate(server, threads) for _ in range(ROUNDS)) for threads in counts if threads <= CORES}


def test_a_model_loaded_while_others_work_decodes_half_as_fast_as_the_best_threads(fresh: ServerProcess) -> None:
    with busy_host():
        rates = []
        for _ in range(ROUNDS):
            rates.append(rate(fresh))
            unload(fresh)
        fixed = best_fixed(fresh)
    print(f"\nloaded on a busy host: automatic {max(rates):.1f}, fixed {fixed} tokens/s")
    assert max(rates) >= 0.5 * max(fixed.values())


def test_a_model_loaded_before_others_began_to_work_does_too(fresh: ServerProcess) -> None:
    quiet = rate(fresh)
    with busy_host():
        rates = [rate(fresh) for _ in range(ROUNDS)]
        unload(fresh)
        fixed = best_fixed(fresh)
    print(f"\nloaded before: quiet {quiet:.1f}, busy {max(rates):.1f}, fixed {fixed} tokens/s")
    assert max(rates) >= 0.5 * max(fixed.values())


def test_a_model_in_use_follows_the_host_once_it_is_idle(fresh: ServerProcess) -> None:
    def until_threads(count: int) -> None:
        """Conversations with pauses, until the model has been loaded anew with so many threads."""
        deadline = time.monotonic() + 240
        while (model := fresh.request("GET", "/api/ps?verbose=1")["models"][0])["threads"] != count:
            assert time.monotonic() < deadline, f"the model is not loaded anew: {model}"
            for _ in range(ROUNDS):
                rate(fresh)
            time.sleep(7)

    rate(fresh)
    with busy_host():
        until_threads(max(1, CORES // 2))
    until_threads(CORES)
    after = max(rate(fresh) for _ in range(ROUNDS))
    unload(fresh)
    fixed = max(rate(fresh, CORES) for _ in range(ROUNDS))
    print(f"\nloaded anew on the quiet host: automatic {after:.1f}, {CORES} threads {fixed:.1f} tokens/s")
    assert after >= 0.8 * fixed
