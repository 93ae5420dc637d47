"""A relay that knows the token no more says that the runner is gone; the same status from an engine is its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.errors import CorralError, EngineError, RunnerDied
from corral.runner.client import RunnerClient
from corral.runner.endpoint import Relay, UnixSocket

_REFUSAL = b"HTTP/1.1 401 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def died() -> CorralError:
    return RunnerDied(-9)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_REFUSAL)
    writer.close()


@pytest.fixture
async def relayed() -> AsyncIterator[RunnerClient]:
    """Through a relay that knows nobody."""
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    client = RunnerClient(Relay("127.0.0.1", server.sockets[0].getsockname()[1], "t"), died)
    yield client
    await client.close()
    server.close()
    await server.wait_closed()


async def test_a_stream_through_a_relay_that_knows_nobody_is_a_dead_runners(relayed: RunnerClient) -> None:
    with pytest.raises(RunnerDied) as error:
        await anext(relayed.completion({"prompt": "x"}))
    assert not error.value.mid_stream


async def test_a_call_through_it_too(relayed: RunnerClient) -> None:
    with pytest.raises(RunnerDied) as error:
        await relayed.slots()
    assert not error.value.mid_stream


async def test_an_engine_may_refuse_by_the_same_status(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(refuse, tmp_path / "s.sock")
    client = RunnerClient(UnixSocket(tmp_path / "s.sock"), died)
    with pytest.raises(EngineError):
        await anext(client.completion({"prompt": "x"}))
    await client.close()
    server.close()
    await server.wait_closed()
