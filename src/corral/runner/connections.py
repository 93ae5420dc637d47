"""Calls to one runner as bytes: connections made, watched and closed, and what breaks them explained.

Every call has its own connection: a kept one holds an engine thread, and could be closed under a request. What is said
in the calls is client.py's, which has one `Connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from corral.errors import CorralError, EngineError, NodeGone, RunnerDied, RunnerMisbehaved
from corral.runner import answers
from corral.runner.answers import Decode
from corral.runner.bodies import INLINE_WEIGHT
from corral.runner.calls import Call, Calls
from corral.runner.endpoint import Endpoint
from corral.runner.stream import EngineStream

_CONNECT_S = 10.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
_BROKEN = (aiohttp.ClientError, ConnectionError, FileNotFoundError)
Explain = Callable[[], Awaitable[CorralError]]


@dataclass(slots=True)
class _Made:
    """A call under way, and whether the head of its answer has come."""

    calls: Calls
    call: Call | None
    gone_status: int | None
    is_answered: bool = False

    def answered(self, status: int) -> None:
        """The head is there; raises RunnerMisbehaved for a status that is no answer of an engine.

        ConnectionError when it is not the engine's.
        """
        if status == self.gone_status:
            raise ConnectionResetError("the relay knows the engine no more")
        self.is_answered = True
        if self.call is not None:
            self.calls.move(self.call)
        if status != 200 and not 400 <= status < 600:
            raise RunnerMisbehaved(f"status {status}")


class Connections:
    """To one engine. Safe for any number of calls at once.

    endpoint: the way there. explain: asked for the error to raise when a connection breaks. calls: those in flight.
    on_misbehaviour: told of what is no answer, before it is raised.
    """

    def __init__(self, endpoint: Endpoint, explain: Explain | None = None) -> None:
        self.endpoint = endpoint
        self.calls = Calls()  # comments in an answer (`: ping`) do not move them
        self.on_misbehaviour: Callable[[RunnerMisbehaved], None] | None = None
        self._explain = explain or _unexplained
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[EngineStream] = set()
        self._closed = False

    async def answer(
        self,
        method: str,
        path: str,
        decode: Decode,
        max_bytes: int,
        data: bytes | None = None,
        *,
        call: Call | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """What `decode` makes of an answer that comes whole; call: None = it does not count as one in flight."""
        async with self._request(method, path, data, call, timeout_s) as response:
            answer = decode(await _read(response, max_bytes))
            if call is not None:
                self.calls.move(call)
            return answer

    async def is_well(self, path: str, timeout_s: float | None) -> bool:
        """Whether a GET is answered by 200. A refused connection explains nothing: the engine does not listen yet."""
        if self._closed:
            return False
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:  # not _made: a refused connection is no death to be explained (which waits for seconds)
            async with self._open_session().get(f"{self.endpoint.base}{path}", timeout=timeout) as response:
                return response.status == 200
        except (*_BROKEN, TimeoutError):
            return False

    async def close(self) -> None:
        """Drop all connections; calls in flight, and all later ones, end with an error."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, data: bytes | None, call: Call | None, timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S) if timeout_s else _NO_TIMEOUT
        sent = io.BytesIO(data) if data is not None and len(data) > INLINE_WEIGHT else data  # large ones in pieces
        async with self._made(call) as made:
            headers, url = {"Content-Type": "application/json"}, f"{self.endpoint.base}{path}"
            response = await self._open_session().request(
                method, url, data=sent, headers=headers, timeout=timeout, allow_redirects=False
            )
            try:
                made.answered(response.status)
                if response.status != 200:
                    raise _refusal(response.status, await _read(response, answers.MAX_ERROR_BYTES))
                yield response
            finally:
                response.close()

    @contextlib.asynccontextmanager
    async def streamed(self, path: str, data: bytes, call: Call) -> AsyncIterator[EngineStream]:
        """A POST whose answer is read as it comes."""
        async with self._made(call) as made:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    stream = await self.endpoint.stream()
            except TimeoutError as error:
                raise ConnectionError from error
            self._streams.add(stream)
            try:
                stream.send(path, data, self.endpoint.headers)
                status = await stream.head()
                made.answered(status)
                if status != 200:
                    raise _refusal(status, await _read_all(stream, answers.MAX_ERROR_BYTES))
                yield stream
            finally:
                self._streams.discard(stream)
                stream.close()

    @contextlib.asynccontextmanager
    async def _made(self, call: Call | None) -> AsyncIterator[_Made]:
        """While a call is made: it is in flight, and what breaks it is explained."""
        if self._closed:
            raise await self.lost(mid_stream=False)
        made = _Made(self.calls, call, self.endpoint.gone_status)
        with self.calls.add(call) if call is not None else contextlib.nullcontext():
            try:
                yield made
            except aiohttp.ClientResponseError as error:  # no HTTP
                raise self.misbehaved(RunnerMisbehaved(error.message[:200])) from error
            except RunnerMisbehaved as error:
                raise self.misbehaved(error) from error.__cause__
            except _BROKEN as error:
                raise await self.lost(mid_stream=made.is_answered) from error
            except RuntimeError as error:
                if not self._closed:
                    raise
                raise await self.lost(mid_stream=made.is_answered) from error  # aiohttp's, after close()

    def misbehaved(self, error: RunnerMisbehaved) -> RunnerMisbehaved:
        """Tell of what is no answer of an engine; the same error, to be raised."""
        if self.on_misbehaviour is not None:
            self.on_misbehaviour(error)
        return error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self.endpoint.connector(),
                headers=self.endpoint.headers,
                timeout=_NO_TIMEOUT,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def lost(self, *, mid_stream: bool) -> CorralError:
        """The error of a connection that broke; mid_stream: after the head of the answer."""
        error = await self._explain()
        if isinstance(error, NodeGone):
            return error
        if isinstance(error, RunnerDied) and mid_stream and not error.mid_stream:
            return RunnerDied(error.exit_code, error.last_lines, mid_stream=True)
        return error


async def _unexplained() -> CorralError:
    return RunnerDied()


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, bounded; raises RunnerMisbehaved."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > max_bytes:
            raise RunnerMisbehaved(f"more than {max_bytes} bytes")
    return bytes(data)


async def _read_all(stream: EngineStream, max_bytes: int) -> bytes:
    """The same of a stream."""
    data = bytearray()
    while chunk := await stream.read():
        data += chunk
        if len(data) > max_bytes:
            raise RunnerMisbehaved(f"more than {max_bytes} bytes")
    return bytes(data)


def _refusal(status: int, data: bytes) -> EngineError:
    return EngineError(*answers.error_fields(status, data))
