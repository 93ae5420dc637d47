"""Answering a conversation. Called by service.py.

Whatever the way (preparing/way.py): fit the messages to the window, show or run the prompt, read the answer.
Source: ollama server/routes.go ChatHandler, server/prompt.go, 2026-08.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from corral.aio import run_computing
from corral.constraint.checks import check_constraint
from corral.core import Capability, ChatRequest, Done, Event, Message, Notice, characters_of
from corral.errors import EngineError, InvalidRequest
from corral.inference.generate import unload
from corral.inference.preparing.beginnings import of_chat
from corral.inference.preparing.checks import (
    check_generates,
    check_media,
    check_top_logprobs,
    decide_think,
    require_tools,
)
from corral.inference.preparing.images import prepare_message_images
from corral.inference.preparing.leasing import Prepared, find_model, leased, prepare
from corral.inference.preparing.way import is_rendered, way_notices
from corral.inference.preparing.wider import leased_for
from corral.inference.progress import Emit
from corral.inference.running.repeats import RepeatGuard
from corral.inference.running.resuming import Attempt, resumed
from corral.inference.running.run import Run
from corral.inference.running.specials import control_names
from corral.inference.running.window import overflow_of, window_of
from corral.inference.shared import Shared
from corral.inference.ways.conversation import Conversation, Way, full_history
from corral.inference.ways.fitting import fit, measure, missing
from corral.inference.ways.rendered import RenderedChat
from corral.inference.ways.templated import TemplatedChat
from corral.prompt.fit import IMAGE_TOKENS
from corral.prompt.gorender import strip_old_thinking, thinks
from corral.runner.gathering import GATHER_S, WHOLE_S
from corral.sched.request import Lease
from corral.store.models import Model

MAX_MESSAGES = 10_000  # of a request; what is longer takes tenths of a second to look at, and no window holds it


def chat(shared: Shared, request: ChatRequest, emit: Emit | None = None) -> AsyncIterator[Event]:
    """The events of an answer; see Inference.chat."""
    start = time.perf_counter_ns()
    return resumed(lambda attempt: _chat(shared, request, emit, start, attempt), shared.telemetry, _told)


def _told(error: Exception) -> Exception:
    overflow = overflow_of(error) if isinstance(error, EngineError) else None
    return overflow or error


async def count_tokens(shared: Shared, request: ChatRequest) -> int:
    """Prompt tokens of a chat request, tools, template and images included; nothing is generated."""
    prepared, request, _ = await _prepare(shared, request)
    async with leased(shared, prepared) as lease:
        conversation = _converse(shared, lease, prepared, request)
        way = await run_computing(_way, conversation)
        tokens = await way.count(conversation.messages, exact=True)
    return tokens + IMAGE_TOKENS * sum(len(message.images) for message in conversation.messages)


async def _chat(
    shared: Shared, request: ChatRequest, emit: Emit | None, start: int, attempt: Attempt
) -> AsyncIterator[Event]:
    check_top_logprobs(request.parameters)
    if not request.messages and request.common.keep_alive_s == 0:
        await unload(shared, request.common, required=True)
        yield Done("unload")
        return
    prepared, request, notices = await _prepare(shared, request)

    counted: int | None = None  # tokens of the whole conversation, once they had to be known for the window

    async def needs(lease: Lease) -> int:
        nonlocal counted
        if not request.messages:
            return 0
        conversation = _converse(shared, lease, prepared, request)
        counted = await measure(conversation, await run_computing(_way, conversation))
        return missing(conversation, counted)

    attempt.prepared(prepared.choices)
    async with leased_for(shared, prepared, needs, attempt.quiet(emit)) as lease:
        load_ns = attempt.loaded()
        if not request.messages:
            yield Done("load", notices=tuple(notices))
            return
        conversation = _converse(shared, lease, prepared, request)
        conversation.notices[:0] = [*notices, *lease.notices]
        way = await run_computing(_way, conversation)
        messages = await fit(conversation, way, counted)
        if request.parameters.render_only:
            yield await way.show(messages)
            return
        run = Run(
            started_ns=start,
            load_duration_ns=load_ns,
            resumes=attempt.begun,
            guard=None if request.parameters.constraint else RepeatGuard(),
            max_tokens=prepared.choices.num_predict(window_of(lease)),
            want_top=request.parameters.top_logprobs,
            control_names=await control_names(prepared.model) if request.parameters.logprobs else {},
            window=window_of(lease) if request.keeps_all else 0,
            notices=conversation.notices,
            gather_s=WHOLE_S if request.parameters.whole else GATHER_S,
            strict=request.common.strict or shared.settings.strict,
            wants_cache=request.parameters.cache,
        )
        async with aclosing(cast("AsyncGenerator[Event, None]", way.run(messages, run))) as events:
            async for event in events:
                run.passes(event, shared.telemetry)
                yield event
        run.check(request.parameters.constraint)
        if conversation.must_call:
            run.check_called()
        done = run.done()
    shared.telemetry.finished(prepared.model.name.short, "chat", done.reason, done.metrics, done.notices)
    yield done


async def _prepare(shared: Shared, request: ChatRequest) -> tuple[Prepared, ChatRequest, list[Notice]]:
    """All that can be refused before anything is loaded; the request with thinking, tools and images settled."""
    if len(request.messages) > MAX_MESSAGES:
        why = f"there are {len(request.messages)} messages, the limit is {MAX_MESSAGES}"
        raise InvalidRequest(why, field="messages")
    model = await find_model(shared, request.common, required=True)
    check_generates(model, request.common, "chat")
    think, notices = decide_think(
        model, request.common, request.parameters.think, unsupported=request.unsupported_think
    )
    tools = () if request.tool_choice.mode == "none" else request.tools
    unable = bool(tools) and Capability.TOOLS not in model.capabilities
    generic = bool(tools) and (request.generic_tools or (unable and shared.settings.generic_tools))
    if unable and not generic:
        require_tools(model)
    constraint = request.parameters.constraint
    if constraint is not None:
        constraint, loose = await check_constraint(shared.trial, constraint)
        notices += loose
    if not request.parameters.render_only:
        check_media(model, [data for message in request.messages for data in message.images])
    templated = bool(request.messages) and not is_rendered(model)
    prepared = await prepare(
        shared,
        request.common,
        model,
        shift=request.parameters.shift,
        characters=characters_of(request.messages),
        templated=templated,
    )
    if shared.scheduler.is_clustered:
        owner = request.common.caller.owner
        prepared = replace(prepared, prefixes=await run_computing(of_chat, request.messages, tools, owner))
    shown = request.parameters.render_only  # images are but marks in the prompt
    messages = request.messages if shown else await prepare_message_images(request.messages)
    parameters = replace(request.parameters, think=think, constraint=constraint)
    settled = replace(request, messages=messages, tools=tools, generic_tools=generic, parameters=parameters)
    return prepared, settled, [*prepared.notices, *way_notices(model), *notices]


def _converse(shared: Shared, lease: Lease, prepared: Prepared, request: ChatRequest) -> Conversation:
    return Conversation(
        lease=lease,
        trial=shared.trial,
        prepared=prepared,
        messages=_history(prepared.model, request),
        tools=request.tools,
        tool_choice=request.tool_choice,
        think=request.parameters.think,
        parameters=request.parameters,
        generic_tools=request.generic_tools,
        keeps_all=request.keeps_all,
    )


def _history(model: Model, request: ChatRequest) -> list[Message]:
    messages = full_history(model, request.messages)
    if model.family == "qwen3" or "deepseek-r1" in model.name.model:
        return strip_old_thinking(messages)
    return messages


def _way(conversation: Conversation) -> Way:
    """Templated by the engine, unless Corral renders, or something is asked for that only /completion can do.

    There, a grammar of ours stands for the whole answer, thinking and calls of tools included. The engine's own chat
    puts a client's grammar before the thinking, refuses it beside tools, holds its own schemas less well, and lets text
    come before a call that must be.
    """
    more_than_text = thinks(conversation.think) or bool(conversation.tools)
    constrained = conversation.parameters.constraint is not None and more_than_text
    by_hand = conversation.generic_tools or (
        conversation.prepared.llguidance and (constrained or conversation.must_call)
    )
    rendered = is_rendered(conversation.model) or by_hand
    return RenderedChat(conversation) if rendered else TemplatedChat(conversation)
