"""nemotron-3-nano and nemotron-3.5-nano. Source: ollama model/renderers/nemotron3nano.go, 2026-08.

The older models obey /think and /no_think in a prompt; the newer ones take them as text.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.gorender import thinks
from corral.prompt.govalues import trim_space
from corral.prompt.renderers.history import last_index, role_at, split_system
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.nemotron_tools import declare_tools, template_value

_START, _END = "<|im_start|>", "<|im_end|>\n"
_OPEN, _CLOSE = "<think>", "</think>"
_NO_THOUGHT = _OPEN + _CLOSE


class Nemotron3Nano:
    """See registry.Renderer."""

    bos = ""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; it thinks unless told not to. Thoughts before the last question are left out."""
        system, turns = split_system(messages)
        own = self._system_text(system.content) if system else ""
        told = ("\n\n" if own else "") + declare_tools(tools) if tools else ""
        last_user = last_index(turns, "user")
        images = ImageTags()
        parts = [f"{_START}system\n{own}{told}{_END}"]
        for place, message in enumerate(turns):
            match message.role:
                case "assistant":
                    parts.append(self._answer(message, is_old=place < last_user))
                case "user" | "system":
                    content = self._asked(images.place(message), think, is_last=place == last_user)
                    parts.append(f"{_START}{message.role}\n{content}{_END}")
                case "tool":
                    parts.append(_result(turns, place, images.place(message)))
                case role:
                    parts.append(f"{_START}{role}\n{message.content}{_END}")
        thinking = self._thinks(messages, think)
        return "".join([*parts, f"{_START}assistant\n", f"{_OPEN}\n" if thinking else _NO_THOUGHT])

    def _thinks(self, messages: Sequence[Message], think: Think) -> bool:
        """The last /think or /no_think decides; without one the request does."""
        thinking = think is None or thinks(think)
        for message in messages:
            if message.role in ("user", "system"):
                if "/think" in message.content.replace(_CLOSE, ""):
                    thinking = True
                elif "/no_think" in message.content:
                    thinking = False
        return thinking

    def _system_text(self, content: str) -> str:
        return _without_toggles(content)

    def _asked(self, content: str, think: Think, *, is_last: bool) -> str:
        return trim_space(_without_toggles(content))

    def _thought_block(self, message: Message) -> str:
        return f"{_OPEN}\n{message.thinking}\n{_CLOSE}\n"

    def _answer(self, message: Message, *, is_old: bool) -> str:
        if message.thinking:
            content = self._thought_block(message) + message.content
        elif _OPEN in message.content or _CLOSE in message.content:
            content = message.content
        else:
            content = _NO_THOUGHT + message.content
        if message.tool_calls:
            said = _before_calls(content, is_old=is_old) + "".join(map(_call, message.tool_calls))
        else:
            said = _without_thought(content) if is_old else trim_space(content)
        return f"{_START}assistant\n{said}{_END}"


class Nemotron35Nano(Nemotron3Nano):
    """See registry.Renderer. Level `medium` is told in words."""

    def _thinks(self, messages: Sequence[Message], think: Think) -> bool:
        return think is None or thinks(think)

    def _system_text(self, content: str) -> str:
        return content

    def _asked(self, content: str, think: Think, *, is_last: bool) -> str:
        return content + ("\n\n{reasoning effort: efficient}" if is_last and think == "medium" else "")

    def _thought_block(self, message: Message) -> str:
        return f"{_OPEN}\n{message.thinking}{_CLOSE}"


def _without_toggles(text: str) -> str:
    """The text without /think and /no_think; a closing tag is no toggle."""
    pieces = (piece.replace("/think", "").replace("/no_think", "") for piece in text.split(_CLOSE))
    return _CLOSE.join(pieces)


def _without_thought(content: str) -> str:
    if _OPEN in content and _CLOSE in content:
        content = _NO_THOUGHT + content.rpartition(_CLOSE)[2]
    return trim_space(content)


def _before_calls(content: str, *, is_old: bool) -> str:
    """What is said before calls."""
    if not is_old:
        return f"{trim_space(content)}\n"
    said = content.rpartition(_CLOSE)[2] if _CLOSE in content else content.partition(_OPEN)[0]
    return trim_space(_NO_THOUGHT + trim_space(said)) + "\n"


def _call(call: ToolCall) -> str:
    arguments = "".join(
        f"<parameter={name}>\n{template_value(value)}\n</parameter>\n" for name, value in call.arguments.items()
    )
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>\n"


def _result(turns: Sequence[Message], place: int, content: str) -> str:
    """Results that follow each other are one turn of the user; one that nothing precedes opens none."""
    begin = f"{_START}user\n" if place and role_at(turns, place - 1) != "tool" else ""
    end = "" if role_at(turns, place + 1) == "tool" else _END
    return f"{begin}<tool_response>\n{content}\n</tool_response>\n{end}"
