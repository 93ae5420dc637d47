"""POST /v1/chat/completions: decode, call the chat use case, encode whole or streamed.

The order of a stream's chunks is spec compat-apis §4.7: the role comes with the first piece, the finish chunk is
separate and has an empty delta, usage comes last and only when asked for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native_replies import cache_of, logprobs_of, warnings_of
from corral.api.openai import (
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionDetails,
    DeltaReply,
    MessageReply,
    PromptDetails,
    ToolCallFunction,
    ToolCallPiece,
    ToolCallPieceFunction,
    ToolCallReply,
    Usage,
)
from corral.core import (
    CallPiece,
    ChatRequest,
    Common,
    Delta,
    Done,
    GenerationParameters,
    Notice,
    Think,
    TokenLogprob,
    ToolCall,
)
from corral.errors import InvalidRequest
from corral.server.answer import Answer
from corral.server.body import decode
from corral.server.deps import Deps, deps_of
from corral.server.formats import read_format
from corral.server.openai.encoding import arguments_text, call_id, encode_json, new_id
from corral.server.openai.fields import common_of, read_count, read_logit_bias, sampling_options, stop_notices
from corral.server.openai.images import fetch_images
from corral.server.openai.merge import Indexed, merge
from corral.server.openai.messages import (
    allowed_tools,
    read_effort,
    read_messages,
    read_tool_choice,
    read_tools,
)
from corral.server.openai.wire import error_event, error_reply, frame, json_reply, read_request, with_pings
from corral.server.stream import SSE, EventStream, Reply


async def chat_completions(request: Request) -> Response:
    """Serve one chat completion."""
    body, notices = await read_request(request, ChatCompletionRequest)
    deps = deps_of(request)
    chat = await _chat_request(request, deps, body, notices)
    requests = [_choice(chat, index) for index in range(read_count(body.n))]
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        encoder = ChunkEncoder(body.model, len(requests), include_usage=usage)
        events = encoder.frames(merge([deps.inference.chat(each) for each in requests]))
        frames = with_pings(events, deps.settings.ping_interval_s)
        return EventStream(frames, bytes, media_type=SSE, fail=error_event, refuse=error_reply)
    return Reply(lambda: _whole(deps, body, requests), error_reply)


async def _chat_request(
    request: Request, deps: Deps, body: ChatCompletionRequest, notices: tuple[Notice, ...]
) -> ChatRequest:
    if not body.messages:
        raise InvalidRequest("[] is too short - 'messages'", field="messages")
    fetched = await fetch_images(body.messages, enabled=deps.settings.fetch_images)
    choice, tools = allowed_tools(body.tool_choice, read_tools(body.tools or []))
    options = sampling_options(body)
    if body.max_completion_tokens is not None:
        options["num_predict"] = body.max_completion_tokens
    parameters = GenerationParameters(
        constraint=read_format(body.response_format),
        think=_think(body),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        logit_bias=read_logit_bias(body.logit_bias),
        call_pieces=bool(body.stream),
        whole=not body.stream,
        render_only=bool(body.debug_render_only),
        cache=bool(body.cache),
    )
    return ChatRequest(
        common=common_of(request, body, options, (*notices, *stop_notices(body.stop)), strict=deps.settings.strict),
        messages=await decode(request, read_messages, body.messages, fetched),
        tools=tools,
        tool_choice=read_tool_choice(choice, tools, parallel=body.parallel_tool_calls),
        generic_tools=deps.settings.generic_tools if body.generic_tools is None else body.generic_tools,
        keeps_all=bool(tools),
        parameters=parameters,
    )


def _think(body: ChatCompletionRequest) -> Think:
    """`reasoning` wins over `reasoning_effort`, even when its effort is empty."""
    return read_effort(body.reasoning.effort if body.reasoning is not None else body.reasoning_effort)


def _choice(chat: ChatRequest, index: int) -> ChatRequest:
    """The request of one of several answers: with a seed, each gets the next one, so that they differ."""
    seed = chat.common.options.get("seed")
    if index == 0 or not isinstance(seed, int):
        return chat
    common: Common = replace(chat.common, options={**chat.common.options, "seed": seed + index})
    return replace(chat, common=common)


async def gather_answers(events: AsyncIterator[Indexed], count: int) -> list[Answer]:
    """All events of `count` choices, collected."""
    answers = [Answer() for _ in range(count)]
    async with aclosing(cast("Any", events)) as stream:
        async for index, event in stream:
            answers[index].take(event)
    return answers


def usage_of(*prompts: Sequence[Done]) -> Usage:
    """Tokens of all choices together; `prompts` has the ends of each prompt's choices, which share it."""
    prompt = completion = cached = thinking = 0
    for ends in prompts:
        metrics = [end.metrics for end in ends if end.metrics is not None]
        prompt += max((each.prompt_tokens for each in metrics), default=0)
        completion += sum(each.eval_tokens for each in metrics)
        cached += metrics[0].cached_tokens if metrics else 0
        thinking += sum(end.thinking_tokens for end in ends)
    return Usage(prompt, completion, prompt + completion, PromptDetails(cached), CompletionDetails(thinking))


def finish_reason(reason: str, *, called: bool) -> str | None:
    """OpenAI's word for how an answer ended; None when nobody knows."""
    if reason in ("", "length"):
        return reason or None
    return "tool_calls" if called else "stop"


