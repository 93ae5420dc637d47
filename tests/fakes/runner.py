"""A fake runner: llama.cpp's protocol, deterministic, in this process, on a real Unix socket. No model, no sleeping.

`FakeEngine` is the behaviour, shared and switchable while it runs; `FakeRunner` stands in for `RunnerHandle` (state,
start, stop, closed, client); `FakeLauncher` makes them, so that the scheduler and the whole app can run on it.

The text of an answer is `engine.reply`, a word a token, cut at the body's `n_predict`; shapes and field names were
recorded from xllamacpp 2026.10.11549.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import shutil
import struct
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from corral.errors import CorralError, RunnerDied, RunnerFailedToStart, RunnerHung
from corral.runner.client import RunnerClient
from corral.runner.endpoint import UnixSocket
from corral.runner.handle import State
from corral.runner.spec import Planned, RunnerInfo, RunnerMemory, RunnerSpec, SandboxReport

WIDTH = 8  # n_embd of the fake's vectors
_WORD = re.compile(r"\s*\S+|\s+$")
_pids = itertools.count(100_000)


class Died(Exception):
    """Raised inside a handler: the process is gone."""


@dataclass
class FakeEngine:
    """What every runner of one launcher does. Change a field while it runs; the next event obeys."""

    reply: str = "Hello from the fake runner."
    chat_deltas: list[dict[str, Any]] | None = None  # raw deltas of /v1/chat/completions instead of the reply
    stop_type: str = "eos"  # eos or word, when the reply ends by itself
    stopping_word: str = ""
    slots: int = 4
    context_window: int = 4096
    gate: asyncio.Event | None = None  # every event after the first waits for it; set = runs freely
    load_gate: asyncio.Event | None = None  # start() waits for it
    load_error: str = ""  # start() fails with this last line
    error: tuple[int, str, str] | None = None  # (status, message, type) for the next calls instead of an answer
    stream_error: tuple[int, str] | None = None  # (after so many tokens, message): an error event mid-stream
    die_after: int | None = None  # tokens until the process "dies" mid-stream
    on_death: Callable[[], None] | None = None  # called as it dies
    hang_after: int | None = None  # tokens until nothing comes any more
    hung_for_s: float = 30.0  # what RunnerHung will say when the test breaks the hang with runner.hang_detected()
    ignore_sigterm: bool = False  # stop() without grace is needed
    prompt_steps: int = 1  # prompt_progress events before the first token
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # (path, body) of every POST
    cancelled: int = 0  # streams whose client left
    active: int = 0  # streams being answered
    most_active: int = 0
    vocabulary: list[str] = field(default_factory=list)
    refuses: Callable[[list[dict[str, Any]]], str] | None = None  # why the chat template does not take messages, or ""

    def refusal(self, body: dict[str, Any]) -> tuple[int, str, str] | None:
        """The engine's answer to messages that its chat template raises at, trace and all."""
        why = self.refuses(body["messages"]) if self.refuses and "messages" in body else ""
        trace = "Unable to generate parser for this template. Automatic parser generation failed: \n------------\n"
        trace += f"While executing CallExpression at line 1, column 4 in source:\n...\nError: Jinja Exception: {why}"
        return (400, trace, "invalid_request_error") if why else None

    def tokenize(self, text: str) -> list[int]:
        """A token a word (with the blanks before it); the inverse of detokenize."""
        ids = []
        for word in _WORD.findall(text):
            if word not in self.vocabulary:
                self.vocabulary.append(word)
            ids.append(self.vocabulary.index(word) + 10)
        return ids

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Words by id; unknown ids vanish."""
        return "".join(self.vocabulary[t - 10] for t in tokens if 0 <= t - 10 < len(self.vocabulary))


class FakeRunner:
    """A RunnerHandle without a process; its engine answers on a real Unix socket."""

    def __init__(self, spec: RunnerSpec, engine: FakeEngine) -> None:
        self.spec = spec
        self.engine = engine
        self.state = State.STOPPED
        self.closed = asyncio.Event()
        self.exit_code: int | None = None
        self.pid: int | None = None
        self.last_lines: tuple[str, ...] = ()
        self.started = 0
        self.stopped = 0
        self.folder = Path(tempfile.gettempdir()) / f"fake-{uuid.uuid4().hex[:12]}"  # made by start()
        self._server: web.AppRunner | None = None
        self._failure: CorralError | None = None
        self._hanging = asyncio.Event()
        self._transports: set[asyncio.BaseTransport] = set()
        self.client = RunnerClient(UnixSocket(self.folder / "s.sock"), self._explain)
        self.info = RunnerInfo(
            engine.context_window,
            engine.slots,
            "fake",
            SandboxReport(("fake",)),
            RunnerMemory(1000, 900, 500, 300, 100),
        )

    def memory(self) -> RunnerMemory:
        """Fixed numbers."""
        return self.info.memory

    async def start(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """As RunnerHandle.start, gated and failing on demand."""
        self.started += 1
        self.state = State.STARTING
        self.pid = next(_pids)
        try:
            if self.engine.load_gate is not None:
                await self.engine.load_gate.wait()
            if self.engine.load_error:
                self.last_lines = (self.engine.load_error,)
                raise RunnerFailedToStart("llama-server process has terminated: exit status 1", self.last_lines)
        except BaseException:
            await self._end(1)
            raise
        self._server = web.AppRunner(_application(self), handler_cancellation=True, shutdown_timeout=0.0)
        await self._server.setup()
        self.folder.mkdir(mode=0o700)
        await web.UnixSite(self._server, str(self.folder / "s.sock")).start()
        self.state = State.READY

    async def stop(self, grace_s: float = 5.0) -> None:
        """As RunnerHandle.stop; `ignore_sigterm` only shows in the exit code."""
        self.stopped += 1
        if not self.closed.is_set():
            self.state = State.STOPPING
            await self._end(-9 if self.engine.ignore_sigterm else 0)

    async def crash(self, exit_code: int = -11, last_line: str = "") -> None:
        """The process dies on its own."""
        self.last_lines = (last_line,) if last_line else ()
        await self._end(exit_code)

    async def vanish(self) -> None:
        """The process has died, and nobody has noticed yet."""
        server, self._server = self._server, None
        assert server is not None
        await server.cleanup()

    async def hang_detected(self) -> None:
        """What the watchdog does to a hung runner."""
        self._failure = RunnerHung(self.engine.hung_for_s)
        await self._end(-9)

    async def _end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.state = State.DEAD
        self.pid = None
        self.closed.set()
        for transport in list(self._transports):
            transport.abort()  # type: ignore[attr-defined]
        server, self._server = self._server, None
        if server is not None:
            await server.cleanup()
        await self.client.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _explain(self) -> CorralError:
        return self.failure

    @property
    def failure(self) -> CorralError:
        """As RunnerHandle.failure."""
        return self._failure or RunnerDied(self.exit_code, self.last_lines)

    # ---- the protocol

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """/completion and /v1/chat/completions."""
        engine, body = self.engine, await self._body(request)
        if refusal := engine.error or engine.refusal(body):
            return _error(*refusal)
        chat = request.path.endswith("chat/completions")
        engine.active += 1
        engine.most_active = max(engine.most_active, engine.active)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        assert request.transport is not None
        self._transports.add(request.transport)
        try:
            await response.prepare(request)
            await (self._chat(response, body) if chat else self._complete(response, body))
        except (ConnectionError, asyncio.CancelledError):
            engine.cancelled += 1
            raise
        except Died:
            task = asyncio.create_task(self.crash(-9, "killed by the test"))
            await asyncio.shield(task)
        finally:
            engine.active -= 1
            self._transports.discard(request.transport)
        return response

    async def _complete(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        prompt_tokens = self._prompt_tokens(body)
        await self._progress(response, body, prompt_tokens, {"content": "", "stop": False})
        words, limited = self._words(body)
        for made, word in enumerate(words):
            await self._before(made, response)
            event: dict[str, Any] = {"index": 0, "content": word, "tokens": self.engine.tokenize(word), "stop": False}
            if body.get("n_probs"):
                event["completion_probabilities"] = [_probability(word)]
            await _send(response, event)
        await self._before(len(words), response)
        stop = "limit" if limited else self.engine.stop_type
        await _send(
            response,
            {
                "index": 0, "content": "", "tokens": [], "stop": True, "stop_type": stop,
                "stopping_word": self.engine.stopping_word, "tokens_predicted": len(words),
                "tokens_evaluated": prompt_tokens, "tokens_cached": prompt_tokens + len(words), "truncated": False,
                "timings": _timings(prompt_tokens, len(words)),
            },
        )  # fmt: skip

    async def _chat(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        prompt_tokens = len(self.engine.tokenize(_template(body)))
        empty = {"role": "assistant", "content": None}
        await self._progress(response, body, prompt_tokens, _chunk(empty))
        await _send(response, _chunk(empty))
        words, limited = self._words(body)
        deltas = self.engine.chat_deltas
        if deltas is None:
            deltas = [{"content": word} for word in words]
        for made, delta in enumerate(deltas):
            await self._before(made, response)
            chunk = _chunk(delta)
            if body.get("logprobs"):
                chunk["choices"][0]["logprobs"] = {"content": [_probability(delta.get("content") or "")]}
            await _send(response, chunk)
        await self._before(len(deltas), response)
        called = any("tool_calls" in delta for delta in deltas)
        reason = "length" if limited else "tool_calls" if called else "stop"
        told = (
            {"__verbose": {"stopping_word": "" if limited else self.engine.stopping_word}}
            if body.get("verbose")
            else {}
        )
        await _send(response, {**told, **_chunk({}, reason), "timings": _timings(prompt_tokens, len(deltas))})
        await response.write(b"data: [DONE]\n\n")

    async def _progress(
        self, response: web.StreamResponse, body: dict[str, Any], total: int, event: dict[str, Any]
    ) -> None:
        steps = self.engine.prompt_steps
        for step in range(steps + 1 if body.get("return_progress") else 0):
            progress = {"total": total, "cache": 0, "processed": total * step // steps, "time_ms": step}
            await _send(response, {**event, "prompt_progress": progress})

    def _words(self, body: dict[str, Any]) -> tuple[list[str], bool]:
        """The tokens of the answer, and whether n_predict cut it."""
        words = _WORD.findall(self.engine.reply)
        limit = body.get("n_predict", body.get("max_tokens", body.get("max_completion_tokens", -1)))
        return (words[:limit], True) if limit is not None and 0 <= limit < len(words) else (words, False)

    def _prompt_tokens(self, body: dict[str, Any]) -> int:
        prompt = body.get("prompt", "")
        if isinstance(prompt, dict):
            prompt = prompt.get("prompt_string", "")
        return len(prompt) if isinstance(prompt, list) else len(self.engine.tokenize(prompt))

    async def _before(self, made: int, response: web.StreamResponse) -> None:
        """The switches that act between two events."""
        engine = self.engine
        if engine.gate is not None and made > 0:
            await engine.gate.wait()
        if engine.stream_error is not None and engine.stream_error[0] <= made:
            error = {"code": 500, "message": engine.stream_error[1], "type": "server_error"}
            await _send(response, {"error": error})
            raise ConnectionResetError
        if engine.die_after is not None and made >= engine.die_after:
            if engine.on_death is not None:
                engine.on_death()
            raise Died
        if engine.hang_after is not None and made >= engine.hang_after:
            await self._hanging.wait()

    async def call(self, request: web.Request) -> web.Response:
        """Everything that answers at once."""
        engine, body = self.engine, await self._body(request)
        refusal = engine.error if request.path not in {"/health", "/props", "/slots"} else None
        if refusal := refusal or engine.refusal(body):
            return _error(*refusal)
        answer: Any
        match request.path:
            case "/health":
                answer = {"status": "ok"}
            case "/props":
                answer = {"default_generation_settings": {"n_ctx": engine.context_window}, "total_slots": engine.slots}
            case "/slots":
                answer = [{"id": i, "is_processing": i < engine.active} for i in range(engine.slots)]
            case "/tokenize":
                answer = {"tokens": engine.tokenize(body["content"])}
            case "/detokenize":
                answer = {"content": engine.detokenize(body["tokens"])}
            case "/apply-template":
                answer = {"prompt": _template(body)}
            case "/v1/embeddings":
                answer = self._embeddings(body)
            case "/v1/rerank":
                answer = self._rerank(body)
            case _:
                return _error(404, "File Not Found", "not_found_error")
        return web.json_response(answer)

    async def slot_action(self, request: web.Request) -> web.Response:
        """Save, restore, erase: counted in `bodies`, nothing else."""
        await self._body(request)
        return web.json_response({"id_slot": int(request.match_info["slot"]), "n_saved": 1, "n_restored": 1})

    def _embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        inputs = body["input"]
        if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
            inputs = [inputs]
        tokens = [self.engine.tokenize(text) if isinstance(text, str) else text for text in inputs]
        rows = [{"embedding": _vector(ids), "index": i, "object": "embedding"} for i, ids in enumerate(tokens)]
        return {"data": rows, "usage": {"prompt_tokens": sum(map(len, tokens))}}

    def _rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = set(self.engine.tokenize(body["query"]))
        scores = [len(wanted & set(self.engine.tokenize(text))) / (len(wanted) or 1) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        total = sum(len(self.engine.tokenize(text)) for text in (body["query"], *body["documents"]))
        rows = [{"index": i, "relevance_score": scores[i]} for i in order]
        return {"results": rows, "usage": {"prompt_tokens": total}}

    async def _body(self, request: web.Request) -> dict[str, Any]:
        if request.method != "POST":
            return {}
        body: dict[str, Any] = json.loads(await request.read())
        self.engine.bodies.append((request.path_qs, body))
        return body


class FakeLauncher:
    """A Launcher whose runners share one engine; `runners` lists all that were made, oldest first."""

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine()
        self.runners: list[FakeRunner] = []
        self.closed = False

    def create(self, spec: RunnerSpec, planned: Planned = Planned(), node: str = "") -> FakeRunner:  # noqa: B008  frozen
        """A runner that is not started yet."""
        runner = FakeRunner(spec, self.engine)
        self.runners.append(runner)
        return runner

    def close(self) -> None:
        """As LocalLauncher.close."""
        self.closed = True


def _application(runner: FakeRunner) -> web.Application:
    application = web.Application(client_max_size=2**30)
    application.router.add_post("/completion", runner.stream)
    application.router.add_post("/v1/chat/completions", runner.stream)
    application.router.add_post("/slots/{slot}", runner.slot_action)
    application.router.add_route("*", "/{path:.*}", runner.call)
    return application


def _template(body: dict[str, Any]) -> str:
    return "".join(map(_turn, body.get("messages", []))) + "<|assistant|>\n"


def _turn(message: dict[str, Any]) -> str:
    calls = "".join(
        f"{call['function']['name']} {call['function']['arguments']}" for call in message.get("tool_calls", ())
    )
    return f"<|{message['role']}|>\n{message.get('content') or ''}{calls}<|end|>\n"


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"finish_reason": reason, "index": 0, "delta": delta}
    return {"choices": [choice], "created": 0, "id": "chatcmpl-fake", "object": "chat.completion.chunk"}


def _timings(prompt_tokens: int, made: int) -> dict[str, float]:
    return {"cache_n": 0, "prompt_n": prompt_tokens, "prompt_ms": 2.0, "predicted_n": made, "predicted_ms": 4.0}


def _probability(token: str) -> dict[str, Any]:
    entry = {"id": 0, "token": token, "bytes": list(token.encode()), "logprob": -0.5}
    return {**entry, "top_logprobs": [entry]}


def _vector(tokens: Sequence[int]) -> str:
    digest = hashlib.sha256(repr(list(tokens)).encode()).digest()
    return base64.b64encode(struct.pack(f"{WIDTH}f", *(byte / 255 for byte in digest[:WIDTH]))).decode()


def _error(status: int, message: str, kind: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message, "type": kind}}, status=status)


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
