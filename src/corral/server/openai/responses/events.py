"""A chat's events as a Responses stream, and as the finished response.

The table of events and their order is spec compat-apis §8.5. Here text that stands before a tool call is closed
before the call begins, text after a call is kept, and a length cut ends with `response.incomplete`
(docs/differences.md).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from corral.api.native_replies import cache_of, logprobs_of, warnings_of
from corral.api.responses import InputDetails, OutputDetails, ResponseReply, ResponsesUsage
from corral.core import CallPiece, Delta, Done, Event, Notice, ToolCall
from corral.server.errors import status_of
from corral.server.openai.encoding import arguments_text, call_id, encode_json, new_id
from corral.server.openai.wire import OVERFLOW_CODE, code_of, frame, openai_text

_CODES = {401: "authentication_error", 429: "rate_limit_exceeded"}


def error_of(error: BaseException) -> dict[str, str]:
    """The `error` of a failed response."""
    code = code_of(error) or _CODES.get(status_of(error), "api_error")
    return {"code": code, "message": openai_text(error)}


def reasoning_item(item_id: str, text: str) -> dict[str, Any]:
    """A finished reasoning item."""
    summary = [{"type": "summary_text", "text": text}]
    return {"id": item_id, "type": "reasoning", "summary": summary, "encrypted_content": text}


def message_item(item_id: str, text: str, logprobs: Sequence[Any] = (), status: str = "completed") -> dict[str, Any]:
    """A message item that has ended."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}]
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def call_item(item_id: str, call: ToolCall, status: str, arguments: str, parts: tuple[str, str]) -> dict[str, Any]:
    """A function_call item; `parts` are (namespace or "", name) of what was called."""
    namespace, name = parts
    item = {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id(call),
        "name": name,
        "arguments": arguments,
    }
    return {**item, "namespace": namespace} if namespace else item


def status_at(reply: ResponseReply, end: Done) -> str:
    """`incomplete` is the client's own limit; a full window is a failure, and a limit of the model's just the end."""
    made = end.metrics.eval_tokens if end.metrics else 0
    if end.reason != "length":
        return "completed"
    if reply.max_output_tokens is not None and (made >= reply.max_output_tokens or not end.window_full):
        return "incomplete"
    return "failed" if end.window_full else "completed"


def finish(reply: ResponseReply, end: Done) -> None:
    """Put the end of an answer on its response: status, usage, warnings."""
    reply.completed_at = int(time.time())
    reply.status = status_at(reply, end)
    notices = list(end.notices)
    if reply.status == "incomplete":
        reply.incomplete_details = {"reason": "max_output_tokens"}
    elif reply.status == "failed":
        reply.error = {"code": OVERFLOW_CODE, "message": "prompt and answer have filled the model's context window"}
    elif end.reason == "length":
        text = "the answer was ended by the model's own limit (num_predict), not by one of the request"
        notices.append(Notice("length_limit", text))
    metrics = end.metrics
    reply.usage = ResponsesUsage()
    if metrics is not None:
        total = metrics.prompt_tokens + metrics.eval_tokens
        thinking = OutputDetails(end.thinking_tokens)
        cached = InputDetails(metrics.cached_tokens)
        reply.usage = ResponsesUsage(metrics.prompt_tokens, metrics.eval_tokens, total, cached, thinking)
    reply.cache = cache_of(end.cache)
    reply.warnings = warnings_of(notices)


