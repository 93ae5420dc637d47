"""Renders conversations with a Go template, as Ollama does. `inference/` calls it for chats that are rendered here.

Three modes (spec models §5.2): suffix (prompt and suffix), messages (the template names `.Messages`), legacy (one
execution a turn, the last one cut behind `.Response`). Source: ollama template/template.go, server/prompt.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from corral.core import Message, Notice, Think, Tool, ToolCall
from corral.gotemplate import Budget, JSONList, JSONMap, NilJSONList, NilList, Struct, Template, TypeNames, parse
from corral.prompt.govalues import as_floats
from corral.prompt.toolschema import Property, parameters_of

DEFAULT_TEMPLATE = parse("{{ .Prompt }}")  # what a model without a template layer has
_OUTPUT_BASE = 16 * 1024 * 1024  # characters; the tools' JSON and a template's own text fit in it many times
_OUTPUT_FACTOR = 8  # a template repeats its input at most this often
_PARAMETER_KEYS = frozenset(("type", "$defs", "items", "required", "properties"))
_PROPERTY_KEYS = frozenset(("anyOf", "type", "items", "description", "enum", "properties", "required"))
# Keywords that say what a value is; others only limit it (lengths, bounds, formats, patterns) or describe the schema,
# and a call is as good without them.
_SHAPES = frozenset(
    ("$ref", "anyOf", "oneOf", "allOf", "const", "not", "if", "then", "else", "prefixItems", "patternProperties")
)


@dataclass(frozen=True, slots=True)
class Tagged:
    """Messages whose images stand as `[img-N]` in their contents; N is the place in `images`."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]


def tag_images(messages: Sequence[Message]) -> Tagged:
    """Puts `[img-N]` for every image: where the client said, else at the next literal `[img]`, else in front."""
    images: list[bytes] = []
    tagged: list[Message] = []
    for message in messages:
        marks = [f"[img-{number}]" for number in range(len(images), len(images) + len(message.images))]
        images += message.images
        tag = _at_places if message.places else _at_marks
        tagged.append(replace(message, content=tag(message, marks), places=()) if marks else message)
    return Tagged(tuple(tagged), tuple(images))


def tag_placed_images(messages: Sequence[Message]) -> list[Message]:
    """Puts `[img-N]` only where the client said: all else is left to a renderer."""
    tagged = tag_images(messages).messages
    return [tag if message.places else message for message, tag in zip(messages, tagged, strict=True)]


def _at_places(message: Message, marks: Sequence[str]) -> str:
    pieces, done = [], 0
    for place, mark in zip(message.places, marks, strict=True):
        pieces += [message.content[done:place], mark]
        done = place
    return "".join(pieces) + message.content[done:]


def _at_marks(message: Message, marks: Sequence[str]) -> str:
    prefix, content = "", message.content
    for mark in marks:
        if "[img]" in content:
            content = content.replace("[img]", mark, 1)
        else:
            prefix += mark
    return prefix + content


def render_messages(
    template: Template,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    think: Think = None,
    budget: Budget | None = None,
) -> str:
    """The prompt of a conversation; raises TemplateError. Images must have been tagged before.

    budget: what all renderings for one request may take; a turn is an execution of its own where a template knows no
    messages.
    """
    budget = budget or Budget()
    system, collated = collate(messages)
    limit = _limit(*(message.content for message in messages), *(message.thinking for message in messages))
    if "messages" not in template.identifiers:
        return _render_turns(template, collated, _think_values(think), limit, budget)
    data = {
        "System": system,
        "Messages": [_message(message) for message in collated],
        "Tools": JSONList(_tool(tool) for tool in tools) or NilJSONList(),
        "Response": "",
        **_think_values(think),
    }
    return template.execute(data, max_output=limit, budget=budget)


def render_suffix(template: Template, prompt: str, suffix: str, *, think: Think = None) -> str:
    """The fill-in-middle prompt; raises TemplateError."""
    data = {"Prompt": prompt, "Suffix": suffix, "Response": "", **_think_values(think)}
    return template.execute(data, max_output=_limit(prompt, suffix))


