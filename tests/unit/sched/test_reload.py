"""When a loaded runner can serve a request that asks for something else. Rows: spec native-api 7.5 and 11.3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.runner.spec import RunnerSpec
from corral.sched.reload import needs_reload

BASE = RunnerSpec(Path("/m"))
CTX = frozenset({"context_window"})
BATCH = frozenset({"n_batch"})
NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("loaded", "loaded_automatic", "asked", "asked_automatic", "reload"),
    [
        ({}, NONE, {}, NONE, False),
        ({"context_window": 131072}, CTX, {"context_window": 262144}, CTX, False),
        ({"context_window": 131072}, CTX, {"context_window": 262144}, NONE, True),
        ({"context_window": 8192}, NONE, {"context_window": 4096}, CTX, True),
        ({"context_window": 2048}, NONE, {"context_window": 1024}, NONE, True),
        ({"n_batch": 512}, BATCH, {"n_batch": 64}, BATCH, False),
        ({"n_batch": 512, "n_ubatch": 512}, BATCH, {"n_batch": 64, "n_ubatch": 64}, BATCH, False),
        ({"n_batch": 512}, BATCH, {"n_batch": 64}, NONE, True),
        ({"use_mmap": False}, NONE, {"use_mmap": None}, frozenset({"use_mmap"}), False),
        ({"use_mmap": False}, NONE, {"use_mmap": True}, NONE, True),
        ({"num_parallel": 1}, frozenset({"num_parallel"}), {"num_parallel": 4}, frozenset({"num_parallel"}), False),
        ({"n_gpu_layers": 10}, NONE, {"n_gpu_layers": -1}, NONE, False),
        ({"n_gpu_layers": -1}, NONE, {"n_gpu_layers": 10}, NONE, True),
        ({"context_shift": True}, NONE, {"context_shift": False}, NONE, True),
        ({"adapter_paths": ()}, NONE, {"adapter_paths": (Path("/l"),)}, NONE, True),
        ({"chat_template": None}, NONE, {"chat_template": "chatml"}, NONE, True),
        ({"n_threads": 4}, NONE, {"n_threads": 2}, NONE, True),
    ],
)
def test_reload_rules(
    loaded: dict[str, Any],
    loaded_automatic: frozenset[str],
    asked: dict[str, Any],
    asked_automatic: frozenset[str],
    reload: bool,
) -> None:
    have, wish = replace(BASE, **loaded), replace(BASE, **asked)
    assert needs_reload(have, loaded_automatic, wish, asked_automatic) is reload
