"""A hostile engine cannot grow, stop or confuse the server: each answer is read with a bound and a type.

The engine here is a socket that says what a test tells it to; that a real process is killed for it is shown in
test_hostile_runner.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.errors import EngineError, RunnerDied, RunnerMisbehaved
from corral.runner.client import RunnerClient
from corral.runner.endpoint import UnixSocket

GROWTH_BYTES = 100 * 2**20
PATIENCE_S = 60.0  # on a busy host; none of this takes a second by itself
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Call = Callable[[RunnerClient], Awaitable[Any]]


class Engine:
    """Answers every request with `answer`, piece by piece, until the peer has gone."""

    def __init__(self, socket_path: Path) -> None:
        self.client = RunnerClient(UnixSocket(socket_path))
        self.client.connections.on_misbehaviour = lambda error: self.told.append(error)
        self.told: list[RunnerMisbehaved] = []
        self.answer: Iterable[bytes] = ()
        self.sent_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            await reader.readexactly(length)
            for piece in self.answer:
                writer.write(piece)
                self.sent_bytes += len(piece)
                await writer.drain()
        writer.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="he-") as folder:
        made = Engine(Path(folder) / "s")
        server = await asyncio.start_unix_server(made.serve, folder + "/s")
        yield made
        await made.client.close()
        server.close()


def whole(body: bytes) -> Iterator[bytes]:
    yield OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def said(value: Any) -> Iterator[bytes]:
    return whole(json.dumps(value).encode())


def endless(piece: bytes, start: bytes = b"") -> Iterator[bytes]:
    yield OK + b"\r\n" + start
    yield from itertools.repeat(piece)


def events(*values: Any) -> Iterator[bytes]:
    return whole(b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values))


async def completion(client: RunnerClient, **body: Any) -> list[dict[str, Any]]:
    return [event async for event in client.completion({"prompt": "a", "n_predict": 10, **body})]


async def chat(client: RunnerClient, **body: Any) -> list[dict[str, Any]]:
    return [chunk async for chunk in client.chat({"messages": [], "n_predict": 10, **body})]


CALLS: dict[str, Call] = {
    "props": lambda client: client.props(),
    "slots": lambda client: client.slots(),
    "probe": lambda client: client.probe(60.0),
    "tokenize": lambda client: client.tokenize("some text"),
    "count_tokens": lambda client: client.count_tokens("some text"),
    "detokenize": lambda client: client.detokenize([1, 2]),
    "apply_template": lambda client: client.apply_template({"messages": []}),
    "embeddings": lambda client: client.embeddings(["a"]),
    "rerank": lambda client: client.rerank("a", ["b", "c"]),
    "systemone": lambda client: client.systemone({}),
    "save_slot": lambda client: client.save_slot(0, "x"),
    "restore_slot": lambda client: client.restore_slot(0, "x"),
    "completion": completion,
    "chat": chat,
}
TIMINGS = {"prompt_n": 1, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 1.0}


async def refused(engine: Engine, call: Call) -> RunnerMisbehaved:
    """The call ends in the one error, told to whoever ends the runner, without the server having grown."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RunnerMisbehaved) as caught:
            await call(engine.client)
    assert engine.told == [caught.value]
    assert len(engine.client.calls) == 0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH_BYTES
    assert time.monotonic() - began < PATIENCE_S
    return caught.value


# ---- answers without end, to every call


@pytest.mark.parametrize("name", CALLS)
async def test_a_body_without_end(engine: Engine, name: str) -> None:
    engine.answer = endless(b"x" * 65536)
    await refused(engine, CALLS[name])


@pytest.mark.parametrize("name", CALLS)
async def test_blanks_without_end(engine: Engine, name: str) -> None:
    engine.answer = endless(b" " * 65536, b"[")
    await refused(engine, CALLS[name])


@pytest.mark.parametrize("name", CALLS)
async def test_an_error_body_without_end(engine: Engine, name: str) -> None:
    def answer() -> Iterator[bytes]:
        yield b"HTTP/1.1 500 Oops\r\n\r\n"
        yield from itertools.repeat(b'{"error": "' + b"x" * 65536)

    engine.answer = answer()
    await refused(engine, CALLS[name])


