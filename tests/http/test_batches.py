"""`/v1/files` and `/v1/batches` through OpenAI's own SDK, down to a fake engine."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.fakes.server import CHATML, RunningServer, running_server

from corral.config import Settings
from corral.server.openai.batches import asking, lane

CHAT: Any = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def sdk(server: RunningServer, key: str = "any") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        yield client


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "go", "messages": HELLO, **body}}


async def upload(client: openai.AsyncOpenAI, *lines: Any) -> str:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    return (await client.files.create(file=("in.jsonl", text.encode()), purpose="batch")).id


async def ended(client: openai.AsyncOpenAI, batch_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in {"completed", "failed", "expired", "cancelled"}:
                return batch
            await asyncio.sleep(0.01)


async def results(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    text = (await client.files.content(file_id)).text
    return [json.loads(each) for each in text.splitlines()]


async def make(client: openai.AsyncOpenAI, *lines: Any, endpoint: Any = CHAT) -> Any:
    made = await client.batches.create(
        input_file_id=await upload(client, *lines), endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )
    return await ended(client, made.id)


async def test_files_come_and_go(server: RunningServer) -> None:
    async with sdk(server) as client:
        made = await client.files.create(
            file=("né.jsonl", b"x" * 3_000_000),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (made.object, made.bytes, made.filename, made.purpose) == ("file", 3_000_000, "né.jsonl", "batch")
        assert made.expires_at == made.created_at + 3600
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == b"x" * 3_000_000
        other = await upload(client, "second")
        assert {each.id async for each in client.files.list(limit=1)} == {made.id, other}
        assert [each async for each in client.files.list(purpose="vision")] == []
        assert (await client.files.delete(made.id)).deleted
        for call in (client.files.retrieve, client.files.content, client.files.delete, client.files.retrieve):
            with pytest.raises(openai.NotFoundError, match="No such File object"):
                await call(made.id)
    folder = server.deps.settings.home / "files" / "all"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "'purpose'"),
        ({"purpose": "evil"}, "is not one of"),
        ({"purpose": "batch", "expires_after[seconds]": "1"}, "3600 to 2592000"),
        ({"purpose": "x" * 2000}, "longer than 1024"),
        ({"purpose": "batch", **{f"f{n}": "" for n in range(40)}}, "at most 16 fields"),
    ],
)
async def test_a_wrong_form_leaves_nothing(server: RunningServer, fields: dict[str, str], says: str) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/v1/files", data=fields, files={"file": ("a", b"data")})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert says in answer.json()["error"]["message"]
        cut = {"content-type": "multipart/form-data; boundary=b"}
        start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'
        for body, headers in ((start, cut), (b"", cut), (b"{}", {"content-type": "application/json"})):
            assert (await http.post("/v1/files", content=body, headers=headers)).status_code == 400
    assert [*(server.deps.settings.home / "files").rglob("*.*")] == []


async def test_a_file_over_the_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(tmp_path, files_bytes=1000) as server, sdk(server) as client:
        await upload(client, "x" * 600)
        with pytest.raises(openai.APIStatusError, match="CORRAL_FILES_MAX") as refused:
            await upload(client, "x" * 600)
        assert refused.value.status_code == 413
        monkeypatch.setattr("corral.server.openai.files.handlers.MAX_FILE_BYTES", 900)
        for size in (901, 3_000_000):  # told by the file, and by the head
            with pytest.raises(openai.APIStatusError, match="at most 900 bytes"):
                await upload(client, "x" * size)
    assert len([*(tmp_path / "home" / "files" / "all").iterdir()]) == 2


async def test_lines_tell_how_much_of_their_batch_is_left(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    async def ask(*arguments: Any) -> Any:
        told.append(arguments[-1])
        return await asking.ask(*arguments)

    monkeypatch.setattr(lane, "ask", ask)
    async with sdk(server) as client:
        assert (await make(client, *(line(str(number)) for number in range(6)))).status == "completed"
    assert told[0] == 6
    assert told == sorted(told, reverse=True)
    assert len(told) == 6


async def test_every_line_has_one_result_and_bad_ones_say_why(server: RunningServer) -> None:
    lines = [
        line("one"),
        line("unknown", model="none"),
        line("one"),
        "{broken",
        "",
        line("streamed", stream=True),
        line("elsewhere", url="/v1/embeddings"),
        line("last", max_tokens=1),
        {"custom_id": "", "method": "POST", "url": CHAT, "body": {}},
    ]
    async with sdk(server) as client:
        batch = await make(client, *lines)
        assert (batch.status, batch.endpoint, batch.metadata) == ("completed", CHAT, {"a": "b"})
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (8, 2, 6)
        answered = await results(client, batch.output_file_id)
        assert [each["custom_id"] for each in answered] == ["one", "last"]
        first = answered[0]
        assert first["error"] is None
        assert first["response"]["status_code"] == 200
        assert first["response"]["body"]["choices"][0]["message"]["content"] == server.engine.reply
        assert answered[1]["response"]["body"]["usage"]["completion_tokens"] == 1
        wrong = await results(client, batch.error_file_id)
        assert wrong[0]["response"]["status_code"] == 404
        assert wrong[0]["response"]["body"]["error"]["type"] == "not_found_error"
        said = [(each["custom_id"], each["error"]["code"], each["error"]["line"]) for each in wrong[1:]]
        assert said == [
            ("one", "duplicate_custom_id", 3),
            (None, "invalid_json_line", 4),
            ("streamed", "invalid_body", 6),
            ("elsewhere", "mismatched_url", 7),
            (None, "invalid_line", 9),
        ]
        assert batch.errors is not None
        assert {each.line for each in batch.errors.data or []} == {3, 4, 6, 7, 9}
        assert len({each["id"] for each in answered + wrong}) == 8
        left = server.deps.settings.home / "batches" / "all" / batch.id
        assert [path.name for path in left.iterdir()] == ["batch.json"]


@pytest.mark.parametrize(
    ("endpoint", "body", "at"),
    [
        ("/v1/completions", {"model": "go", "prompt": "Hello"}, "choices"),
        ("/v1/embeddings", {"model": "vectors", "input": ["a", "b"]}, "data"),
        ("/v1/responses", {"model": "go", "input": "Hello"}, "output"),
        ("/v1/messages", {"model": "go", "max_tokens": 4, "messages": HELLO}, "content"),
    ],
)
async def test_every_endpoint_answers(server: RunningServer, endpoint: str, body: dict[str, Any], at: str) -> None:
    async with sdk(server) as client:
        wanted = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
        batch = await make(client, wanted, endpoint=endpoint)
        answered = await results(client, batch.output_file_id)
        assert answered[0]["response"]["body"][at]


async def test_an_unusable_input_fails_as_a_whole(server: RunningServer) -> None:
    async with sdk(server) as client:
        batch = await make(client, "", "  ")
        assert batch.status == "failed"
        assert batch.errors.data[0].code == "empty_file"
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
        source = await upload(client, line("a"))
        wrong: list[Any] = [{"endpoint": "/v1/other"}, {"completion_window": "99y"}, {"metadata": {"k" * 65: ""}}]
        for each in wrong:
            wanted: Any = {"input_file_id": source, "endpoint": CHAT, "completion_window": "24h", **each}
            with pytest.raises(openai.BadRequestError):
                await client.batches.create(**wanted)
        with pytest.raises(openai.NotFoundError, match="No such Batch object"):
            await client.batches.retrieve("batch_none")


async def test_a_cancelled_batch_keeps_what_it_has(server: RunningServer) -> None:
    server.engine.gate = asyncio.Event()
    async with sdk(server) as client:
        source = await upload(client, *(line(str(number)) for number in range(40)))
        made = await client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        await client.files.delete(source)  # it has its own hold on it
        while not server.engine.active:
            await asyncio.sleep(0.01)
        server.engine.gate.set()
        while not (counts := (await client.batches.retrieve(made.id)).request_counts) or not counts.completed:
            await asyncio.sleep(0.005)
        server.engine.gate.clear()
        assert (await client.batches.cancel(made.id)).status == "cancelling"
        batch = await ended(client, made.id)
        assert (batch.status, batch.request_counts.total) == ("cancelled", 40)
        assert 0 < batch.request_counts.completed < 40
        assert len(await results(client, batch.output_file_id)) == batch.request_counts.completed
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            await client.batches.cancel(made.id)
    await server.until_idle()


async def test_lines_give_way_and_are_asked_again(server: RunningServer) -> None:
    """All slots but one may be lines'; the fourth request of others ends one, which is answered later."""
    engine = server.engine
    async with sdk(server) as client:
        engine.gate = asyncio.Event()
        source = await upload(client, *(line(str(number)) for number in range(6)))
        made = await client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        async with asyncio.timeout(10):
            while engine.active < 3:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert engine.active == 3
        body: Any = {"model": "go", "messages": HELLO, "stream": True}
        streams = [await client.chat.completions.create(**body) for _ in range(4)]  # each has its first token
        rows = server.deps.scheduler.requests()
        assert sorted(row.priority for row in rows if row.state == "running") == ["interactive"] * 4
        engine.gate.set()
        for stream in streams:
            assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
        batch = await ended(client, made.id)
        assert batch.request_counts.completed == 6
        assert len({each["custom_id"] for each in await results(client, batch.output_file_id)}) == 6


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (2, 2), (0, 3)])
async def test_so_many_lines_are_asked_at_once(tmp_path: Path, parallel: int, most: int) -> None:
    async with running_server(tmp_path, batch_parallel=parallel) as server, sdk(server) as client:
        server.add("go", texts={"template": CHATML})
        server.engine.gate = asyncio.Event()
        source = await upload(client, *(line(str(number)) for number in range(20)))
        made = await client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        async with asyncio.timeout(10):
            while server.engine.active < most:
                await asyncio.sleep(0.01)
        server.engine.gate.set()
        assert (await ended(client, made.id)).request_counts.completed == 20
        assert server.engine.most_active == most  # by itself: all slots but one


