"""A conversation on the rendered path: Go template or harmony, /completion, our own parsers. Called by chat.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from corral.core import Event, Message, Rendered, Tool
from corral.inference.constraints import completion_constraint
from corral.inference.conversation import Conversation
from corral.inference.rendered import fit_prompt, place_images, run_completion, window_of
from corral.inference.run import Run
from corral.inference.sampling import completion_fields
from corral.inference.templates import model_template
from corral.prompt.gorender import render_messages, schema_notices, tag_images, thinks
from corral.prompt.harmony import FunctionNames, HarmonyParser
from corral.prompt.outputs import OutputParser, TaggedOutput
from corral.prompt.thinking import ThinkingParser, infer_tags
from corral.prompt.toolcalls import ToolCallParser, find_tag


class RenderedChat:
    """See conversation.Way."""

    def __init__(self, conversation: Conversation) -> None:
        self._chat = conversation
        self._template = model_template(conversation.model)
        self._names = FunctionNames(conversation.tools) if conversation.model.uses_harmony else None
        conversation.notices += schema_notices(conversation.tools)

    async def count(self, messages: Sequence[Message], *, exact: bool = False) -> int:
        """Tokens of the rendered text; its bytes when those fit already."""
        text = self._render(messages)
        size = len(text.encode())
        if not exact and size <= window_of(self._chat.lease):
            return size
        return len(await self._chat.lease.runner.tokenize(text))

    async def show(self, messages: Sequence[Message]) -> Rendered:
        """The rendered text."""
        return Rendered(self._render(messages), sum(len(message.images) for message in messages))

    async def run(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The answer, thinking and tool calls taken out of its text."""
        chat = self._chat
        text = self._render(messages)
        images = tag_images(messages).images
        body = completion_fields(chat.prepared.choices, chat.parameters, window_of(chat.lease))
        body |= completion_constraint(chat.parameters.constraint)
        if images:
            body["prompt"] = await place_images(chat.lease, text, images)
        else:
            body["prompt"] = await fit_prompt(chat.lease, chat.prepared, text, chat.parameters, run.notices)
        async for event in run_completion(chat.lease, body, run, self._parser(text, messages)):
            yield event

    def _render(self, messages: Sequence[Message]) -> str:
        return render_messages(self._template, tag_images(messages).messages, self._offered, think=self._chat.think)

    @property
    def _offered(self) -> Sequence[Tool]:
        return self._names.tools if self._names else self._chat.tools

    def _parser(self, text: str, messages: Sequence[Message]) -> OutputParser | None:
        if self._names is not None:
            return HarmonyParser(self._names, messages[-1] if messages else None)
        tags = infer_tags(self._template) if thinks(self._chat.think) else None
        inside = tags is not None and text.rstrip().endswith(tags[0])
        thinking = ThinkingParser(*tags, inside=inside) if tags else None
        tools = ToolCallParser(find_tag(self._template), self._chat.tools) if self._chat.tools else None
        return TaggedOutput(thinking, tools) if thinking or tools else None
