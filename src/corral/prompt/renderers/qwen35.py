"""qwen3.5 (Qwen3.5 and 3.6), qwen3.8 and ornith. Source: ollama model/renderers/qwen35.go, ornith.go, 2026-08.

| name    | thoughts of earlier answers  | effort of thinking | instructions                           |
|---------|------------------------------|--------------------|----------------------------------------|
| qwen3.5 | since the last question      |                    | as they come                           |
| qwen3.8 | all, a block for every answer | told in words     | folded into one system message in front |
| ornith  | all, a block for every answer |                   | as they come                           |
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.errors import InvalidRequest
from corral.prompt.gorender import think_level, thinks
from corral.prompt.govalues import trim_space
from corral.prompt.renderers.history import split_system
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.qwen3vl import is_tool_result, last_question, shown_content, tool_turn
from corral.prompt.renderers.qwencalls import HOW_TO_CALL, argument_text
from corral.prompt.renderers.tooljson import tool_json

_START, _END = "<|im_start|>", "<|im_end|>\n"
_OPEN, _CLOSE = "<think>", "</think>"
_HARD = (
    "Reasoning effort is set to xhigh. Please think carefully through the task, validate key assumptions, consider "
    "plausible alternatives, and prioritize correctness, consistency, and clarity in the final answer."
)
_BRIEF = (
    "Reasoning effort is set to low. Keep your thinking brief and focused, moving directly to the conclusion without "
    "unnecessary elaboration."
)
_EFFORTS = {"low": _BRIEF, "high": _HARD, "max": _HARD}  # of medium nothing is said


class Qwen35:
    """See registry.Renderer. `keeps_thoughts`: every answer shows its thoughts, if only an empty block."""

    bos = ""

    def __init__(self, *, keeps_thoughts: bool = False) -> None:
        self._keeps_thoughts = keeps_thoughts

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; it thinks unless told not to. An answer at the end is left open."""
        return self._system(messages, tools, think) + self._turns(messages, thinking=think is None or thinks(think))

    def _system(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        system, _ = split_system(messages)
        own = _content(system) if system else ""
        if tools:
            return _system_turn(_tools(tools), own)
        return f"{_START}system\n{own}{_END}" if system else ""

    def _turns(self, messages: Sequence[Message], *, thinking: bool) -> str:
        images, asked = ImageTags(), last_question(messages, _content)
        parts: list[str] = []
        for place, message in enumerate(messages):
            content = trim_space(images.place(message))
            match message.role:
                case "system" if place == 0:
                    pass
                case "user" | "system":
                    parts.append(f"{_START}{message.role}\n{content}{_END}")
                case "assistant":
                    shows_thought = self._keeps_thoughts or (thinking and place > asked)
                    parts.append(self._answer(message, content, shows_thought=shows_thought))
                    parts.append("" if place == len(messages) - 1 else _END)
                case "tool":
                    parts.append(tool_turn(messages, place, content))
                case role:
                    parts.append(self._unknown_turn(role, content))
        if messages and messages[-1].role != "assistant":
            parts.append(f"{_START}assistant\n{_OPEN}\n" + ("" if thinking else f"\n{_CLOSE}\n\n"))
        return "".join(parts)

    def _answer(self, message: Message, content: str, *, shows_thought: bool) -> str:
        thought, content = self._split_thought(message, content, shows_thought=shows_thought)
        block = f"{_OPEN}\n{thought}\n{_CLOSE}\n\n" if shows_thought else ""
        calls = "\n".join(map(_call, message.tool_calls))
        apart = "\n\n" if calls and trim_space(content) else ""
        return f"{_START}assistant\n{block}{content}{apart}{calls}"

    def _split_thought(self, message: Message, content: str, *, shows_thought: bool) -> tuple[str, str]:
        """An answer's thoughts and its content without them; they may stand in the content between tags."""
        if shows_thought and message.thinking:
            return trim_space(message.thinking), content
        before, closed, behind = content.partition(_CLOSE)
        if not closed:
            return "", content
        return trim_space(before.rpartition(_OPEN)[2]), behind.lstrip("\n")

    def _unknown_turn(self, role: str, content: str) -> str:
        return ""


class Qwen38(Qwen35):
    """See registry.Renderer. The template allows one system message, in front, without images, and wants a question."""

    def __init__(self) -> None:
        super().__init__(keeps_thoughts=True)

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; raises InvalidRequest for images among instructions, and when the user asks nothing."""
        folded = _fold_instructions(messages)
        if not any(message.role == "user" and not is_tool_result(_content(message)) for message in folded):
            raise InvalidRequest("no user query found in messages", field="messages")
        return super().render(folded, tools, think)

    def _system(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        system, _ = split_system(messages)
        effort = _HARD if think is None else _EFFORTS.get(think_level(think), "")
        return _system_turn(effort, _tools(tools) if tools else "", _content(system) if system else "")

    def _split_thought(self, message: Message, content: str, *, shows_thought: bool) -> tuple[str, str]:
        return trim_space(message.thinking), content

    def _unknown_turn(self, role: str, content: str) -> str:
        return f"{_START}{role}\n{content}{_END}"


def _content(message: Message) -> str:
    return trim_space(shown_content(message))


def _system_turn(*texts: str) -> str:
    """A system message of the texts that there are, none when there is none."""
    present = "\n\n".join(text for text in texts if text)
    return f"{_START}system\n{present}{_END}" if present else ""


def _tools(tools: Sequence[Tool]) -> str:
    listed = "".join(f"\n{tool_json(tool)}" for tool in tools)
    return f"# Tools\n\nYou have access to the following functions:\n\n<tools>{listed}\n{HOW_TO_CALL}"


def _call(call: ToolCall) -> str:
    arguments = "".join(
        f"<parameter={name}>\n{argument_text(value)}\n</parameter>\n" for name, value in call.arguments.items()
    )
    return f"<tool_call>\n<function={call.name}>\n{arguments}</function>\n</tool_call>"


def _fold_instructions(messages: Sequence[Message]) -> Sequence[Message]:
    """One system message in front of the conversation, of all its system and developer messages."""
    instructions = [message for message in messages if message.role in ("system", "developer")]
    for message in instructions:
        if message.images:
            raise InvalidRequest(f"{message.role} message cannot contain images", field="messages")
    if not instructions or (len(instructions) == 1 and messages[0].role == "system"):
        return messages
    texts = (trim_space(message.content) for message in instructions)
    system = Message("system", "\n\n".join(text for text in texts if text))
    return [system, *(message for message in messages if message.role not in ("system", "developer"))]
