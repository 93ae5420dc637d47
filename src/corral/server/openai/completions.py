"""POST /v1/completions: text in, text out; prompt lists and token arrays too.

A text goes through the model's template, as with Ollama; a list of token ids is the exact prompt. With several
prompts and `n`, choice `p * n + i` is the i-th answer to prompt p.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native_replies import cache_of, warnings_of
from corral.api.openai import CompletionRequest, TextChoice, TextCompletion, TextLogprobs, Usage
from corral.core import Common, Delta, Done, GenerateRequest, GenerationParameters, TokenLogprob
from corral.errors import InvalidRequest
from corral.server.answer import Answer
from corral.server.deps import Deps, deps_of
from corral.server.openai.chat import gather_answers, usage_of
from corral.server.openai.encoding import encode_json, new_id
from corral.server.openai.fields import common_of, read_count, read_logit_bias, sampling_options, stop_notices
from corral.server.openai.merge import Indexed, merge
from corral.server.openai.messages import go_kind
from corral.server.openai.wire import error_event, error_reply, frame, json_reply, read_request, with_pings
from corral.server.stream import SSE, EventStream, Reply

MAX_CHOICES = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """The generations that answer one request, `count` for each prompt.

    `echoes` are the texts to repeat before each answer.
    """

    requests: tuple[GenerateRequest, ...]
    echoes: tuple[str, ...]
    count: int


async def completions(request: Request) -> Response:
    """Serve one completion request."""
    body, notices = await read_request(request, CompletionRequest)
    deps = deps_of(request)
    notices = (*notices, *stop_notices(body.stop))
    common = common_of(request, body, _options(body), notices, strict=deps.settings.strict)
    plan = await _plan(deps, body, common)
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        encoder = TextEncoder(body.model, plan.echoes, plan.count, include_usage=usage)
        events = encoder.frames(merge([deps.inference.generate(each) for each in plan.requests]))
        frames = with_pings(events, deps.settings.ping_interval_s)
        return EventStream(frames, bytes, media_type=SSE, fail=error_event, refuse=error_reply)
    return Reply(lambda: _whole(deps, body, plan), error_reply)


def _options(body: CompletionRequest) -> dict[str, Any]:
    wrong = [item for item in body.stop if not isinstance(item, str)] if isinstance(body.stop, list) else []
    if wrong:
        raise InvalidRequest(f"invalid type for 'stop' field: {go_kind(wrong[0])}", field="stop")
    return sampling_options(body)


async def _plan(deps: Deps, body: CompletionRequest, common: Common) -> Plan:
    count, logprobs = read_count(body.n), body.logprobs or 0
    parameters = GenerationParameters(
        logprobs=logprobs > 0,
        top_logprobs=logprobs,
        logit_bias=read_logit_bias(body.logit_bias),
        whole=not body.stream,
        render_only=bool(body.debug_render_only),
        cache=bool(body.cache),
    )
    requests: list[GenerateRequest] = []
    echoes: list[str] = []
    for prompt in read_prompts(body.prompt):
        raw = not isinstance(prompt, str)
        text = prompt if isinstance(prompt, str) else await deps.inference.detokenize(common, prompt)
        for index in range(count):
            seed = common.options.get("seed")
            own = common
            if index and isinstance(seed, int):
                own = replace(common, options={**common.options, "seed": seed + index})
            suffix = body.suffix or ""
            requests.append(GenerateRequest(own, prompt=text, suffix=suffix, raw=raw, parameters=parameters))
            echoes.append(text if body.echo else "")
    if len(requests) > MAX_CHOICES:
        raise InvalidRequest(f"prompts times n must not exceed {MAX_CHOICES}", field="prompt")
    return Plan(tuple(requests), tuple(echoes), count)


def read_prompts(value: Any) -> list[str | list[int]]:
    """The prompts: a text, a list of texts, a list of ids, or a list of those. Raises InvalidRequest."""
    if value is None or isinstance(value, str):
        return [value or ""]
    if isinstance(value, list) and value:
        if _is_ids(value):
            return [value]
        if all(isinstance(item, str) or (_is_ids(item) and item) for item in value):
            return list(value)
    raise InvalidRequest("prompt must be a string, a list of strings, or token ids", field="prompt")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value)


async def _whole(deps: Deps, body: CompletionRequest, plan: Plan) -> Response:
    answers = await gather_answers(merge([deps.inference.generate(each) for each in plan.requests]), len(plan.requests))
    ends = {index: answer.done for index, answer in enumerate(answers) if answer.done is not None}
    warnings = warnings_of(notice for end in ends.values() for notice in end.notices)
    choices = [_choice(index, answer, plan.echoes[index]) for index, answer in enumerate(answers)]
    reply = TextCompletion(
        id=new_id("cmpl-"),
        created=int(time.time()),
        model=body.model,
        choices=choices,
        usage=_usage(ends, plan.count),
        cache=cache_of(ends[0].cache) if 0 in ends else UNSET,
        warnings=warnings,
    )
    return json_reply(reply, 0 if isinstance(warnings, UnsetType) else len(warnings))


def _usage(ends: Mapping[int, Done], count: int) -> Usage:
    """Tokens of all choices; `count` of them share a prompt."""
    prompts: dict[int, list[Done]] = {}
    for index, end in ends.items():
        prompts.setdefault(index // count, []).append(end)
    return usage_of(*prompts.values())


def _choice(index: int, answer: Answer, echo: str) -> TextChoice:
    reason = (answer.done.reason or None) if answer.done else None
    logprobs = text_logprobs(answer.logprobs, len(echo)) if answer.logprobs else UNSET
    return TextChoice(echo + "".join(answer.content), index, reason, logprobs)


def text_logprobs(entries: Sequence[TokenLogprob], offset: int) -> TextLogprobs:
    """The four parallel lists; `offset` counts characters of the text before the first token."""
    found = TextLogprobs([], [], [], [])
    for entry in entries:
        found.tokens.append(entry.token)
        found.token_logprobs.append(entry.logprob)
        found.top_logprobs.append({top.token: top.logprob for top in entry.top})
        found.text_offset.append(offset)
        offset += len(entry.token)
    return found


class TextEncoder:
    """Events of several completions to the frames of one stream; the finish reason stands on a choice's last frame."""

    def __init__(self, model: str, echoes: Sequence[str], count: int, *, include_usage: bool) -> None:
        self._id = new_id("cmpl-")
        self._model = model
        self._include_usage = include_usage
        self._prefixes = list(echoes)  # what to put before the next piece of each choice
        self._offsets = [0 for _ in echoes]
        self._count = count  # answers to each prompt
        self._ends: dict[int, Done] = {}

    async def frames(self, events: AsyncIterator[Indexed]) -> AsyncIterator[bytes]:
        """All frames, `[DONE]` included."""
        async with aclosing(cast("Any", events)) as stream:
            async for index, event in stream:
                if isinstance(event, Delta) and (event.content or event.logprobs):
                    yield self._piece(index, event.content, event.logprobs)
                elif isinstance(event, Done):
                    self._ends[index] = event
                    yield self._piece(index, "", (), event)
        if self._include_usage:
            yield self._frame([], _usage(self._ends, self._count))
        yield frame(b"[DONE]")

    def _piece(self, index: int, content: str, entries: Sequence[TokenLogprob], end: Done | None = None) -> bytes:
        text = self._prefixes[index] + content
        start = self._offsets[index] + len(self._prefixes[index])
        self._prefixes[index] = ""
        self._offsets[index] += len(text)
        logprobs = text_logprobs(entries, start) if entries else UNSET
        choice = TextChoice(text, index, (end.reason or None) if end else None, logprobs)
        usage = Usage() if self._include_usage else UNSET
        if end is None:
            return self._frame([choice], usage)
        return self._frame([choice], usage, cache=cache_of(end.cache), warnings=warnings_of(end.notices))

    def _frame(self, choices: list[TextChoice], usage: Usage | UnsetType, **more: Any) -> bytes:
        created = int(time.time())
        chunk = TextCompletion(id=self._id, created=created, model=self._model, choices=choices, usage=usage, **more)
        return frame(encode_json(chunk))