async def test_what_one_key_made_another_does_not_find(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=("one", "two")) as server, sdk(server, "one") as mine:
        server.add("go", texts={"template": CHATML})
        batch = await make(mine, line("a"))
        assert batch.status == "completed"
        async with sdk(server, "two") as theirs:
            assert [each async for each in theirs.files.list()] == []
            assert [each async for each in theirs.batches.list()] == []
            with pytest.raises(openai.NotFoundError):
                await theirs.files.content(batch.output_file_id)
            with pytest.raises(openai.NotFoundError):
                await theirs.batches.retrieve(batch.id)
            with pytest.raises(openai.NotFoundError):
                await theirs.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
            with pytest.raises(openai.BadRequestError):
                await mine.batches.cancel(batch.id)


async def test_lists_come_in_parts(server: RunningServer) -> None:
    async with sdk(server) as client:
        made = [(await make(client, line("a"))).id for _ in range(3)]
        page = await client.batches.list(limit=2)
        assert (len(page.data), page.has_more) == (2, True)
        assert {each.id async for each in client.batches.list(limit=2)} == set(made)
        with pytest.raises(openai.BadRequestError):
            await client.batches.list(limit=101)


async def test_a_server_that_ends_leaves_batches_to_be_gone_on_with(tmp_path: Path) -> None:
    places: dict[str, Any] = {"home": tmp_path / "home", "models": tmp_path / "models"}
    async with running_server(tmp_path, **places) as server, sdk(server) as client:
        server.add("go", texts={"template": CHATML})
        server.engine.gate = asyncio.Event()
        source = await upload(client, *(line(str(number)) for number in range(9)))
        made = await client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        while not server.engine.active:
            await asyncio.sleep(0.01)
    async with running_server(tmp_path, **places) as server, sdk(server) as client:
        batch = await ended(client, made.id)
        assert batch.request_counts.completed == 9
        names = [each["custom_id"] for each in await results(client, batch.output_file_id)]
        assert names == [str(number) for number in range(9)]


async def test_a_batch_whose_time_is_over_says_so_line_by_line(server: RunningServer) -> None:
    server.engine.gate = asyncio.Event()
    async with sdk(server) as client:
        source = await upload(client, line("a"), line("b"))
        made = await client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        await server.deps.batches.close()
        store = server.deps.batches.store("")
        kept = store.get(made.id)
        kept.expires_at = kept.created_at - 1
        store.save(kept)
        await server.deps.batches.start(server.app)
        batch = await ended(client, made.id)
        assert batch.status == "expired"
        wrong = await results(client, batch.error_file_id)
        assert [(each["custom_id"], each["error"]["code"]) for each in wrong] == [
            ("a", "batch_expired"),
            ("b", "batch_expired"),
        ]


def test_the_settings_say_how_much_is_kept() -> None:
    settings = Settings.from_env({"HOME": "/nowhere", "CORRAL_FILES_MAX": "2GiB", "CORRAL_FILES_KEEP": "48h"})
    assert (settings.files_bytes, settings.files_keep_s) == (2 * 2**30, 48 * 3600)