def tool_calls_of(calls: Sequence[ToolCall]) -> list[ToolCallReply]:
    """Calls as OpenAI writes them."""
    return [
        ToolCallReply(call_id(call), call.index, "function", ToolCallFunction(call.name, arguments_text(call)))
        for call in calls
    ]


async def _whole(deps: Deps, body: ChatCompletionRequest, requests: Sequence[ChatRequest]) -> Response:
    answers = await gather_answers(merge([deps.inference.chat(each) for each in requests]), len(requests))
    ends = [answer.done for answer in answers if answer.done is not None]
    warnings = warnings_of(notice for end in ends for notice in end.notices)
    reply = ChatCompletion(
        id=new_id("chatcmpl-"),
        created=int(time.time()),
        model=body.model,
        choices=[_chat_choice(index, answer) for index, answer in enumerate(answers)],
        usage=usage_of(ends),
        cache=cache_of(ends[0].cache) if ends else UNSET,
        warnings=warnings,
    )
    rendered = answers[0].rendered
    if rendered is not None:
        count = {"image_count": rendered.image_count} if rendered.image_count else {}
        reply.debug_info = {"rendered_template": rendered.template, **count}
    return json_reply(reply, 0 if warnings is UNSET else len(cast("list[Any]", warnings)))


def _chat_choice(index: int, answer: Answer) -> ChatChoice:
    message = MessageReply(
        content="".join(answer.content),
        reasoning="".join(answer.thinking) or UNSET,
        tool_calls=tool_calls_of(answer.calls) or UNSET,
    )
    reason = finish_reason(answer.done.reason, called=bool(answer.calls)) if answer.done else None
    return ChatChoice(index, message, reason, _logprobs(answer.logprobs))


def _logprobs(entries: Sequence[TokenLogprob]) -> Any:
    return ChoiceLogprobs(cast("list[dict[str, Any]]", logprobs_of(entries))) if entries else UNSET


class ChunkEncoder:
    """Events of one or several choices to the frames of one stream."""

    def __init__(self, model: str, count: int, *, include_usage: bool) -> None:
        self._id = new_id("chatcmpl-")
        self._model = model
        self._created = 0
        self._include_usage = include_usage
        self._opened = [False] * count
        self._called = [False] * count
        self._shown: list[set[int]] = [set() for _ in range(count)]  # calls that went out in pieces
        self._ends: list[Done] = []

    async def frames(self, events: AsyncIterator[Indexed]) -> AsyncIterator[bytes]:
        """All frames, `[DONE]` included."""
        async with aclosing(cast("Any", events)) as stream:
            async for index, event in stream:
                self._created = self._created or int(time.time())
                if isinstance(event, Delta):
                    yield self._delta(index, event)
                elif isinstance(event, Done):
                    yield self._finish(index, event)
        if self._include_usage:
            yield self._frame([], usage=usage_of(self._ends))
        yield frame(b"[DONE]")

    def _frame(self, choices: list[ChunkChoice], **more: Any) -> bytes:
        chunk = ChatCompletionChunk(id=self._id, created=self._created, model=self._model, choices=choices, **more)
        return frame(encode_json(chunk))

    def _delta(self, index: int, event: Delta) -> bytes:
        """The pieces of calls, a chunk each, behind the rest of the event."""
        self._called[index] = self._called[index] or bool(event.tool_calls)
        self._shown[index].update(piece.index for piece in event.call_pieces)
        calls = tuple(call for call in event.tool_calls if call.index not in self._shown[index])
        rest = replace(event, call_pieces=(), tool_calls=calls)
        data = b"" if rest == Delta() else self._piece(index, rest)
        return data + b"".join(self._call_piece(index, piece) for piece in event.call_pieces)

    def _call_piece(self, index: int, piece: CallPiece) -> bytes:
        if not piece.name and not piece.arguments:
            return b""
        call = ToolCallPiece(piece.index, ToolCallPieceFunction(piece.arguments))
        if piece.name:
            call.id, call.type, call.function.name = piece.id, "function", piece.name
        delta = DeltaReply(self._role(index), tool_calls=[call])
        return self._frame([ChunkChoice(index, delta)])

    def _role(self, index: int) -> str | UnsetType:
        """The role, in a choice's first delta."""
        role = UNSET if self._opened[index] else "assistant"
        self._opened[index] = True
        return role

    def _piece(self, index: int, event: Delta) -> bytes:
        """One chunk; two when thinking and content come in one event."""
        role = self._role(index)
        calls = tool_calls_of(event.tool_calls) or UNSET
        if event.thinking and (event.content or event.tool_calls):
            first = ChunkChoice(index, DeltaReply(role=role, reasoning=event.thinking), None, _logprobs(event.logprobs))
            second = ChunkChoice(index, DeltaReply(content=event.content, tool_calls=calls))
            return self._frame([first]) + self._frame([second])
        delta = DeltaReply(role, event.content, event.thinking or UNSET, calls)
        return self._frame([ChunkChoice(index, delta, None, _logprobs(event.logprobs))])

    def _finish(self, index: int, end: Done) -> bytes:
        self._ends.append(end)
        opening = b"" if self._opened[index] else self._piece(index, Delta())
        reason = finish_reason(end.reason or "stop", called=self._called[index])
        finish = ChunkChoice(index, DeltaReply(), reason)
        return opening + self._frame([finish], cache=cache_of(end.cache), warnings=warnings_of(end.notices))