class ResponseEncoder:
    """Builds the output items; as frames of a stream, or just the finished response.

    parts_of: (namespace or "", name) of a tool by the name that the model knows.
    """

    def __init__(
        self, reply: ResponseReply, parts_of: Callable[[str], tuple[str, str]] = lambda name: ("", name)
    ) -> None:
        self.reply = reply
        self._parts_of = parts_of
        self.text = ""  # all text of the answer, for the stored conversation
        self.thinking = ""
        self.calls: list[ToolCall] = []
        self._sequence = 0
        self._open: str = ""  # reasoning, message or ""
        self._item_id = ""
        self._item_text = ""
        self._logprobs: list[Any] = []  # of the open message
        self._started = False
        self._writing = ToolCall("", {})  # the call whose pieces go out
        self._shown: set[int] = set()  # calls that went out in pieces

    async def frames(self, events: AsyncIterator[Event], keep: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
        """All frames; the last is response.completed or response.incomplete, sent when `keep` has returned."""
        async with aclosing(cast("Any", events)) as stream:
            async for event in stream:
                data = self._start()
                if isinstance(event, Delta):
                    data += self.take(event)
                elif isinstance(event, Done):
                    data += self.end(event)
                    await keep()
                if data:
                    yield data

    def ping(self) -> bytes:
        """Opens the response where nothing has been sent yet, else a comment."""
        return self._start() or b": ping\n\n"

    def failure(self, error: BaseException) -> bytes:
        """An error in the middle of the stream."""
        self.reply.status = "failed"
        self.reply.error = error_of(error)
        self.reply.usage = self.reply.usage or ResponsesUsage()
        return self._event("response.failed", response=self.reply)

    def take(self, event: Delta) -> bytes:
        """Frames of one delta."""
        data = b""
        if event.thinking:
            data += self._piece("reasoning", event.thinking)
            self.thinking += event.thinking
        if event.content:
            data += self._piece("message", event.content, logprobs_of(event.logprobs) or ())
            self.text += event.content
        for piece in event.call_pieces:
            data += self._call_piece(piece)
        for call in event.tool_calls:
            if call.index in self._shown:
                self.calls.append(call)
            else:
                data += self._call(call)
        return data

    def end(self, end: Done) -> bytes:
        """Frames that close the response."""
        cut = status_at(self.reply, end) != "completed"
        data = self._close("incomplete" if cut else "completed")
        finish(self.reply, end)
        return data + self._event(f"response.{self.reply.status}", response=self.reply)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        created = self._event("response.created", response=self.reply)
        return created + self._event("response.in_progress", response=self.reply)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = frame(encode_json({"type": kind, "sequence_number": self._sequence, **fields}), kind)
        self._sequence += 1
        return data

    @property
    def _at(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": len(self.reply.output)}

    def _piece(self, kind: str, text: str, logprobs: Sequence[Any] = ()) -> bytes:
        data = b"" if self._open == kind else self._close() + self._open_item(kind)
        self._item_text += text
        self._logprobs += logprobs
        if kind == "reasoning":
            return data + self._event("response.reasoning_summary_text.delta", **self._at, summary_index=0, delta=text)
        return data + self._event(
            "response.output_text.delta", **self._at, content_index=0, delta=text, logprobs=logprobs
        )

    def _open_item(self, kind: str) -> bytes:
        self._open, self._item_text, self._logprobs = kind, "", []
        self._item_id = new_id("rs_" if kind == "reasoning" else "msg_")
        index = len(self.reply.output)
        if kind == "reasoning":
            item: dict[str, Any] = {"id": self._item_id, "type": "reasoning", "summary": []}
            return self._event("response.output_item.added", output_index=index, item=item)
        item = {"id": self._item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return self._event("response.output_item.added", output_index=index, item=item) + self._event(
            "response.content_part.added", **self._at, content_index=0, part=part
        )

    def _close(self, status: str = "completed") -> bytes:
        kind, self._open = self._open, ""
        if not kind:
            return b""
        text, index = self._item_text, len(self.reply.output)
        if kind == "reasoning":
            item = reasoning_item(self._item_id, text)
            data = self._event("response.reasoning_summary_text.done", **self._at, summary_index=0, text=text)
        else:
            item, probs = message_item(self._item_id, text, self._logprobs, status), self._logprobs
            data = self._event("response.output_text.done", **self._at, content_index=0, text=text, logprobs=probs)
            data += self._event("response.content_part.done", **self._at, content_index=0, part=item["content"][0])
        data += self._event("response.output_item.done", output_index=index, item=item)
        self.reply.output = [*self.reply.output, item]
        return data

    def _call(self, call: ToolCall) -> bytes:
        """A call in one piece."""
        call = replace(call, id=call_id(call))
        self.calls.append(call)
        arguments = arguments_text(call)
        return self._begin_call(call) + self._arguments(arguments) + self._end_call(call, "completed", arguments)

    def _call_piece(self, piece: CallPiece) -> bytes:
        """A call that is being written; one that turned out to be none stays incomplete."""
        data = b""
        if piece.name:
            self._shown.add(piece.index)
            self._writing = ToolCall(piece.name, {}, piece.id, piece.index)
            data += self._begin_call(self._writing)
        if piece.arguments:
            self._item_text += piece.arguments
            data += self._arguments(piece.arguments)
        if piece.end == "broken":
            self.calls.append(self._writing)  # a client may answer it, by the id
        if piece.end:
            status = "completed" if piece.end == "whole" else "incomplete"
            data += self._end_call(self._writing, status, self._item_text)
        return data

    def _begin_call(self, call: ToolCall) -> bytes:
        data = self._close()
        self._item_id, self._item_text = new_id("fc_") + f"_{call.index}", ""
        item = call_item(self._item_id, call, "in_progress", "", self._parts_of(call.name))
        return data + self._event("response.output_item.added", output_index=len(self.reply.output), item=item)

    def _arguments(self, more: str) -> bytes:
        return self._event("response.function_call_arguments.delta", **self._at, delta=more)

    def _end_call(self, call: ToolCall, status: str, arguments: str) -> bytes:
        item, index = (
            call_item(self._item_id, call, status, arguments, self._parts_of(call.name)),
            len(self.reply.output),
        )
        data = self._event("response.function_call_arguments.done", **self._at, arguments=arguments)
        data += self._event("response.output_item.done", output_index=index, item=item)
        self.reply.output = [*self.reply.output, item]
        return data
