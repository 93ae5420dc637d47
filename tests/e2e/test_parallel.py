"""Eight chats on one model at once, each with a slot of its own: all have begun before any has ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, linked_store, start_server
from tests.fakes.processes import until

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


def test_giants_leave_a_slot_to_others_and_cost_what_their_window_costs(server: ServerProcess) -> None:
    """Eight prompts of 3 MB, of which a window is left: tokenizing all of one took longer than this test."""
    giant = "It was the best of times, it was the worst of times. " * 57_000
    options = {"num_ctx": 256, "num_predict": 2, "temperature": 0}

    def ask(prompt: str) -> Any:
        return server.post(
            "/api/generate", {"model": "smollm2:135m", "prompt": prompt, "raw": True, "options": options}
        )

    ask("Hello")
    with ThreadPoolExecutor(8) as pool:
        giants = [pool.submit(ask, f"{number} {giant}") for number in range(8)]
        until(lambda: len(server.request("GET", "/api/requests")["requests"]) > 3, 30, "more giants than slots")
        assert ask("Hello again")["eval_count"] == 2
        assert not all(each.done() for each in giants)
        for each in giants:
            (warning,) = each.result()["warnings"]
            assert "at least" in warning["message"]
            assert each.result()["prompt_eval_count"] <= 256
