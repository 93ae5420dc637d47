"""llama.cpp's HTTP protocol over a runner's Unix socket: the one way the server talks to an engine.

Every call has its own connection: a kept one holds an engine thread, and could be closed under a request. Leaving an
iteration early (break, aclose, cancellation) closes the connection, which is how the engine learns to stop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from corral.aio import run_blocking
from corral.errors import CorralError, EngineError, RunnerDied
from corral.runner.sse import EventParser

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
_CALLS_AT_ONCE = 16
_INLINE_WEIGHT = 64 * 1024  # a body of so many characters is written in well under a millisecond
_BROKEN = (aiohttp.ClientError, ConnectionError, FileNotFoundError)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Explain = Callable[[], Awaitable[CorralError]]


@dataclass(slots=True)
class Sharing:
    """How many requests a runner serves, and how many of them answer already. Kept by those who make the calls."""

    requests: int = 0
    answering: int = 0


class RunnerClient:
    """Calls to one runner. Safe for any number of calls at once.

    socket_path: the engine's socket. explain: asked for the error to raise when the connection breaks; it may wait for
    the process to be reaped. Errors of every call: EngineError when the engine refuses or fails it, and what
    `explain` answers (RunnerDied, RunnerHung) when the runner is gone. Cancellation closes the connection.
    """

    def __init__(self, socket_path: Path, explain: Explain | None = None) -> None:
        self.socket_path = socket_path
        self.in_flight = 0
        self.sharing = Sharing()
        self.last_progress = time.monotonic()  # when an answer last moved; comments (`: ping`) do not count
        self.on_busy: Callable[[], None] | None = None  # called when in_flight leaves 0
        self._explain = explain or _unexplained
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<RunnerClient {self.socket_path} in_flight={self.in_flight}>"

    async def completion(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Events of /completion as the engine words them; the last has `"stop": true`.

        `prompt_progress` events arrive only when the body asks with `return_progress`.
        """
        async with contextlib.aclosing(self._events("/completion", body)) as events:
            async for event in events:
                yield event
                if event.get("stop"):
                    return
        raise await self._lost(mid_stream=True)

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Chunks of /v1/chat/completions up to the `[DONE]` mark."""
        parser = EventParser()
        async with contextlib.aclosing(self._events("/v1/chat/completions", body, parser)) as events:
            async for event in events:
                yield event
        if not parser.finished:
            raise await self._lost(mid_stream=True)

    async def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of a text; add_special adds what the model wants around a prompt (BOS, EOS)."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        answer = await self._call("POST", "/tokenize", body)
        return list(answer["tokens"])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids; incomplete UTF-8 is replaced."""
        answer = await self._call("POST", "/detokenize", {"tokens": list(tokens)})
        return str(answer["content"])

    async def apply_template(self, body: dict[str, Any]) -> str:
        """The prompt that the model's Jinja template makes of a chat body."""
        answer = await self._call("POST", "/apply-template", body)
        return str(answer["prompt"])

    async def embeddings(
        self, inputs: Sequence[str | list[int]], *, normalize: int | None = None
    ) -> list[tuple[list[float], int]]:
        """One (vector[n_embd], prompt tokens) per input, in order.

        normalize: the engine's `embd_normalize` (-1 none, 2 Euclidean); None = its default. Values are float32.
        """
        if len(inputs) > 1:  # the answer only has the sum of the tokens, so count them here
            inputs = await self._embedding_tokens(inputs)
        body: dict[str, Any] = {"input": inputs[0] if len(inputs) == 1 else list(inputs), "encoding_format": "base64"}
        if normalize is not None:
            body["embd_normalize"] = normalize
        answer = await self._call("POST", "/v1/embeddings", body)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = [_floats(row["embedding"]) for row in rows]
        if len(inputs) == 1:
            return [(vectors[0], int(answer["usage"]["prompt_tokens"]))]
        return [(vector, len(tokens)) for vector, tokens in zip(vectors, inputs, strict=True)]

    async def _embedding_tokens(self, inputs: Sequence[str | list[int]]) -> list[list[int]]:
        """Inputs as the engine would tokenize them, a bounded number at a time."""
        limit = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def tokens(text: str | list[int]) -> list[int]:
            if not isinstance(text, str):
                return text
            async with limit:
                return await self.tokenize(text, add_special=True)

        return list(await asyncio.gather(*map(tokens, inputs)))

    async def rerank(self, query: str, documents: Sequence[str]) -> tuple[list[tuple[int, float]], int]:
        """((index, score) best first, prompt tokens in all) of documents for a query."""
        answer = await self._call("POST", "/v1/rerank", {"query": query, "documents": list(documents)})
        scores = [(int(row["index"]), float(row["relevance_score"])) for row in answer["results"]]
        return scores, int(answer["usage"]["prompt_tokens"])

    async def systemone(self, body: dict[str, Any]) -> dict[str, Any]:
        """A decision model's answer; EngineError 501 when the model is none."""
        answer: dict[str, Any] = await self._call("POST", "/v1/systemone", body)
        return answer

    async def slots(self) -> list[dict[str, Any]]:
        """The state of every slot."""
        answer: list[dict[str, Any]] = await self._call("GET", "/slots")
        return answer

    async def probe(self, timeout_s: float) -> list[dict[str, Any]]:
        """The watchdog's look at the slots: no call in flight, no progress. TimeoutError when no answer comes."""
        async with self._request("GET", "/slots", None, timeout_s, counted=False) as response:
            answer: list[dict[str, Any]] = _decode(await response.read())
            return answer

    async def props(self) -> dict[str, Any]:
        """The engine's own description of the model."""
        answer: dict[str, Any] = await self._call("GET", "/props")
        return answer

    async def health(self, timeout_s: float | None = None) -> bool:
        """Whether the model is loaded; False while it loads, does not listen yet, or says nothing in time."""
        if self._closed:
            return False
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:  # not _call: while it starts, a refused connection is no death to be explained (which waits for seconds)
            async with self._open_session().get("http://runner/health", timeout=timeout) as response:
                return response.status == 200
        except (*_BROKEN, TimeoutError):
            return False

    async def save_slot(self, slot: int, filename: str) -> dict[str, Any]:
        """Write a slot's tokens and KV cache to a file of the runner's kv directory; waits while the slot is busy."""
        answer: dict[str, Any] = await self._call("POST", f"/slots/{slot}?action=save", {"filename": filename})
        return answer

    async def restore_slot(self, slot: int, filename: str) -> dict[str, Any]:
        """Load what save_slot wrote; EngineError when the file does not suit the model."""
        answer: dict[str, Any] = await self._call("POST", f"/slots/{slot}?action=restore", {"filename": filename})
        return answer

    async def close(self) -> None:
        """Drop all connections; calls in flight, and all later ones, end with an error."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _events(
        self, path: str, body: dict[str, Any], parser: EventParser | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """The decoded events of one streaming call.

        Progress events are always asked for, because writing one is how a prefilling engine notices that the client
        has left; they are passed on only to a caller who asked.
        """
        wants_progress = bool(body.get("return_progress"))
        parser = parser or EventParser()
        async with self._request("POST", path, {**body, "stream": True, "return_progress": True}) as response:
            async for chunk in response.content.iter_any():
                for payload in parser.feed(chunk):
                    self.last_progress = time.monotonic()
                    event = _decode(payload)
                    if "error" in event:
                        raise _engine_error(500, event["error"])
                    if wants_progress or "prompt_progress" not in event:
                        yield event

    async def _call(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        async with self._request(method, path, body, timeout_s) as response:
            answer = _decode(await response.read())
            self.last_progress = time.monotonic()
            return answer

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Any = None, timeout_s: float | None = None, *, counted: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=10.0) if timeout_s else _NO_TIMEOUT
        data = None if body is None else await _encoded(body)
        if self._closed:
            raise await self._lost(mid_stream=False)
        with self._counted() if counted else contextlib.nullcontext():
            response: aiohttp.ClientResponse | None = None
            try:
                session = self._open_session()
                headers = {"Content-Type": "application/json"}
                response = await session.request(
                    method, f"http://runner{path}", data=data, headers=headers, timeout=timeout
                )
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                yield response
            except _BROKEN as error:
                raise await self._lost(mid_stream=response is not None) from error
            finally:
                if response is not None:
                    response.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        if self.in_flight == 1:
            self.last_progress = time.monotonic()
            if self.on_busy is not None:
                self.on_busy()
        try:
            yield
        finally:
            self.in_flight -= 1

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self.socket_path), limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=_NO_TIMEOUT, auto_decompress=False)
        return self._session

    async def _lost(self, *, mid_stream: bool) -> CorralError:
        error = await self._explain()
        if isinstance(error, RunnerDied) and mid_stream and not error.mid_stream:
            return RunnerDied(error.exit_code, error.last_lines, mid_stream=True)
        return error


async def _unexplained() -> CorralError:
    return RunnerDied()


def _refusal(status: int, body: bytes) -> EngineError:
    try:
        answer = _decode(body)
    except msgspec.DecodeError:
        return EngineError(status, body.decode(errors="replace").strip() or f"status {status}")
    return _engine_error(status, answer.get("error", answer) if isinstance(answer, dict) else answer)


def _engine_error(status: int, error: Any) -> EngineError:
    """The engine's own words, out of `{"code", "message", "type"}` or whatever it sent instead."""
    if not isinstance(error, dict):
        return EngineError(status, str(error))
    code = error.get("code")
    return EngineError(
        code if isinstance(code, int) and status == 500 else status,
        str(error.get("message", "")).strip(),
        str(error.get("type", "")),
    )


async def _encoded(body: Any) -> bytes | io.BytesIO:
    """The body to send; one that takes long to write is written on the executor, and sent in pieces."""
    if _weight(body) < _INLINE_WEIGHT:
        return _encode(body)
    return io.BytesIO(await run_blocking(_encode, body))


def _weight(value: Any) -> int:
    """About how many characters a value's JSON has; long lists are not looked into."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_weight, value.values()))
    if isinstance(value, list | tuple):
        return len(value) * 8 + (sum(map(_weight, value)) if len(value) < _INLINE_WEIGHT // 8 else 0)
    return 4


def _floats(text: str) -> list[float]:
    values = array("f")
    values.frombytes(base64.b64decode(text))
    return values.tolist()
