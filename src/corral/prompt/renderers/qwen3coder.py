"""qwen3-coder: Qwen3-Coder and Qwen3-Next. Source: ollama model/renderers/qwen3coder.go, 2026-08."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.govalues import printed
from corral.prompt.renderers.history import role_at
from corral.prompt.renderers.qwencalls import HOW_TO_CALL, argument_text
from corral.prompt.renderers.tooljson import value_json
from corral.prompt.toolschema import Parameters, Property, parameters_of, type_wire

_START, _END = "<|im_start|>", "<|im_end|>\n"
_IDENTITY = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."


class Qwen3Coder:
    """See registry.Renderer."""

    bos = ""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; these models do not think. The first system text counts, an answer at the end is left open."""
        system = next((message.content for message in messages if message.role == "system" and message.content), "")
        turns = [message for message in messages if message.role != "system"]
        parts = [_system(system, tools), *(_turn(turns, place) for place in range(len(turns)))]
        if turns and turns[-1].role != "assistant":
            parts.append(f"{_START}assistant\n")
        return "".join(parts)


def _system(own: str, tools: Sequence[Tool]) -> str:
    if not own and not tools:
        return ""
    told = f"\n\n# Tools\n\nYou have access to the following functions:\n\n{_tools(tools)}" if tools else ""
    return f"{_START}system\n{own or _IDENTITY}{told}{_END}"


def _tools(tools: Sequence[Tool]) -> str:
    return f"<tools>{''.join(map(_function, tools))}\n{HOW_TO_CALL}"


def _function(tool: Tool) -> str:
    schema = parameters_of(tool)
    description = f"\n<description>{tool.description}</description>" if tool.description else ""
    parameters = "".join(_parameter(name, prop) for name, prop in (schema.properties or {}).items())
    return (
        f"\n<function>\n<name>{tool.name}</name>{description}\n<parameters>{parameters}{_others(schema)}"
        "\n</parameters>\n</function>"
    )


def _parameter(name: str, prop: Property) -> str:
    kind = type_wire(prop.types)
    written = f"\n<type>{kind if isinstance(kind, str) else value_json(kind)}</type>" if prop.types else ""
    description = f"\n<description>{prop.description}</description>" if prop.description else ""
    return f"\n<parameter>\n<name>{name}</name>{written}{description}{_others(prop)}\n</parameter>"


def _others(schema: Parameters | Property) -> str:
    """The schema's other keywords. Ollama's order of them is random; ours is that of its JSON."""
    shown = ("type", "properties") if isinstance(schema, Parameters) else ("type", "description")
    return "".join(_keyword_texts({key: value for key, value in schema.wire().items() if key not in shown}))


def _keyword_texts(keywords: Mapping[str, Any]) -> Iterator[str]:
    for key, value in keywords.items():
        yield f"\n<{key}>{value_json(value) if isinstance(value, dict | list) else printed(value)}</{key}>"


def _turn(turns: Sequence[Message], place: int) -> str:
    message = turns[place]
    match message.role:
        case "assistant" if message.tool_calls:
            content = f"{message.content}\n" if message.content else ""
            return f"{_START}assistant\n{content}{''.join(map(_call, message.tool_calls))}{_END}"
        case "assistant":
            return f"{_START}assistant\n{message.content}" + ("" if place == len(turns) - 1 else _END)
        case "tool":
            begin = "" if role_at(turns, place - 1) == "tool" else f"{_START}user"
            end = "" if role_at(turns, place + 1) == "tool" else _END
            return f"{begin}\n<tool_response>\n{message.content}\n</tool_response>{end}"
        case role:
            return f"{_START}{role}\n{message.content}{_END}"


def _call(call: ToolCall) -> str:
    arguments = "".join(
        f"\n<parameter={name}>\n{argument_text(value)}\n</parameter>" for name, value in call.arguments.items()
    )
    return f"\n<tool_call>\n<function={call.name}>{arguments}\n</function>\n</tool_call>"
