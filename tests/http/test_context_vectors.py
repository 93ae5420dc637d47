"""Windows, reloads and cuts through HTTP: vectors of spec native-api 11.3 and 11.4, seen in the runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.server import CHATML, RunningServer, running_server

TRAINED = 32768


async def load(server: RunningServer, model: str, **options: Any) -> int:
    """Load a model with these options; the window of the runner that serves it."""
    status, _ = await server.post("/api/generate", {"model": model, "options": options})
    assert status == 200
    return server.launcher.runners[-1].spec.context_window


async def test_the_request_wins_over_the_model_over_the_setting(tmp_path: Path) -> None:
    async with running_server(tmp_path, context_length=8192) as server:
        for name, parameters in (("own", {"num_ctx": 16384}), ("plain", None)):
            metadata = {"llama.context_length": TRAINED}
            server.add(name, texts={"template": CHATML}, metadata=metadata, parameters=parameters)
        assert await load(server, "own", num_ctx=4096) == 4096
        assert await load(server, "own") == 16384
        assert await load(server, "plain") == 8192
        assert await load(server, "plain", num_ctx=2) == 4


async def test_a_window_over_the_trained_one_is_the_trained_one_and_reloads_nothing(server: RunningServer) -> None:
    server.add("small", texts={"template": CHATML}, metadata={"llama.context_length": 2048})
    assert await load(server, "small", num_ctx=2048) == 2048
    assert await load(server, "small", num_ctx=262144) == 2048
    assert len(server.launcher.runners) == 1
    assert await load(server, "small", num_ctx=1024) == 1024
    assert len(server.launcher.runners) == 2


async def test_a_request_without_num_ctx_after_an_explicit_one_reloads(server: RunningServer) -> None:
    assert await load(server, "go", num_ctx=1024) == 1024
    assert await load(server, "go") == 4096
    assert len(server.launcher.runners) == 2


async def test_num_predict_reaches_the_engine_bounded_by_ten_windows(server: RunningServer) -> None:
    for asked, sent in ((-1, 20480), (100, 100), (30000, 20480)):
        options = {"num_ctx": 2048, "num_predict": asked}
        await server.post("/api/generate", {"model": "go", "prompt": "x", "options": options})
        bodies = [body for path, body in server.engine.bodies if path == "/completion"]
        assert bodies[-1]["n_predict"] == sent


async def test_nothing_is_dropped_of_a_history_that_may_not_be_cut(server: RunningServer) -> None:
    turns = [("user", "You're a test, Harry!"), ("assistant", "I-I'm a what?"), ("user", "A test. A good one.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    body = {"model": "go", "messages": messages, "options": {"num_ctx": 10}, "truncate": False}
    status, reply = await server.post("/api/chat", body)
    assert (status, reply.get("warnings")) == (200, None)
    whole = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    assert server.engine.bodies[-1][1]["prompt"] == whole + "<|im_start|>assistant\n"
