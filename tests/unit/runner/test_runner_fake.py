"""The client against the fake runner: real socket, real aiohttp, no engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner import WIDTH, FakeEngine, FakeLauncher, FakeRunner

from corral.errors import EngineError, GrammarLost, RunnerDied, RunnerFailedToStart, RunnerHung
from corral.runner.spec import RunnerSpec


@pytest.fixture
async def runner() -> AsyncIterator[FakeRunner]:
    fake = FakeLauncher().create(RunnerSpec(Path("m.gguf")))
    await fake.start()
    yield fake
    await fake.stop()


async def test_a_completion_ends_with_its_stop_event(runner: FakeRunner) -> None:
    events = [event async for event in runner.client.completion({"prompt": "one two", "n_predict": 3})]
    assert [event["content"] for event in events] == ["Hello", " from", " the", ""]
    assert events[-1]["stop_type"] == "limit"
    assert events[-1]["tokens_evaluated"] == 2
    path, body = runner.engine.bodies[0]
    assert path == "/completion"
    assert body["stream"] is True


async def test_progress_reaches_only_those_who_ask(runner: FakeRunner) -> None:
    runner.engine.prompt_steps = 2
    asked = [e async for e in runner.client.completion({"prompt": "a", "n_predict": 0, "return_progress": True})]
    silent = [e async for e in runner.client.completion({"prompt": "a", "n_predict": 0})]
    assert ["prompt_progress" in event for event in asked] == [True, True, True, False]
    assert ["prompt_progress" in event for event in silent] == [False]
    assert runner.engine.bodies[1][1]["return_progress"] is True  # so that the engine notices who leaves


async def test_a_chat_ends_at_its_done_mark(runner: FakeRunner) -> None:
    chunks = [c async for c in runner.client.chat({"messages": [{"role": "user", "content": "hi"}]})]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert "".join(delta.get("content") or "" for delta in deltas) == runner.engine.reply
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("grammar", [True, False])
async def test_a_grammar_that_was_given_up_fails_the_calls_that_had_one(runner: FakeRunner, grammar: bool) -> None:
    runner.engine.gate = asyncio.Event()
    body: dict[str, Any] = {"prompt": "a", "n_predict": 3} | ({"grammar": "%llguidance {}"} if grammar else {})

    async def events() -> int:
        return len([event async for event in runner.client.completion(body)])

    call = asyncio.create_task(events())
    while len(runner.client.calls) == 0:
        await asyncio.sleep(0)
    runner.client.note_grammar_lost("too complex")
    runner.engine.gate.set()
    if not grammar:
        assert await call == 4
        return
    with pytest.raises(GrammarLost, match="could not hold the answer to its format: too complex"):
        await call
    runner.engine.gate = None
    assert await events() == 4  # later calls have a grammar of their own


async def test_leaving_the_iteration_closes_the_call(runner: FakeRunner) -> None:
    runner.engine.gate = asyncio.Event()
    async with contextlib.aclosing(runner.client.completion({"prompt": "a"})) as events:
        async for _ in events:
            break
    async with asyncio.timeout(30):
        while runner.engine.cancelled == 0:
            await asyncio.sleep(0)
    assert len(runner.client.calls) == 0
    assert runner.engine.active == 0


async def test_an_engine_error_carries_status_and_inner_message(runner: FakeRunner) -> None:
    runner.engine.error = (400, "no room", "exceed_context_size_error")
    with pytest.raises(EngineError) as caught:
        await anext(runner.client.completion({"prompt": "a"}))
    assert (caught.value.status, caught.value.message, caught.value.kind) == (
        400, "no room", "exceed_context_size_error",
    )  # fmt: skip


async def test_an_error_event_in_mid_stream_is_raised(runner: FakeRunner) -> None:
    runner.engine.stream_error = (2, "decode failed")
    stream = runner.client.completion({"prompt": "a"})
    assert [(await anext(stream))["content"] for _ in range(2)] == ["Hello", " from"]
    with pytest.raises(EngineError, match="decode failed"):
        await anext(stream)


async def test_death_in_mid_stream_is_told_with_its_exit_code(runner: FakeRunner) -> None:
    runner.engine.die_after = 1
    with pytest.raises(RunnerDied) as caught:
        _ = [event async for event in runner.client.completion({"prompt": "a"})]
    assert caught.value.exit_code == -9
    assert caught.value.mid_stream
    assert caught.value.last_lines == ("killed by the test",)
    assert runner.closed.is_set()


async def test_a_hang_is_told_as_such(runner: FakeRunner) -> None:
    runner.engine.hang_after = 1
    stream = runner.client.completion({"prompt": "a"})
    assert (await anext(stream))["content"] == "Hello"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await runner.hang_detected()
    with pytest.raises(RunnerHung):
        await waiting


async def test_a_call_to_a_dead_runner_raises_runner_died(runner: FakeRunner) -> None:
    await runner.crash(-11)
    with pytest.raises(RunnerDied) as caught:
        await runner.client.tokenize("x")
    assert not caught.value.mid_stream


async def test_tokens_and_vectors_come_in_order(runner: FakeRunner) -> None:
    tokens = await runner.client.tokenize("one two one")
    assert await runner.client.detokenize(tokens) == "one two one"
    both = await runner.client.embeddings(["one two", tokens])
    assert [count for _, count in both] == [2, 3]
    assert all(len(vector) == WIDTH for vector, _ in both)
    alone = await runner.client.embeddings([tokens])
    assert alone[0] == both[1]


async def test_rerank_gives_index_and_score_best_first(runner: FakeRunner) -> None:
    scores, tokens = await runner.client.rerank("blue", ["red", "blue"])
    assert scores == [(1, 1.0), (0, 0.0)]
    assert tokens == 3


async def test_a_failed_load_is_told_and_leaves_nothing() -> None:
    launcher = FakeLauncher(FakeEngine(load_error="bad magic"))
    fake = launcher.create(RunnerSpec(Path("m.gguf")))
    with pytest.raises(RunnerFailedToStart, match="exit status 1: bad magic"):
        await fake.start()
    assert fake.closed.is_set()
    assert not fake.folder.exists()
