"""Events of a chat as Anthropic's message, whole or as server-sent events.

A stream: message_start, then blocks with indices from 0 (start, deltas, stop; another kind closes the open one), then
message_delta with the stop reason and message_stop. A call's input comes in pieces while the model writes it; the block
of one that turned out to be none ends with input that is no JSON, and the stop reason is not `tool_use`. Pings may come
at any time after message_start. Thinking that arrives after its block was closed opens a new one (Ollama drops it).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from msgspec import UNSET
from starlette.responses import Response

from corral.api.anthropic import ErrorDetail, ErrorReply, MessageReply, MessagesRequest, Usage
from corral.api.native_replies import cache_of, warnings_of
from corral.core import CallPiece, Delta, Done, Event, Progress, ToolCall
from corral.errors import ContextOverflow
from corral.server.answer import Answer
from corral.server.anthropic.messages import estimate_tokens
from corral.server.errors import headers_of, status_of, text_of
from corral.server.openai.encoding import arguments_text, call_id, encode_json
from corral.server.openai.wire import frame

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def _error(error: BaseException) -> ErrorReply:
    kind = _ERROR_TYPES.get(status_of(error), "api_error")
    detail = ErrorDetail(kind, text_of(error))
    if isinstance(error, ContextOverflow):  # Claude Code compacts at these words, with nothing before and behind them
        text = f"prompt is too long: {error.prompt_tokens:d} tokens > {error.maximum} maximum"
        detail = ErrorDetail(kind, text, remedy=error.remedy)
    return ErrorReply(error=detail, request_id=_new_id("req_"))


def error_reply(error: BaseException) -> Response:
    """An error in Anthropic's form."""
    body = _error(error)
    headers = {**headers_of(error), "request-id": body.request_id}
    return Response(encode_json(body) + b"\n", status_of(error), headers, media_type="application/json")


def error_event(error: BaseException) -> bytes:
    """An error in the middle of a stream."""
    return frame(encode_json(_error(error)), "error")


def stop_of(end: Done, body: MessagesRequest, *, called: bool) -> tuple[str | None, str | None]:
    """Anthropic's word for how an answer ended, and the request's stop sequence that ended it.

    A stop sequence of the model's own is the end of its turn.
    """
    if called:
        return "tool_use", None
    if end.reason == "length":
        limit = body.max_tokens or 0
        made = end.metrics.eval_tokens if end.metrics else limit
        return ("max_tokens" if made >= limit and not end.window_full else "model_context_window_exceeded"), None
    if end.stop_sequence is not None and end.stop_sequence in (body.stop_sequences or ()):
        return "stop_sequence", end.stop_sequence
    return ("end_turn" if end.reason else None), None


def usage_of(end: Done | None) -> Usage:
    """Token counts of an answer."""
    metrics = end.metrics if end else None
    if metrics is None:
        return Usage()
    return Usage(
        input_tokens=metrics.prompt_tokens - metrics.cached_tokens,
        cache_read_input_tokens=metrics.cached_tokens,
        output_tokens=metrics.eval_tokens,
    )


def tool_block(call: ToolCall) -> dict[str, Any]:
    """A tool_use block."""
    return {"type": "tool_use", "id": call_id(call), "name": call.name, "input": call.arguments}


def whole_message(body: MessagesRequest, answer: Answer) -> MessageReply:
    """The reply that does not stream: thinking, text, calls; what is empty is left out."""
    thinking, text = "".join(answer.thinking), "".join(answer.content)
    content: list[dict[str, Any]] = [{"type": "thinking", "thinking": thinking}] if thinking else []
    content += [{"type": "text", "text": text}] if text else []
    content += [tool_block(call) for call in answer.calls]
    end = answer.done or Done("")
    reason, sequence = stop_of(end, body, called=bool(answer.calls))
    return MessageReply(
        id=_new_id("msg_"),
        model=body.model,
        content=content,
        usage=usage_of(answer.done),
        stop_reason=reason,
        stop_sequence=sequence,
        cache=cache_of(end.cache),
        warnings=warnings_of(end.notices),
    )


class MessageEncoder:
    """A chat's events to the frames of one stream."""

    def __init__(self, body: MessagesRequest) -> None:
        self._body = body
        self._started = False
        self._index = -1
        self._open = ""  # kind of the open block: thinking, text or ""
        self._called = False
        self._broken = False  # a call that went out in pieces was none
        self._shown: set[int] = set()  # calls that went out in pieces
        self._prompt: Progress | None = None  # what the engine told of the prompt before the first token

    def ping(self) -> bytes:
        """A ping; opens the message first where nothing has been sent yet."""
        return self._start() + _event("ping")

    async def frames(self, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """All frames, message_stop included."""
        async with aclosing(cast("Any", events)) as stream:
            async for event in stream:
                if isinstance(event, Progress) and event.stage == "prompt":
                    self._prompt = self._prompt or event
                elif isinstance(event, Delta):
                    yield self._start() + self._delta(event)
                elif isinstance(event, Done):
                    yield self._start() + self._finish(event)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        usage = Usage(input_tokens=estimate_tokens(self._body))  # where a ping comes first
        if self._prompt is not None:
            read, cached = self._prompt.total, self._prompt.cached
            usage = Usage(input_tokens=read - cached, cache_read_input_tokens=cached)
        message = MessageReply(id=_new_id("msg_"), model=self._body.model, content=[], usage=usage)
        return _event("message_start", message=message)

    def _delta(self, event: Delta) -> bytes:
        data = b""
        if event.thinking:
            data += self._block("thinking", {"type": "thinking", "thinking": ""})
            data += self._piece({"type": "thinking_delta", "thinking": event.thinking})
        if event.content:
            data += self._block("text", {"type": "text", "text": ""})
            data += self._piece({"type": "text_delta", "text": event.content})
        for piece in event.call_pieces:
            data += self._call_piece(piece)
        self._called = self._called or bool(event.tool_calls)
        for call in event.tool_calls:
            if call.index in self._shown:
                continue
            data += self._close() + self._block("tool", {**tool_block(call), "input": {}})
            data += self._piece({"type": "input_json_delta", "partial_json": arguments_text(call)}) + self._close()
        return data

    def _call_piece(self, piece: CallPiece) -> bytes:
        data = b""
        self._broken = self._broken or piece.end == "broken"
        if piece.name:
            self._shown.add(piece.index)
            block = tool_block(ToolCall(piece.name, {}, piece.id))
            data += self._close() + self._block("tool", block)
        if piece.arguments:
            data += self._piece({"type": "input_json_delta", "partial_json": piece.arguments})
        return data + self._close() if piece.end else data

    def _block(self, kind: str, block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        closing = self._close()
        self._open = kind
        self._index += 1
        return closing + _event("content_block_start", index=self._index, content_block=block)

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)

    def _finish(self, end: Done) -> bytes:
        called = self._called and not (self._broken and end.reason == "length")
        reason, sequence = stop_of(end, self._body, called=called)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        told = {"cache": cache_of(end.cache), "warnings": warnings_of(end.notices)}
        more = {name: value for name, value in told.items() if value is not UNSET}
        return (
            self._close() + _event("message_delta", delta=delta, usage=usage_of(end), **more) + _event("message_stop")
        )


def _event(kind: str, **fields: Any) -> bytes:
    return frame(encode_json({"type": kind, **fields}), kind)