# ---- what is no HTTP, or none that an engine speaks

HEADS = {
    "no status line": [b"hello\r\n\r\n"],
    "another protocol": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10],
    "a long header": [OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n"],
    "a long name of a header": [OK + b"x" * 100_000 + b": x\r\n\r\n"],
    "many headers": [OK + b"".join(b"X-%d: x\r\n" % n for n in range(1000)) + b"\r\n"],
    "headers without end": itertools.chain([OK], itertools.repeat(b"X: x\r\n" * 1000)),
    "a long status line": [b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n"],
    "a length that is none": [OK + b"Content-Length: -5\r\n\r\n"],
    "two lengths": [OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}"],
    "a redirect": [b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"],
    "no content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "a status of its own": [b"HTTP/1.1 799 Hm\r\nContent-Length: 0\r\n\r\n"],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["props", "completion"])
async def test_what_is_no_http(engine: Engine, head: str, name: str) -> None:
    engine.answer = list(itertools.islice(HEADS[head], 1000))
    await refused(engine, CALLS[name])


async def test_cookies_are_not_kept(engine: Engine) -> None:
    for number in range(20):
        cookie = f"Set-Cookie: c{number}={'x' * 4000}\r\n".encode()
        engine.answer = [OK + cookie + b"Content-Length: 2\r\n\r\n{}"]
        await engine.client.props()
    assert engine.client.connections._session is not None
    assert len(engine.client.connections._session.cookie_jar) == 0


# ---- what is no JSON, or not of the right form

NO_JSON = [b"", b"{", b"\xff\xfe", b'{"a": 1}}', b"NaN", b"[" * 100_000, b'{"x":' * 50_000, b"<html>"]


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
@pytest.mark.parametrize("name", [name for name in CALLS if name not in {"completion", "chat"}])
async def test_what_is_no_json(engine: Engine, name: str, body: bytes) -> None:
    engine.answer = whole(body)
    await refused(engine, CALLS[name])


WRONG: dict[str, list[Any]] = {
    "props": [
        [], 5, None, {"total_slots": "4"}, {"total_slots": -1}, {"total_slots": 10**9}, {"total_slots": 10**30},
        {"total_slots": None}, {"default_generation_settings": []}, {"default_generation_settings": {"n_ctx": 1e300}},
        {"build_info": {}}, {"build_info": "x" * 10_000}, {"media_marker": 5},
    ],
    "slots": [
        {}, None, [5], [{}], [{"id": 0}], [{"id": "../../x", "is_processing": False}], [{"id": -1, "is_processing": 0}],
        [{"id": 0, "is_processing": False, "n_prompt_tokens": "many"}], [{"id": 0, "is_processing": True}] * 5000,
    ],
    "tokenize": [
        [], {}, {"tokens": None}, {"tokens": "abc"}, {"tokens": [-1]}, {"tokens": ["a"]}, {"tokens": [1.5]},
        {"tokens": [2**31]}, {"tokens": [[1]]}, {"tokens": {"0": 1}},
    ],
    "count_tokens": [
        [], {}, {"tokens": None}, {"tokens": "abc"}, {"tokens": [-1]}, {"tokens": ["a"]}, {"tokens": [1.5]},
        {"tokens": [[1]]}, {"tokens": {"0": 1}}, {"tokens": [1], "more": [1]},
    ],
    "detokenize": [{}, {"content": None}, {"content": 5}, {"content": ["a"]}],
    "apply_template": [{}, {"prompt": None}, {"prompt": []}],
    "embeddings": [
        {}, {"data": []}, {"data": [], "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 0, "embedding": "!!!!"}], "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 0, "embedding": "AAA="}], "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 1, "embedding": "AAAAAA=="}], "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 0, "embedding": "AAAAAA=="}] * 2, "usage": {"prompt_tokens": 1}},
        {"data": [{"index": 0, "embedding": "AAAAAA=="}], "usage": {"prompt_tokens": -1}},
        {"data": [{"index": 0, "embedding": "AAAA" * 2**18}], "usage": {"prompt_tokens": 1}},
    ],
    "rerank": [
        {}, {"results": [], "usage": {"prompt_tokens": 1}},
        {"results": [{"index": 0, "relevance_score": 1.0}] * 2, "usage": {"prompt_tokens": 1}},
        {"results": [{"index": n, "relevance_score": 1.0} for n in (0, 7)], "usage": {"prompt_tokens": 1}},
        {"results": [{"index": n, "relevance_score": "1"} for n in (0, 1)], "usage": {"prompt_tokens": 1}},
    ],
    "systemone": [[], "x", 5, None],
    "restore_slot": [[], "x", 5, None],
}  # fmt: skip


