"""Completing one prompt, loading and unloading. Called by service.py.

The prompt becomes text in one of these ways, the first that applies:

| request or model                      | prompt                                                        |
|---------------------------------------|---------------------------------------------------------------|
| raw                                   | as it is                                                      |
| suffix                                | the Go template's fill-in-middle form                         |
| template in the request               | that template                                                 |
| rendered here (preparing/way.py)      | by the model's renderer or Go template                        |
| Jinja template in the GGUF            | the engine's /apply-template                                  |
| a renderer that nobody knows          | the same, as ChatML                                           |
| no template at all                    | as it is, system text and all else is lost (and told)         |

It always runs as a plain completion. Source: ollama server/routes.go GenerateHandler, 2026-08.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from corral.aio import run_computing
from corral.answer.outputs import OutputParser
from corral.constraint.checks import check_constraint, check_whole
from corral.constraint.fields import Thinking, engine_fields, reopen
from corral.core import Capability, Common, Done, Event, GenerateRequest, Message, Notice, Rendered, Think
from corral.errors import BlobMissing, InvalidRequest, ModelDamaged, ModelNotFound, UnsupportedModel
from corral.gotemplate import Template
from corral.inference.preparing.beginnings import of_text
from corral.inference.preparing.checks import check_generates, check_media, check_top_logprobs, decide_think, require
from corral.inference.preparing.images import prepare_images
from corral.inference.preparing.leasing import Prepared, find_model, loaded_key, prepare
from corral.inference.preparing.way import is_rendered, way_notices
from corral.inference.preparing.wider import leased_for
from corral.inference.progress import Emit
from corral.inference.running.completion import place_images, run_completion
from corral.inference.running.longtext import is_far_beyond
from corral.inference.running.repeats import RepeatGuard
from corral.inference.running.resuming import Attempt, resumed
from corral.inference.running.run import Run
from corral.inference.running.sampling import completion_fields
from corral.inference.running.specials import control_names, end_tokens, special_tokens, without_bos
from corral.inference.running.window import fit_prompt, missing, most_window, window_of
from corral.inference.shared import Shared
from corral.inference.tokens import check_ids
from corral.inference.ways.answers import (
    Answers,
    Asked,
    HarmonyAnswers,
    PlainAnswers,
    TemplateAnswers,
    answers_of,
    think_after,
    thinking_of,
)
from corral.inference.ways.prompts import GoPrompts, HarmonyPrompts, Prompts, prompts_of
from corral.inference.ways.templates import go_template, model_template
from corral.prompt.gorender import render_suffix
from corral.runner.gathering import GATHER_S, WHOLE_S
from corral.sched.request import Lease
from corral.store.models import Model


def generate(shared: Shared, request: GenerateRequest, emit: Emit | None = None) -> AsyncIterator[Event]:
    """The events of a completion; see Inference.generate."""
    start = time.perf_counter_ns()
    return resumed(lambda attempt: _generate(shared, request, emit, start, attempt), shared.telemetry)


async def unload(shared: Shared, common: Common, *, required: bool = False) -> None:
    """Let the runner of a model go when it is idle, also one whose files are gone or damaged since it was loaded.

    Raises what `find_model` does when the model is not loaded either, but for one that cannot run here: it never was.
    """
    try:
        key: str | None = str((await find_model(shared, common, required=required)).weights)
    except UnsupportedModel:
        return
    except (ModelNotFound, BlobMissing, ModelDamaged):
        key = loaded_key(shared, common) if common.model.strip() else None
        if key is None:
            raise
    if key is not None:
        await shared.scheduler.unload(key)


async def _generate(
    shared: Shared, request: GenerateRequest, emit: Emit | None, start: int, attempt: Attempt
) -> AsyncIterator[Event]:
    common, parameters = request.common, request.parameters
    check_top_logprobs(parameters)
    if not request.prompt and common.keep_alive_s == 0:
        await unload(shared, common)
        yield Done("unload")
        return
    model = await find_model(shared, common, required=False)
    think, notices = _check(model, request)
    constraint = parameters.constraint
    if constraint is not None:
        constraint, loose = await check_constraint(shared.trial, constraint)
        notices += loose
        parameters = replace(parameters, constraint=constraint)
        request = replace(request, parameters=parameters)
    templated = _is_templated(model, request)
    size = len(request.prompt) + len(request.suffix) + len(request.context or ())
    prepared = await prepare(shared, common, model, shift=parameters.shift, characters=size, templated=templated)
    if shared.scheduler.is_clustered:
        prepared = replace(prepared, prefixes=of_text(request.prompt, common.caller.owner))
    notices = [*prepared.notices, *way_notices(model), *notices]
    images = request.images if parameters.render_only else await prepare_images(request.images)

    async def needs(lease: Lease) -> int:
        if not request.prompt:
            return 0
        assembly = _Assembly(lease, prepared, request, think, [])
        return await missing(lease, prepared, await assembly.render(), assembly.left_out)

    attempt.prepared(prepared.choices)
    async with leased_for(shared, prepared, needs, attempt.quiet(emit)) as lease:
        load_ns = attempt.loaded()
        if not request.prompt:
            yield Done("load", notices=tuple(notices))
            return
        assembly = _Assembly(lease, prepared, replace(request, images=images), think, notices)
        prompt = await assembly.render()
        if parameters.render_only:
            yield Rendered(prompt, len(images))
            return
        run = Run(
            started_ns=start,
            load_duration_ns=load_ns,
            resumes=attempt.begun,
            guard=None if parameters.constraint else RepeatGuard(),
            max_tokens=prepared.choices.num_predict(window_of(lease)),
            want_top=parameters.top_logprobs,
            control_names=await control_names(model) if parameters.logprobs else {},
            notices=[*notices, *lease.notices],
            gather_s=WHOLE_S if parameters.whole else GATHER_S,
            strict=common.strict or shared.settings.strict,
            wants_cache=parameters.cache,
        )
        prompt, thinking = reopen(prompt, assembly.thinking(prompt), constraint, llguidance=prepared.llguidance)
        body = await _body(shared, lease, prepared, assembly, prompt, thinking, run)
        parser = assembly.parser(prompt, thinking)
        async with aclosing(cast("AsyncGenerator[Event, None]", run_completion(lease, body, run, parser))) as events:
            async for event in events:
                run.passes(event, shared.telemetry)
                yield event
        run.check(parameters.constraint)
        context = None if request.raw else tuple(await _context(lease, prompt, body["prompt"], run.text))
        done = run.done(context)
    shared.telemetry.finished(model.name.short, "generate", done.reason, done.metrics, done.notices)
    yield done


async def _context(lease: Lease, prompt: str, sent: object, answer: str) -> list[int]:
    """The tokens to go on from; of a prompt far beyond the window those that were left of it."""
    if isinstance(sent, list) and is_far_beyond(len(prompt), window_of(lease)):
        return [*sent, *await lease.runner.tokenize(answer)]
    return await lease.runner.tokenize(prompt + answer)


def _check(model: Model, request: GenerateRequest) -> tuple[Think, list[Notice]]:
    """What must hold before anything is loaded; whether to think."""
    check_generates(model, request.common, "generate")
    if request.raw and (request.template or request.system or request.context is not None):
        raise InvalidRequest("raw mode does not support template, system, or context", field="raw")
    think, notices = decide_think(model, request.common, request.parameters.think)
    if request.suffix:
        require(model, Capability.INSERT)
    if not request.parameters.render_only:
        check_media(model, request.images)
    if request.context:
        check_ids(model, request.context, "context")
    return think, notices


def _is_templated(model: Model, request: GenerateRequest) -> bool:
    """Whether the engine's template makes the prompt; see the table at the top of this file."""
    if not request.prompt or request.raw or request.suffix or request.template or is_rendered(model):
        return False
    return model.selected_template == "jinja" or bool(model.config.renderer)