def collate(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """The joined system text, and the messages with neighbours of one role merged; tool messages never merge.

    Calls and thinking of all merged messages stay; Ollama keeps those of the first only.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    merged: list[list[Message]] = []
    for message in messages:
        if merged and merged[-1][0].role == message.role != "tool":
            merged[-1].append(message)
        else:
            merged.append([message])
    return system, [_as_one(neighbours) for neighbours in merged]


def _as_one(messages: Sequence[Message]) -> Message:
    if len(messages) == 1:
        return messages[0]
    calls = [call for message in messages for call in message.tool_calls]
    return replace(
        messages[0],
        content="\n\n".join(message.content for message in messages),
        thinking="\n\n".join(message.thinking for message in messages if message.thinking),
        images=tuple(image for message in messages for image in message.images),
        tool_calls=tuple(replace(call, index=index) for index, call in enumerate(calls)),
    )


def schema_notices(tools: Sequence[Tool]) -> list[Notice]:
    """Names the parts of tool schemas whose sense is lost, since a Go template cannot show them (spec native §6.4)."""
    dropped: dict[str, list[str]] = {}
    for tool in tools:
        names = _unseen(tool.parameters)
        if names:
            dropped[tool.name] = sorted(names)
    if not dropped:
        return []
    words = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in dropped.items())
    return [Notice("tool_schema_reduced", f"the model's template does not show it: {words}", {"dropped": dropped})]


def _unseen(parameters: Mapping[str, Any]) -> set[str]:
    """The keywords of shape in a schema that no template is shown, down to where schemas are shown whole."""
    names: set[str] = set()
    todo: list[tuple[Any, frozenset[str]]] = [(parameters, _PARAMETER_KEYS)]
    while todo:
        schema, shown = todo.pop()
        if isinstance(schema, Mapping):
            names |= {key for key in _SHAPES - shown if schema.get(key) is not None}
            choices = schema.get("anyOf") if "anyOf" in shown else None
            children = [*_properties(schema).values(), *(choices if isinstance(choices, list) else ())]
            todo += [(child, _PROPERTY_KEYS) for child in children]
    return names


def thinks(think: Think) -> bool:
    """Whether a request's `think` means thinking: true, a level, or a budget above zero."""
    return think is not None and think is not False and think != 0


def think_level(think: Think) -> str:
    """The level a template or engine is told: the one given, `medium` for plain true or a budget, else empty."""
    if isinstance(think, str):
        return think
    return "medium" if thinks(think) else ""


def strip_old_thinking(messages: Sequence[Message]) -> list[Message]:
    """Removes a leading `<think>…</think>` from assistant turns before the last user message.

    For family qwen3 and models named deepseek-r1 only. Source: ollama server filterThinkTags, 2026-08.
    """
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    stripped: list[Message] = []
    for position, message in enumerate(messages):
        content = message.content
        if message.role == "assistant" and position < last_user and content.lstrip().startswith("<think>"):
            _, closed, rest = content.partition("</think>")
            content = rest.lstrip() if closed else content
        stripped.append(replace(message, content=content))
    return stripped


def _limit(*texts: str) -> int:
    return _OUTPUT_BASE + _OUTPUT_FACTOR * sum(map(len, texts))


def _think_values(think: Think) -> dict[str, Any]:
    return {"Think": thinks(think), "ThinkLevel": think_level(think), "IsThinkSet": think is not None}


def _render_turns(
    template: Template, messages: Sequence[Message], think: Mapping[str, Any], limit: int, budget: Budget
) -> str:
    """Legacy mode: a full execution for every finished turn, the cut one for what is pending at the end."""
    parts: list[str] = []
    pending = {"System": "", "Prompt": "", "Response": ""}

    def flush() -> None:
        parts.append(template.execute({**pending, **think}, max_output=limit, budget=budget))
        pending.update(System="", Prompt="", Response="")

    for message in messages:
        if message.role in {"system", "developer"}:
            if pending["Prompt"] or pending["Response"]:
                flush()
            pending["System"] = message.content
        elif message.role == "user":
            if pending["Response"]:
                flush()
            pending["Prompt"] = message.content
        elif message.role == "assistant":
            pending["Response"] = message.content
    parts.append(template.cut.execute({**pending, **think}, max_output=limit, budget=budget))
    return "".join(parts)


def _message(message: Message) -> Struct:
    return Struct(
        "*template.templateMessage",
        {
            "Role": message.role,
            "Content": message.content,
            "Thinking": message.thinking,
            "Images": list(message.images) or NilList(),
            "ToolCalls": [_tool_call(call) for call in message.tool_calls] or NilList(),
            "ToolName": message.tool_name,
            "ToolCallID": message.tool_call_id,
        },
    )


def _tool_call(call: ToolCall) -> Struct:
    arguments = JSONMap((name, as_floats(value)) for name, value in call.arguments.items())
    fields = {"Index": call.index, "Name": call.name, "Arguments": arguments}
    function = Struct("template.templateToolCallFunction", fields)
    return Struct("template.templateToolCall", {"ID": call.id, "Function": function})


def _properties(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = schema.get("properties")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): prop if isinstance(prop, Mapping) else {} for name, prop in found.items()}


def _tool(tool: Tool) -> Struct:
    """A tool as templates see it. Keywords outside of Ollama's subset are not shown: `schema_notices` says so."""
    schema = parameters_of(tool)
    defs, items, required = as_floats(schema.defs), as_floats(schema.items), list(schema.required)
    properties = _nested(schema.properties)
    wire = {"type": schema.type, "$defs": defs, "items": items, "required": required}
    kept = {key: value for key, value in wire.items() if key == "type" or value}
    parameters = Struct(
        "template.templateToolFunctionParameters",
        {"Type": schema.type, "Defs": defs, "Items": items, "Required": required, "Properties": properties},
        wire={**kept, "properties": None if schema.properties is None else properties},
        prints_json=True,
    )
    function = Struct(
        "template.templateToolFunction",
        {"Name": tool.name, "Description": tool.description, "Parameters": parameters},
        wire={"name": tool.name, "description": tool.description, "parameters": parameters},
        prints_json=True,
    )
    return Struct(
        "template.templateTool",
        {"Type": tool.type, "Items": None, "Function": function},
        wire={"type": tool.type, "function": function},
        prints_json=True,
    )


def _nested(properties: Mapping[str, Property] | None) -> JSONMap:
    return JSONMap((name, _property(prop)) for name, prop in (properties or {}).items())


def _property(prop: Property) -> Struct:
    values = {
        "AnyOf": [_property(choice) for choice in prop.any_of],
        "Type": TypeNames(prop.types),
        "Items": as_floats(prop.items),
        "Description": prop.description,
        "Enum": as_floats(prop.enum),
        "Properties": _nested(prop.properties),
        "Required": list(prop.required),
    }
    wire = {key[0].lower() + key[1:]: value for key, value in values.items() if value}
    return Struct("api.ToolProperty", values, wire=wire, prints_json=True)