@pytest.mark.parametrize(("name", "place"), [(name, place) for name in WRONG for place in range(len(WRONG[name]))])
async def test_an_answer_of_another_form(engine: Engine, name: str, place: int) -> None:
    engine.answer = said(WRONG[name][place])
    await refused(engine, CALLS[name])


# ---- streams

WRONG_EVENTS: list[Any] = [
    5, [], "x", None, {}, {"x": 1},
    {"content": None}, {"content": 5}, {"content": ["a"]}, {"content": "a", "stop": "yes"},
    {"content": "a", "tokens_evaluated": -1}, {"content": "a", "tokens_evaluated": 1e300},
    {"content": "a", "completion_probabilities": {}}, {"content": "a", "completion_probabilities": [{"token": "a"}]},
    {"content": "a", "completion_probabilities": [{"token": 5, "logprob": 0}]},
    {"content": "a", "completion_probabilities": [{"token": "a", "logprob": "x"}]},
    {"content": "a", "completion_probabilities": [{"token": "x" * 5000, "logprob": 0}]},
    {"content": "", "stop": True, "timings": 5}, {"content": "", "stop": True, "timings": {}},
    {"content": "", "stop": True, "timings": {**TIMINGS, "predicted_n": -1}},
    {"content": "", "stop": True, "timings": {**TIMINGS, "predicted_n": 10**40}},
    {"content": "", "stop": True, "timings": {**TIMINGS, "predicted_ms": "1"}},
    {"content": "", "stop": True, "stopping_word": 5},
    {"prompt_progress": {}}, {"prompt_progress": []}, {"prompt_progress": {"total": 1, "cache": -1, "processed": 0}},
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(WRONG_EVENTS)))
async def test_an_event_of_another_form(engine: Engine, place: int) -> None:
    engine.answer = events({"content": "a"}, WRONG_EVENTS[place])
    await refused(engine, completion)


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta}]}


WRONG_CHUNKS: list[Any] = [
    5, [], None, {"choices": 5}, {"choices": [5]}, {"choices": [{}] * 100}, {"choices": [{"delta": 5}]},
    {"choices": [{"delta": {}, "finish_reason": 5}]}, {"timings": {}}, {"prompt_progress": 5},
    chunk(content=5), chunk(content=["a"]), chunk(reasoning_content={}), chunk(tool_calls=5), chunk(tool_calls=[5]),
    chunk(tool_calls=[{"index": -1}]), chunk(tool_calls=[{"index": 10**9}]), chunk(tool_calls=[{"index": "0"}]),
    chunk(tool_calls=[{"function": 5}]), chunk(tool_calls=[{"function": {"name": 5}}]),
    chunk(tool_calls=[{"function": {"arguments": {"a": 1}}}]), chunk(tool_calls=[{"id": 5}]),
    chunk(tool_calls=[{"index": 0}] * 1000),
    {"choices": [{"delta": {}, "logprobs": 5}]}, {"choices": [{"delta": {}, "logprobs": {"content": [5]}}]},
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(WRONG_CHUNKS)))
async def test_a_chunk_of_another_form(engine: Engine, place: int) -> None:
    engine.answer = events(chunk(content="a"), WRONG_CHUNKS[place])
    await refused(engine, chat)


async def probable(client: RunnerClient) -> list[dict[str, Any]]:
    return await completion(client, n_probs=2)


