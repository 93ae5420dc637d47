"""A conversation that is rendered as one text for /completion, whose answer our parsers read. Called by chat.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from corral.aio import run_computing
from corral.answer.outputs import OutputParser
from corral.constraint.checks import check_tools, check_whole
from corral.constraint.enginetools import convertible
from corral.constraint.fields import EngineFields, Thinking, ToolGrammar, engine_fields, reopen
from corral.core import Event, Message, Rendered
from corral.inference.preparing.way import is_rendered
from corral.inference.running.completion import place_images, run_completion
from corral.inference.running.lastturn import last_turn
from corral.inference.running.longtext import count_tokens
from corral.inference.running.run import Run
from corral.inference.running.sampling import completion_fields
from corral.inference.running.specials import end_tokens, special_tokens, without_bos
from corral.inference.running.window import fit_prompt, surely_fits, window_of
from corral.inference.ways.answers import Asked, EngineAnswers, answers_of, think_after, thinking_of
from corral.inference.ways.conversation import Conversation
from corral.inference.ways.enginecalls import engine_tool_format, marks_of
from corral.inference.ways.prompts import prompts_of
from corral.inference.ways.shaping import left_out_notices
from corral.prompt.generic_tools import generic_messages
from corral.prompt.gorender import schema_notices, tag_images
from corral.prompt.toolformat import GENERIC_FORMAT, ToolFormat


class RenderedChat:
    """See conversation.Way."""

    def __init__(self, conversation: Conversation) -> None:
        self._chat = conversation
        model = conversation.model
        rendered = is_rendered(model)
        self._prompts = prompts_of(conversation.lease, model, rendered=rendered)
        self._answers = answers_of(model, rendered=rendered)
        self._call_marks: list[str] = []
        self._shown = conversation.tools if rendered else convertible(conversation.tools)[0]
        if rendered and not conversation.generic_tools:
            conversation.notices += schema_notices(conversation.tools)

    async def count(self, messages: Sequence[Message], *, exact: bool = False, within: int = 0) -> int:
        """Tokens of the rendered text; its bytes when those fit already."""
        text = await self._render(messages)
        lease = self._chat.lease
        if exact:
            return await lease.runner.count_tokens(text)
        size, window = len(text.encode()), window_of(lease)
        return size if surely_fits(size, window) else await count_tokens(lease, text, max(within, window))

    async def show(self, messages: Sequence[Message]) -> Rendered:
        """The rendered text."""
        return Rendered(await self._render(messages), sum(len(message.images) for message in messages))

    async def run(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The answer, thinking and tool calls taken out of its text."""
        chat = self._chat
        if isinstance(self._answers, EngineAnswers) and chat.tools and not chat.generic_tools:
            self._answers.calls = await self._engine_calls()
        text = await self._render(messages)
        llguidance, constraint = chat.prepared.llguidance, chat.parameters.constraint
        text, thinking = reopen(text, thinking_of(self._answers, text, chat.think), constraint, llguidance=llguidance)
        fields = await self._bound(thinking, messages)
        run.notices.extend(fields.notices)
        if fields.body.get("grammar"):
            run.guard = None
        body = completion_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease)) | fields.body
        body["preserved_tokens"] = [*self._answers.marks, *self._call_marks, GENERIC_FORMAT.tag]
        parser = self._parser(text, thinking, messages)
        if parser is not None and chat.parameters.call_pieces:
            parser.show_calls()
        run.notices += left_out_notices(messages, text)
        text = await without_bos(chat.lease, text, self._prompts.bos)
        body["prompt"] = await self._prompt(text, messages, run)
        turn = last_turn(text, messages) if chat.lease.spec.rolls_back else None
        async for event in run_completion(chat.lease, body, run, parser, turn):
            yield event

    async def _engine_calls(self) -> ToolFormat | None:
        """How calls are written; a call that must be is written in our own form where the model's is not known."""
        form = await engine_tool_format(self._chat.lease)
        return form or (GENERIC_FORMAT if self._chat.must_call else None)

    async def _prompt(self, text: str, messages: Sequence[Message], run: Run) -> Any:
        chat = self._chat
        images = tag_images(messages).images
        if images:
            return await place_images(chat.lease, text, images)
        return await fit_prompt(chat.lease, chat.prepared, text, chat.parameters, run.notices)

    async def _render(self, messages: Sequence[Message]) -> str:
        chat = self._chat
        if chat.generic_tools:
            turned = generic_messages(messages, chat.tools, chat.tool_choice)
            return await self._prompts.render(turned, (), chat.think)
        return await self._prompts.render(messages, self._shown, chat.think)

    async def _bound(self, thinking: Thinking | None, messages: Sequence[Message]) -> EngineFields:
        """The grammar, if the answer has to match anything."""
        chat = self._chat
        tools = await self._tool_grammar()
        constraint = chat.parameters.constraint
        if constraint is None and tools is None and (thinking is None or thinking.budget is None):
            return EngineFields()
        if tools:
            self._call_marks = [tools.format.tag, *marks_of(tools.format)]
        fields = engine_fields(
            constraint,
            thinking=thinking,
            tools=tools,
            specials=await special_tokens(chat.lease, [*self._answers.marks, *self._call_marks]),
            ends=end_tokens(chat.model),
            opening="" if messages[-1].role == "assistant" else self._answers.opening,
            llguidance=chat.prepared.llguidance,
        )
        await check_whole(chat.trial, fields.body)
        return fields

    async def _tool_grammar(self) -> ToolGrammar | None:
        chat = self._chat
        if not chat.tools:
            return None
        form: ToolFormat | None = GENERIC_FORMAT
        if not chat.generic_tools:
            form = await run_computing(self._answers.tool_format)
        if form is None:
            return None
        schemas, notices = await check_tools(chat.trial, chat.tools)
        chat.notices.extend(notices)
        return ToolGrammar(tuple(chat.tools), chat.tool_choice, form, schemas)

    def _parser(self, text: str, thinking: Thinking | None, messages: Sequence[Message]) -> OutputParser | None:
        chat = self._chat
        think = think_after(self._answers, text, chat.think)
        return self._answers.parser(thinking, Asked(chat.tools, messages[-1], think, chat.generic_tools))
