"""Eight chats on one model at once, each with a slot of its own: all have begun before any has ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, linked_store, start_server

pytestmark = pytest.mark.e2e

CHATS = 8


def test_eight_chats_stream_at_the_same_time(server: ServerProcess, tmp_path: Path) -> None:
    models = linked_store(server.models, tmp_path / "models")
    own = start_server(tmp_path, models=models, env={"CORRAL_NUM_PARALLEL": str(CHATS)})

    def chat(number: int) -> tuple[float, float]:
        """When the first piece came, and when the answer had ended."""
        messages = [{"role": "user", "content": f"Count from {number} upwards, one number a line."}]
        options = {"temperature": 0, "seed": 1, "num_predict": 48, "num_ctx": 512}
        body = {"model": "smollm2:135m", "messages": messages, "options": options}
        times = [time.monotonic() for line in own.stream("/api/chat", body) if line["message"]["content"]]
        return times[0], times[-1]

    try:
        with ThreadPoolExecutor(CHATS) as pool:
            spans = list(pool.map(chat, range(CHATS)))
    finally:
        own.stop()
    assert max(first for first, _ in spans) < min(last for _, last in spans)
