"""llama.cpp's HTTP protocol over a runner's socket (endpoint.py): the one way the server talks to an engine.

Leaving an iteration early (break, aclose, cancellation) closes the call's connection (connections.py), which is how the
engine learns to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from corral.aio import LARGE_CHARACTERS
from corral.errors import EngineError, GrammarLost, RunnerMisbehaved
from corral.runner import answers
from corral.runner.answers import Decode, StreamBudget
from corral.runner.bodies import encoded
from corral.runner.calls import Call
from corral.runner.connections import Connections, Explain
from corral.runner.drafts import DraftTally
from corral.runner.endpoint import Endpoint
from corral.runner.gathering import GATHER_S, Rounds
from corral.runner.reading import ReadingTally
from corral.runner.sharing import Sharing
from corral.runner.sse import EventParser

_CALLS_AT_ONCE = 16
_EVENTS_IN_A_ROW = 64  # then others get their turn, however much the engine sends
_LAST_LINE_S = 0.005  # how much later than the end of an answer a line of the log before it may be read
SLOT_SEEKERS = frozenset({"/v1/embeddings", "/v1/rerank", "/v1/systemone"})  # of the calls that do not stream
Check = Callable[[dict[str, Any], StreamBudget], None]


class RunnerClient:
    """Calls to one runner. Safe for any number of calls at once.

    endpoint: the way to the engine. explain: asked for the error to raise when the connection breaks; it may wait for
    the process to be reaped. Errors of every call: EngineError when the engine refuses or fails it, RunnerMisbehaved
    when its answer is none (`connections.on_misbehaviour` is told first), and what `explain` answers (RunnerDied,
    RunnerKilled) when the runner is gone. Cancellation closes the connection.
    """

    def __init__(self, endpoint: Endpoint, explain: Explain | None = None) -> None:
        self.connections = Connections(endpoint, explain)
        self.calls = self.connections.calls  # in flight
        self.sharing = Sharing()
        self.drafts = DraftTally()
        self.reading = ReadingTally()
        self.owner: str | None = ""  # whose calls these are; a lease knows (sched/leased.py)
        self.on_grammar_lost: Callable[[str], None] | None = None
        self._rounds = Rounds()
        self._grammars_lost = 0
        self._lost_why = ""
        self._large = asyncio.Semaphore(1)

    def note_grammar_lost(self, why: str) -> None:
        """The engine's log says that it goes on without a grammar; not whose, so every call with one fails."""
        self._grammars_lost += 1
        self._lost_why = why
        if self.on_grammar_lost is not None:
            self.on_grammar_lost(why)

    def __repr__(self) -> str:
        return f"<RunnerClient {self.connections.endpoint} in_flight={len(self.calls)}>"

    def completion(self, body: dict[str, Any], gather_s: float = GATHER_S) -> AsyncGenerator[dict[str, Any]]:
        """Events of /completion as the engine words them; the last has `"stop": true`.

        `prompt_progress` events arrive only when the body asks with `return_progress`. gather_s: how long those of a
        fast answer may wait for each other.
        """
        return self._events("/completion", body, answers.completion_event, _check_completion, gather_s)

    async def hold_only(self, slot: int, token: int, *, keeping: bool) -> None:
        """Have a slot hold one token and nothing else; keeping: an engine with a store keeps there what it held."""
        body = {"prompt": [token], "n_predict": 0, "cache_prompt": keeping, "id_slot": slot}
        async with contextlib.aclosing(self.completion(body)) as events:
            async for _ in events:
                pass

    def chat(self, body: dict[str, Any], gather_s: float = GATHER_S) -> AsyncGenerator[dict[str, Any]]:
        """Chunks of /v1/chat/completions up to the `[DONE]` mark; gather_s as above."""
        return self._events("/v1/chat/completions", body, answers.chat_chunk, _check_chat, gather_s)

    async def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of a text; add_special adds what the model wants around a prompt (BOS, EOS)."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        data = await encoded(body)
        async with self._turn(len(data)):
            answer = await self._call("POST", "/tokenize", answers.tokens, answers.max_token_bytes(len(data)), data)
        tokens: list[int] = answer["tokens"]
        return tokens

    async def count_tokens(self, text: str, *, add_special: bool = False) -> int:
        """How many ids `tokenize` would give, without a number of Python's for each."""
        data = await encoded({"content": text, "add_special": add_special, "parse_special": True})
        async with self._turn(len(data)):
            limit = answers.max_token_bytes(len(data))
            return int(await self._call("POST", "/tokenize", answers.token_count, limit, data))

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids; incomplete UTF-8 is replaced."""
        limit = answers.max_text_bytes(len(tokens))
        data = await encoded({"tokens": list(tokens)})
        async with self._turn(len(data)):
            return str((await self._call("POST", "/detokenize", answers.content, limit, data))["content"])

    async def apply_template(self, body: dict[str, Any]) -> str:
        """The prompt that the model's Jinja template makes of a chat body."""
        data = await encoded(body)
        limit = answers.max_prompt_bytes(len(data))
        async with self._turn(len(data)):
            return str((await self._call("POST", "/apply-template", answers.prompt, limit, data))["prompt"])

    def _turn(self, size_bytes: int) -> contextlib.AbstractAsyncContextManager[object]:
        """Large texts are read one at a time: each takes a core from what the slots compute, for seconds."""
        return self._large if size_bytes > LARGE_CHARACTERS else contextlib.nullcontext()

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
        count = len(inputs)
        decode, limit = answers.vectors(count), answers.max_vector_bytes(count)
        vectors, total = await self._call("POST", "/v1/embeddings", decode, limit, await encoded(body))
        if count == 1:
            return [(vectors[0], total)]
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
        data = await encoded({"query": query, "documents": list(documents)})
        count = len(documents)
        answer: tuple[list[tuple[int, float]], int] = await self._call(
            "POST", "/v1/rerank", answers.scores(count), answers.max_score_bytes(count), data
        )
        return answer

    async def systemone(self, body: dict[str, Any]) -> dict[str, Any]:
        """A decision model's answer; EngineError 501 when the model is none."""
        data = await encoded(body)
        limit = answers.max_prompt_bytes(len(data))
        answer: dict[str, Any] = await self._call("POST", "/v1/systemone", answers.any_object, limit, data)
        return answer

    async def slots(self) -> list[dict[str, Any]]:
        """The state of every slot."""
        answer: list[dict[str, Any]] = await self._call("GET", "/slots", answers.slots, answers.MAX_SLOTS_BYTES)
        return answer

    async def probe(self, timeout_s: float) -> list[dict[str, Any]]:
        """The watchdog's look at the slots: no call in flight, no progress. TimeoutError when no answer comes."""
        answer: list[dict[str, Any]] = await self.connections.answer(
            "GET", "/slots", answers.slots, answers.MAX_SLOTS_BYTES, timeout_s=timeout_s
        )
        return answer

    async def props(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The engine's own description of the model; TimeoutError when none comes."""
        limit = answers.MAX_PROPS_BYTES
        answer: dict[str, Any] = await self._call("GET", "/props", answers.props, limit, timeout_s=timeout_s)
        return answer

    async def health(self, timeout_s: float | None = None) -> bool:
        """Whether the model is loaded; False while it loads, does not listen yet, or says nothing in time."""
        return await self.connections.is_well("/health", timeout_s)

    async def save_slot(self, slot: int, filename: str) -> None:
        """Write a slot's tokens and KV cache to a file of the runner's kv directory; waits while the slot is busy."""
        await self._act_on_slot(slot, "save", filename)

    async def restore_slot(self, slot: int, filename: str) -> None:
        """Load what save_slot wrote; EngineError when the file does not suit the model."""
        await self._act_on_slot(slot, "restore", filename)

    async def _act_on_slot(self, slot: int, action: str, filename: str) -> None:
        data = await encoded({"filename": filename})
        path = f"/slots/{slot}?action={action}"
        await self._call("POST", path, answers.any_object, answers.MAX_SMALL_BYTES, data)

    async def close(self) -> None:
        """Drop all connections; calls in flight, and all later ones, end with an error."""
        await self.connections.close()

    async def _events(
        self, path: str, body: dict[str, Any], decode: Decode, check: Check, gather_s: float
    ) -> AsyncGenerator[dict[str, Any]]:
        """The decoded events of one streaming call, up to the one that stops it or the mark behind the last.

        Progress events are always asked for, because writing one is how a prefilling engine notices that the client
        has left; they are passed on only to a caller who asked.
        """
        wants_progress = bool(body.get("return_progress"))
        parser = EventParser()
        data = await encoded({**body, "stream": True, "return_progress": True})
        budget = StreamBudget(body, len(data))
        lost = self._grammars_lost if "grammar" in body else None
        call = Call(time.monotonic(), len(data))
        async with self.connections.streamed(path, data, call) as stream:
            while chunk := await stream.read():
                budget.take(len(chunk))
                for place, payload in enumerate(parser.feed(chunk), 1):
                    self.calls.move(call)
                    event = _checked(decode(payload), check, budget)
                    if lost is not None:
                        await self._check_grammar(lost, event)
                    if "timings" in event:
                        self._note(event["timings"])
                    is_progress = "prompt_progress" in event
                    if not is_progress:
                        stream.gather(self._rounds, gather_s)
                    if wants_progress or not is_progress:
                        yield event
                    if event.get("stop"):
                        return
                    if place % _EVENTS_IN_A_ROW == 0:
                        await asyncio.sleep(0)
        if not parser.finished:
            raise await self.connections.lost(mid_stream=True)

    def _note(self, timings: dict[str, Any]) -> None:
        self.drafts.note(timings)
        if self.sharing.requests <= 1:
            self.sharing.note(timings)
            self.reading.note(timings)

    async def _check_grammar(self, lost: int, event: dict[str, Any]) -> None:
        """Raise GrammarLost when the log has told so since the call began; its last line may come behind the event."""
        if event.get("stop") or any(choice.get("finish_reason") for choice in event.get("choices") or ()):
            await asyncio.sleep(_LAST_LINE_S)
        if self._grammars_lost != lost:
            raise GrammarLost(self._lost_why)

    async def _call(
        self,
        method: str,
        path: str,
        decode: Decode,
        max_bytes: int,
        data: bytes | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        on_slot, seeks_slot = path.startswith("/slots/"), path in SLOT_SEEKERS
        call = Call(time.monotonic(), len(data or b""), seeks_slot, on_slot)
        return await self.connections.answer(method, path, decode, max_bytes, data, call=call, timeout_s=timeout_s)


def _checked(event: dict[str, Any], check: Check, budget: StreamBudget) -> dict[str, Any]:
    """The event; raises EngineError when it tells of an error, and what `check` raises."""
    if "error" in event:
        raise EngineError(*answers.error_of(500, event["error"]))
    check(event, budget)
    return event


def _check_completion(event: dict[str, Any], budget: StreamBudget) -> None:
    """Raise RunnerMisbehaved for an event that says nothing, or more than was asked for."""
    if "content" not in event:
        if "stop" not in event and "prompt_progress" not in event:
            raise RunnerMisbehaved("an event that says nothing")
        event["content"] = ""
    budget.take_text(event["content"])
    if "completion_probabilities" in event:
        budget.take_probabilities(event["completion_probabilities"])


def _check_chat(event: dict[str, Any], budget: StreamBudget) -> None:
    for choice in event.get("choices", ()):
        delta = choice.get("delta") or {}
        budget.take_text(delta.get("content"), delta.get("reasoning_content"))
        for piece in delta.get("tool_calls") or ():
            function = piece.get("function") or {}
            budget.take_text(piece.get("id"), function.get("name"), function.get("arguments"))
        if logprobs := choice.get("logprobs"):
            budget.take_probabilities(logprobs.get("content") or ())
