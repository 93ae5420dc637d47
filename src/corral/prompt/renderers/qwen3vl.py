"""qwen3-vl-instruct and qwen3-vl-thinking: Qwen3-VL. Source: ollama model/renderers/qwen3vl.go, 2026-08."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.gorender import thinks
from corral.prompt.renderers.history import role_at, split_system
from corral.prompt.renderers.imagetags import ImageTags, tag_images
from corral.prompt.renderers.tooljson import arguments_json, tool_json

_START, _END = "<|im_start|>", "<|im_end|>\n"
_BEFORE_TOOLS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_BEHIND_TOOLS = """
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


class Qwen3VL:
    """See registry.Renderer."""

    bos = ""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt. An answer at the end is left open; thoughts since the last question are kept."""
        thinking = self._thinking if think is None else thinks(think)
        asked = last_question(messages)
        images = ImageTags()
        parts = [_system(messages, tools)]
        for place, message in enumerate(messages):
            content = images.place(message)
            match message.role:
                case "system" if place == 0:
                    pass
                case "user" | "system":
                    parts.append(f"{_START}{message.role}\n{content}{_END}")
                case "assistant":
                    is_last = place == len(messages) - 1
                    thought = _thought(message, content, is_last=is_last) if thinking and place > asked else None
                    answer = _answer(message, content, thought)
                    parts.append(f"{_START}assistant\n{answer}" + ("" if is_last else _END))
                case "tool":
                    parts.append(tool_turn(messages, place, content))
        if messages and messages[-1].role != "assistant":
            parts.append(f"{_START}assistant\n" + ("<think>\n" if thinking else ""))
        return "".join(parts)


def shown_content(message: Message) -> str:
    """A message's text with tags for its images, as if it were the first."""
    return tag_images(message.content, len(message.images))


def last_question(messages: Sequence[Message], text_of: Callable[[Message], str] = shown_content) -> int:
    """Where the last message of the user stands that is no tool's result in disguise; else the last place."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "user" and not is_tool_result(text_of(messages[place])):
            return place
    return len(messages) - 1


def is_tool_result(text: str) -> bool:
    """Whether a user's text is the result of a tool."""
    return text.startswith("<tool_response>") and text.endswith("</tool_response>")


def tool_turn(messages: Sequence[Message], place: int, content: str) -> str:
    """A result; those that follow each other are one turn of the user."""
    begin = "" if role_at(messages, place - 1) == "tool" else f"{_START}user"
    end = "" if role_at(messages, place + 1) == "tool" else _END
    return f"{begin}\n<tool_response>\n{content}\n</tool_response>{end}"


def _system(messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    system, _ = split_system(messages)
    if not tools:
        return f"{_START}system\n{system.content}{_END}" if system else ""
    own = f"{system.content}\n\n" if system else ""
    return f"{_START}system\n{own}{_BEFORE_TOOLS}" + "\n".join(map(tool_json, tools)) + f"{_BEHIND_TOOLS}{_END}"


def _thought(message: Message, content: str, *, is_last: bool) -> str | None:
    """The thoughts before an answer, None where there is no place for any. Without content they are left open."""
    if not is_last and not message.thinking:
        return None
    return "<think>\n" + message.thinking.strip("\n") + ("\n</think>\n\n" if content else "")


def _answer(message: Message, content: str, thought: str | None) -> str:
    text = content if thought is None else thought + content.lstrip("\n")
    calls = "\n".join(map(_call, message.tool_calls))
    return text + ("\n" if calls and content else "") + calls


def _call(call: ToolCall) -> str:
    arguments = arguments_json(call, spaced=True)
    return f'<tool_call>\n{{"name": "{call.name}", "arguments": {arguments}}}\n</tool_call>'
