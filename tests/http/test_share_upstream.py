"""Pull-through: others get from a sharing server what it fetches for them, once, while it arrives."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.server import RunningServer, running_server

from corral.names import ModelName
from corral.store.manifests import MODEL

WEIGHTS = hashlib.shake_256(b"weights").digest(1_200_000)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().serve() as registry:
        registry.add_model("library/far", "1", {MODEL: WEIGHTS})
        registry.add_model("secret/far", "1", {MODEL: WEIGHTS})
        yield registry


@pytest.fixture
async def server(upstream: FakeRegistry, tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(
        tmp_path, share=True, share_upstream=("library/*",), mirrors=(upstream.url,), max_transfer_streams=2
    ) as running:
        yield running


async def asked(server: RunningServer, path: str, **headers: str) -> tuple[int, bytes]:
    async with server.http.get(f"{server.url}/v2/{path}", headers=headers) as answer:
        return answer.status, await answer.read()


async def until_stored(server: RunningServer) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(server.deps.store.manifests.names):
            await asyncio.sleep(0.02)


async def test_many_askers_get_one_download_while_it_arrives(server: RunningServer, upstream: FakeRegistry) -> None:
    upstream.pace_s = 0.005
    raw = upstream.manifests["library/far", "1"]
    answers = await asyncio.gather(*(asked(server, "library/far/manifests/1") for _ in range(5)))
    assert set(answers) == {(200, raw)}
    assert not await asyncio.to_thread(server.deps.store.manifests.names)  # it is still on its way
    digest = digest_of(WEIGHTS)
    blobs = await asyncio.gather(*(asked(server, f"library/far/blobs/{digest}") for _ in range(3)))
    assert set(blobs) == {(200, WEIGHTS)}
    await until_stored(server)
    assert sum(seen.method == "GET" and digest in seen.path for seen in upstream.seen) == 1
    assert (await asked(server, "library/far/manifests/1"))[1] == raw
    assert await asked(server, f"library/far/blobs/{digest}", Range="bytes=5-9") == (206, WEIGHTS[5:10])


async def test_ranges_of_what_arrives_are_served(server: RunningServer, upstream: FakeRegistry) -> None:
    upstream.pace_s = 0.005
    await asked(server, "library/far/manifests/1")
    place = f"library/far/blobs/{digest_of(WEIGHTS)}"
    assert await asked(server, place, Range="bytes=1000000-1000099") == (206, WEIGHTS[1_000_000:1_000_100])
    assert await asked(server, place, Range="bytes=1199000-") == (206, WEIGHTS[1_199_000:])
    await until_stored(server)
    name = ModelName.parse("far:1")
    assert (await asyncio.to_thread(server.deps.store.manifests.read, name)).raw == upstream.manifests[
        "library/far", "1"
    ]


async def test_only_what_the_setting_names_is_fetched(server: RunningServer, upstream: FakeRegistry) -> None:
    for path in ("secret/far/manifests/1", "evil.example/library/far/manifests/1", "library/none/manifests/1"):
        assert (await asked(server, path))[0] == 404
    assert {seen.path for seen in upstream.seen} == {"/v2/library/none/manifests/1"}
    assert (await asked(server, f"library/far/blobs/{digest_of(WEIGHTS)}"))[0] == 404


async def test_without_the_setting_nothing_is_fetched(upstream: FakeRegistry, tmp_path: Path) -> None:
    async with running_server(tmp_path, share=True, mirrors=(upstream.url,)) as server:
        assert (await asked(server, "library/far/manifests/1"))[0] == 404
    assert upstream.seen == []


async def test_wrong_bytes_are_never_handed_over_whole(server: RunningServer, upstream: FakeRegistry) -> None:
    upstream.blobs[digest_of(WEIGHTS)] = WEIGHTS[:-1] + b"!"
    upstream.pace_s = 0.001
    await asked(server, "library/far/manifests/1")
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
        await asked(server, f"library/far/blobs/{digest_of(WEIGHTS)}")
    assert not await asyncio.to_thread(server.deps.store.blobs.digests)