async def _body(
    shared: Shared,
    lease: Lease,
    prepared: Prepared,
    assembly: _Assembly,
    prompt: str,
    thinking: Thinking | None,
    run: Run,
) -> dict[str, object]:
    parameters, images = assembly.request.parameters, assembly.request.images
    body = completion_fields(prepared.choices, parameters, window_of(lease))
    body["preserved_tokens"] = assembly.marks
    if parameters.constraint is not None or (thinking and thinking.budget):
        specials = await special_tokens(lease, assembly.marks)
        fields = engine_fields(
            parameters.constraint,
            thinking=thinking,
            specials=specials,
            ends=end_tokens(prepared.model),
            opening=assembly.opening,
            llguidance=prepared.llguidance,
        )
        await check_whole(shared.trial, fields.body)
        body |= fields.body
        run.notices.extend(fields.notices)
    prompt = await assembly.finished(prompt)
    if images:
        body["prompt"] = await place_images(lease, prompt, images)
    else:
        body["prompt"] = await fit_prompt(lease, prepared, prompt, parameters, run.notices, assembly.left_out)
    return body


@dataclass
class _Assembly:
    """Makes the prompt of one request."""

    lease: Lease
    prepared: Prepared
    request: GenerateRequest
    think: Think
    notices: list[Notice]

    def __post_init__(self) -> None:
        self.model = self.prepared.model
        self.left_out = 0  # tokens of the context, far beyond any window
        self._bos = ""  # of the prompts that were used
        self._answers: Answers = PlainAnswers()

    async def render(self) -> str:
        """The prompt's text; raises TemplateError for a bad template in the request."""
        request = self.request
        if request.raw:
            return request.prompt
        before = await self._before(request.context) if request.context else ""
        turn = await self._turn()
        return before + (turn.removeprefix(self._bos) if before else turn)

    async def _before(self, context: Sequence[int]) -> str:
        """The text of a context; of one far beyond the window what may be left of it."""
        detokenize, ends = self.lease.runner.detokenize, 2 * most_window(self.lease, self.prepared)
        if len(context) <= 2 * ends:
            return await detokenize(context)
        self.left_out = len(context) - 2 * ends
        return await detokenize(context[:ends]) + await detokenize(context[-ends:])

    async def finished(self, prompt: str) -> str:
        """The prompt as the engine gets it."""
        return await without_bos(self.lease, prompt, self._bos)

    @property
    def opening(self) -> str:
        """What stands before the answer's text."""
        return self._answers.opening

    @property
    def marks(self) -> list[str]:
        """Control tokens that the parser has to see."""
        return list(self._answers.marks)

    def thinking(self, prompt: str) -> Thinking | None:
        """How this answer's thinking will be marked."""
        return thinking_of(self._answers, prompt, self.think)

    def parser(self, prompt: str, thinking: Thinking | None) -> OutputParser | None:
        """What splits thinking off the answer."""
        return self._answers.parser(thinking, Asked(think=think_after(self._answers, prompt, self.think)))

    async def _turn(self) -> str:
        request, model = self.request, self.model
        if request.suffix:
            template = await run_computing(model_template, model)
            self._answers = TemplateAnswers(template)
            return await run_computing(render_suffix, template, request.prompt, request.suffix, think=self.think)
        messages = self._messages()
        prompts: Prompts
        if request.template:
            prompts, self._answers = self._by_template(await run_computing(go_template, request.template))
        elif is_rendered(model) or _is_templated(model, request):
            rendered = is_rendered(model)
            prompts = prompts_of(self.lease, model, rendered=rendered)
            self._answers = answers_of(model, rendered=rendered)
        else:
            self._tell_lost(messages)
            prompts, self._answers = self._by_template(await run_computing(model_template, model))
        self._bos = prompts.bos
        return await prompts.render(messages, (), self.think)

    def _by_template(self, template: Template) -> tuple[Prompts, Answers]:
        if self.model.uses_harmony:
            return HarmonyPrompts(template), HarmonyAnswers()
        return GoPrompts(template), TemplateAnswers(template)

    def _messages(self) -> list[Message]:
        """System text, the model's own messages unless an earlier context stands for them, the prompt."""
        request, model = self.request, self.model
        system = request.system or model.system
        first = [Message("system", system)] if system else []
        own = [] if request.context is not None else list(model.messages)
        return [*first, *own, Message("user", request.prompt, images=request.images)]

    def _tell_lost(self, messages: list[Message]) -> None:
        lost = sorted({message.role for message in messages[:-1]})
        if lost:
            text = f"the model has no template; these parts are not in its prompt: {', '.join(lost)}"
            self.notices.append(Notice("no_template", text, {"roles": lost}))