PROGRESS = {"prompt_progress": {"total": 5, "cache": 0, "processed": 1}}
ENTRY = {"token": "a", "logprob": -1.0}
FLOODS: dict[str, tuple[Call, Any]] = {
    "text": (completion, {"content": "word " * 100}),
    "single letters": (completion, {"content": "a"}),
    "empty pieces": (completion, {"content": ""}),
    "reports": (completion, PROGRESS),
    "probabilities": (probable, {"content": "", "completion_probabilities": [ENTRY]}),
    "alternatives": (
        probable, {"content": "", "completion_probabilities": [{**ENTRY, "top_logprobs": [ENTRY] * 100}]},
    ),
    "chunks of text": (chat, chunk(content="word " * 100)),
    "chunks of thought": (chat, chunk(reasoning_content="word " * 100)),
    "chunks of nothing": (chat, {}),
    "pieces of a call": (chat, chunk(tool_calls=[{"index": 0, "function": {"arguments": "x" * 100}}])),
    "calls": (chat, chunk(tool_calls=[{"index": 1, "function": {"name": "x" * 100}}])),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
async def test_a_stream_without_end(engine: Engine, name: str) -> None:
    call, event = FLOODS[name]
    engine.answer = endless(b"data: " + json.dumps(event).encode() + b"\n\n")
    await refused(engine, call)
    assert engine.sent_bytes < 50 * 2**20


async def test_lines_without_end(engine: Engine) -> None:
    engine.answer = endless(b"x" * 65536, b"data: ")
    error = await refused(engine, completion)
    assert str(error) == "llama-server response stream event exceeded 8 MB limit" or error.what.startswith("far more")


async def test_comments_without_end(engine: Engine) -> None:
    engine.answer = endless(b": ping\n\n" * 1000)
    await refused(engine, completion)


async def test_others_are_served_while_an_engine_floods(engine: Engine) -> None:
    """A thousand tiny events come in one read; the loop is not kept for all of them."""
    waits: list[float] = []

    async def others() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            waits.append(time.monotonic() - began)

    engine.answer = endless((b"data: " + json.dumps({"content": ""}).encode() + b"\n\n") * 1000)
    other = asyncio.create_task(others())
    await refused(engine, completion)
    other.cancel()
    assert len(waits) > 100


async def test_an_answer_longer_than_was_asked_for_is_no_answer(engine: Engine) -> None:
    engine.answer = events(*[{"content": "word " * 50}] * 1000, {"content": "", "stop": True, "timings": TIMINGS})
    await refused(engine, completion)


# ---- what a healthy engine says goes through as before


async def test_an_engines_own_words_stay_its_own(engine: Engine) -> None:
    error = {"error": {"code": 400, "message": "no room", "type": "exceed_context_size_error"}}
    body = json.dumps(error).encode()
    engine.answer = [f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body]
    with pytest.raises(EngineError, match="no room"):
        await engine.client.tokenize("a")
    engine.answer = events({"content": "a"}, {"error": {"code": 10**30, "message": "x" * 100_000, "type": ["?"]}})
    with pytest.raises(EngineError) as caught:
        await completion(engine.client)
    assert caught.value.status == 500
    assert len(caught.value.message) <= 4096
    assert engine.told == []


async def test_an_engine_that_hangs_up_is_dead_and_not_hostile(engine: Engine) -> None:
    engine.answer = [OK + b"\r\n" + b'data: {"content": "a"}\n\n']
    with pytest.raises(RunnerDied):
        await completion(engine.client)
    assert engine.told == []


async def test_fields_that_nobody_reads_may_be_anything(engine: Engine) -> None:
    last = {"content": "", "stop": True, "stop_type": "limit", "timings": {**TIMINGS, "draft_x": {}}, "model": [1]}
    engine.answer = events({"content": "a", "tokens": [-5], "id_slot": None}, last)
    assert [event["content"] for event in await completion(engine.client)] == ["a", ""]


@pytest.mark.parametrize("body", [b'{"tokens":[]}', b'{"tokens":[7]}', b'{ "tokens" : [1, 20,\n300] }\n'])
async def test_tokens_are_counted_as_they_are_read(engine: Engine, body: bytes) -> None:
    engine.answer = whole(body)
    ids = await engine.client.tokenize("a")
    engine.answer = whole(body)
    assert await engine.client.count_tokens("a") == len(ids)
