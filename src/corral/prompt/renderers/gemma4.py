"""gemma4, gemma4-small, gemma4-large: Gemma 4. Source: ollama model/renderers/gemma4.go, 2026-08.

The two sizes differ in how an answer without thinking begins: the large models get an empty block of thoughts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.gorender import thinks
from corral.prompt.govalues import trim_space
from corral.prompt.renderers.gemma4_schema import QUOTE, declaration
from corral.prompt.renderers.gemmavalues import write_value
from corral.prompt.renderers.history import last_index, role_at, split_system
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.tooljson import sorted_arguments

_TURN, _END = "<|turn>", "<turn|>\n"
_THOUGHT, _THOUGHT_END = "<|channel>thought\n", "<channel|>"
_CHANNEL = re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)", re.DOTALL)


class Gemma4:
    """See registry.Renderer."""

    bos = "<bos>"

    def __init__(self, *, empty_thought: bool) -> None:
        self._empty_thought = empty_thought

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; thinking has to be asked for."""
        thinking = thinks(think)
        system, turns = split_system(messages, "system", "developer")
        parts = [self.bos]
        if system or tools or thinking:
            parts.append(_system(system.content if system else "", tools, thinking=thinking))
        conversation = _Conversation(turns)
        parts += [conversation.turn(place) for place in range(len(turns)) if turns[place].role != "tool"]
        parts.append(self._answer(conversation.waits_for, thinking=thinking))
        return "".join(parts)

    def _answer(self, waits_for: str, *, thinking: bool) -> str:
        """The beginning of the model's turn, unless it is still in one."""
        if waits_for == "results":
            return ""
        if waits_for == "more":
            return _THOUGHT if thinking else ""
        empty = _THOUGHT + _THOUGHT_END if self._empty_thought and not thinking else ""
        return f"{_TURN}model\n{empty}"


def _system(own: str, tools: Sequence[Tool], *, thinking: bool) -> str:
    think = "<|think|>\n" if thinking else ""
    return f"{_TURN}system\n{think}{trim_space(own)}{''.join(map(declaration, tools))}{_END}"


class _Conversation:
    """Writes turns in order. Neighbouring answers are one turn, and the results of calls stand in it.

    `waits_for` after the last one: an `answer`, the `results` of calls, or `more` behind results.
    """

    def __init__(self, turns: Sequence[Message]) -> None:
        self._turns = turns
        self._last_user = last_index(turns, "user")
        self._images = ImageTags()
        self._spoken = [place for place, message in enumerate(turns) if message.role != "tool"]
        self._next_role = dict(zip(self._spoken, [turns[place].role for place in self._spoken[1:]], strict=False))
        self._role_before = ""
        self.waits_for = "answer"

    def turn(self, place: int) -> str:
        """The message at a place that is no tool's, with the results of its calls."""
        message = self._turns[place]
        goes_on = _is_model(message) and self._role_before == "assistant"
        self._role_before = message.role
        role = "model" if _is_model(message) else message.role
        thought = ""
        if message.role == "assistant" and message.thinking and place > self._last_user:
            thought = f"{_THOUGHT}{message.thinking}\n{_THOUGHT_END}"
        calls = "".join(map(_call, message.tool_calls))
        results = self._results(place)
        content, has_content = self._content(message)
        self.waits_for = "answer" if not calls else "more" if results else "results"
        end = self._end(place, has_content=has_content)
        return ("" if goes_on else f"{_TURN}{role}\n") + thought + calls + results + content + end

    def _end(self, place: int, *, has_content: bool) -> str:
        if self.waits_for == "results":
            return "<|tool_response>"
        following = self._next_role.get(place, "")
        goes_on = _is_model(self._turns[place]) and following == "assistant"
        unfinished = self.waits_for == "more" and not has_content and not following
        return "" if goes_on or unfinished else _END

    def _content(self, message: Message) -> tuple[str, bool]:
        """The text, tags for its images, and whether there is any of either."""
        text = trim_space(_CHANNEL.sub("", message.content) if _is_model(message) else message.content)
        return self._images.place(message, text), bool(text or message.images)

    def _results(self, place: int) -> str:
        calls = self._turns[place].tool_calls
        names = {call.id: call.name for call in reversed(calls) if call.id}
        written: list[str] = []
        while calls and role_at(self._turns, place + 1) == "tool":
            place += 1
            result = self._turns[place]
            value = write_value(self._images.place(result), QUOTE)
            name = names.get(result.tool_call_id, result.tool_name or "unknown")
            written.append(f"<|tool_response>response:{name}{{value:{value}}}<tool_response|>")
        return "".join(written)


def _is_model(message: Message) -> bool:
    return message.role in ("assistant", "model")


def _call(call: ToolCall) -> str:
    arguments = ",".join(f"{name}:{write_value(value, QUOTE)}" for name, value in sorted_arguments(call))
    return f"<|tool_call>call:{call.name}{{{arguments}}}<tool_call|>"
