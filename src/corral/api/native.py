"""Request shapes of the native API, and what they mean in the nouns of core.py. Called by `server/native/`.

Decoding checks types only; ranges, names and capabilities are the use cases' business. Ours beyond Ollama's fields:
`grammar` (GBNF), `regex`, `choice`, `logit_bias`, `tool_choice`, `generic_tools`, `progress`, `cache`, `strict`.
Source of fields and texts: ollama api/types.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from corral.api.bodies import convert, decode_base64, parse_object, unknown_notices
from corral.core import (
    Caller,
    ChatRequest,
    Common,
    Constraint,
    EmbedRequest,
    GenerateRequest,
    GenerationParameters,
    Message,
    Think,
    Tool,
    ToolCall,
    ToolChoice,
)
from corral.durations import parse_keep_alive
from corral.errors import InvalidRequest
from corral.goquote import quote

_LEVELS = ("high", "medium", "low", "max")
_THINK_FORMS = '"high", "medium", "low", "max", true, or false'
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/_\s-]")
R = TypeVar("R")


class CommonFields(msgspec.Struct):
    """Fields of every model request."""

    model: str = ""
    options: dict[str, Any] = {}
    keep_alive: Any = None
    strict: bool = False


class _GenerationFields(CommonFields):
    stream: bool = True
    format: Any = None
    grammar: str = ""
    regex: str = ""
    choice: list[str] = []
    logit_bias: dict[str, float] = {}
    think: Any = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    progress: bool = False
    cache: bool = False
    render_only: bool = msgspec.field(name="_debug_render_only", default=False)


class GenerateFields(_GenerationFields):
    """POST /api/generate."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int | None] | None = None
    raw: bool = False
    images: list[str | None] = []


class PropertyFields(msgspec.Struct):
    """A property of a tool's parameters, as far as its JSON types are checked; other keywords may be anything."""

    anyOf: list[PropertyFields | None] | None = None  # noqa: N815  the schema's own word
    type: str | list[str | None] | None = None
    description: str | None = None
    enum: list[Any] | None = None
    properties: dict[str, PropertyFields | bool | None] | None = None
    required: list[str | None] | None = None


class ParametersFields(msgspec.Struct):
    """A tool's `parameters`, checked as PropertyFields are."""

    type: str | None = None
    required: list[str | None] | None = None
    properties: dict[str, PropertyFields | bool | None] | None = None


class ToolFunctionFields(msgspec.Struct):
    """A tool's declaration; `parameters` is kept whole."""

    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolFields(msgspec.Struct):
    """An entry of `tools`."""

    type: str | None = "function"
    function: ToolFunctionFields | None = None


class CallFunctionFields(msgspec.Struct):
    """A call in a message's history."""

    name: str = ""
    arguments: dict[str, Any] | None = None
    index: int | None = 0


class CallFields(msgspec.Struct):
    """An entry of a message's `tool_calls`."""

    id: str | None = None
    function: CallFunctionFields | None = None


class MessageFields(msgspec.Struct):
    """An entry of `messages`."""

    role: str | None = None
    content: str | None = None
    thinking: str | None = None
    images: list[str | None] | None = None
    tool_calls: list[CallFields | None] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ChatFields(_GenerationFields):
    """POST /api/chat."""

    messages: list[MessageFields | None] = []
    tools: list[ToolFields | None] = []
    tool_choice: Any = None
    generic_tools: bool = False


class EmbedFields(CommonFields):
    """POST /api/embed; `stream` is read because clients send it to every route, and means nothing here."""

    input: Any = None
    stream: Any = None
    truncate: bool = True
    dimensions: int = 0


class EmbeddingsFields(CommonFields):
    """POST /api/embeddings, the old form; `stream` as in EmbedFields."""

    prompt: str = ""
    stream: Any = None


@dataclass(frozen=True, slots=True)
class Decoded(Generic[R]):
    """A request, and whether its answer is streamed."""

    request: R
    stream: bool = False


def decode_generate(data: bytes, caller: Caller) -> Decoded[GenerateRequest]:
    """Read a generate body; raises InvalidRequest."""
    body = parse_object(data)
    fields = convert(body, GenerateFields)
    request = GenerateRequest(
        common=common_of(body, fields, caller),
        prompt=fields.prompt,
        suffix=fields.suffix,
        system=fields.system,
        template=fields.template,
        context=None if fields.context is None else tuple(token or 0 for token in fields.context),
        raw=fields.raw,
        images=_images(fields.images),
        parameters=_parameters(fields),
    )
    return Decoded(request, fields.stream)


def decode_chat(data: bytes, caller: Caller) -> Decoded[ChatRequest]:
    """Read a chat body; raises InvalidRequest."""
    body = parse_object(data)
    fields = convert(body, ChatFields)
    request = ChatRequest(
        common=common_of(body, fields, caller),
        messages=tuple(to_message(message) for message in fields.messages),
        tools=tuple(_tool(position, tool) for position, tool in enumerate(fields.tools)),
        tool_choice=_tool_choice(fields.tool_choice),
        generic_tools=fields.generic_tools,
        parameters=_parameters(fields),
    )
    return Decoded(request, fields.stream)


def decode_embed(data: bytes, caller: Caller) -> EmbedRequest:
    """Read an embed body; raises InvalidRequest, `invalid input type` for anything but text and lists of text."""
    body = parse_object(data)
    fields = convert(body, EmbedFields)
    given = fields.input
    if given is None or given == "":
        inputs: Any = []
    else:
        inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise InvalidRequest("invalid input type", field="input")
    common = common_of(body, fields, caller)
    return EmbedRequest(common, tuple(inputs), truncate=fields.truncate, dimensions=fields.dimensions)


def decode_embeddings(data: bytes, caller: Caller) -> EmbedRequest:
    """Read a body of the old embeddings route; raises InvalidRequest."""
    body = parse_object(data)
    fields = convert(body, EmbeddingsFields)
    inputs = (fields.prompt,) if fields.prompt else ()
    return EmbedRequest(common_of(body, fields, caller), inputs, truncate=False, legacy=True)


def common_of(body: Mapping[str, Any], fields: CommonFields, caller: Caller) -> Common:
    """The part that all model requests share; unknown fields become notices."""
    return Common(
        model=fields.model,
        options=fields.options,
        keep_alive_s=parse_keep_alive(fields.keep_alive),
        caller=caller,
        strict=fields.strict,
        notices=unknown_notices(body, type(fields)),
    )


def _parameters(fields: _GenerationFields) -> GenerationParameters:
    return GenerationParameters(
        constraint=_constraint(fields),
        think=_think(fields.think),
        truncate=fields.truncate,
        shift=fields.shift,
        logprobs=fields.logprobs,
        top_logprobs=fields.top_logprobs,
        logit_bias={_token_id(key): value for key, value in fields.logit_bias.items()},
        progress=fields.progress and fields.stream,
        whole=not fields.stream,
        cache=fields.cache,
        render_only=fields.render_only,
    )


def _constraint(fields: _GenerationFields) -> Constraint | None:
    given = [name for name in ("format", "grammar", "regex", "choice") if getattr(fields, name)]
    if fields.format == {}:
        given.insert(0, "format")
    if len(given) > 1:
        raise InvalidRequest(f"only one of {' and '.join(given)} can be used", field=given[1])
    if fields.grammar:
        return Constraint("grammar", fields.grammar)
    if fields.regex:
        return Constraint("regex", fields.regex)
    if fields.choice:
        return Constraint("choice", tuple(fields.choice))
    if fields.format is None or fields.format == "":
        return None
    if fields.format == "json":
        return Constraint("json")
    return Constraint("schema" if isinstance(fields.format, dict) else "unknown", fields.format)


def _think(value: Any) -> Think:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value >= 0:
        return value  # ours: a budget of thinking tokens
    if not isinstance(value, str):
        raise InvalidRequest(f"think must be a boolean or string ({_THINK_FORMS})", field="think")
    for level in _LEVELS:
        if value == level:
            return level  # type: ignore[return-value]
    raise InvalidRequest(f"invalid think value: {quote(value)} (must be {_THINK_FORMS})", field="think")


def _tool_choice(value: Any) -> ToolChoice:
    if value is None:
        return ToolChoice()
    if value in ("auto", "none", "required"):
        return ToolChoice(value)
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest('tool_choice must be "auto", "none", "required" or name a function', field="tool_choice")
    return ToolChoice("named", name)


def _token_id(text: str) -> int:
    if not text.isdecimal():
        raise InvalidRequest(f"logit_bias: {text[:40]!r} is not a token id", field="logit_bias")
    return int(text)


def to_message(fields: MessageFields | None) -> Message:
    """An entry of `messages` as core.py has it; the role is lower-cased. A null is a message without anything."""
    fields = fields or MessageFields()
    return Message(
        role=(fields.role or "").lower(),
        content=fields.content or "",
        thinking=fields.thinking or "",
        images=_images(fields.images or []),
        tool_calls=tuple(_call(call or CallFields()) for call in fields.tool_calls or []),
        tool_name=fields.tool_name or "",
        tool_call_id=fields.tool_call_id or "",
    )


def _call(fields: CallFields) -> ToolCall:
    function = fields.function or CallFunctionFields()
    return ToolCall(function.name, function.arguments or {}, fields.id or "", function.index or 0)


def _tool(position: int, fields: ToolFields | None) -> Tool:
    """Raises InvalidRequest for a schema whose words have the wrong JSON types, as Ollama's decoder does."""
    fields = fields or ToolFields()
    function = fields.function or ToolFunctionFields()
    convert(function.parameters or {}, ParametersFields, f"tools[{position}].function.parameters")
    return Tool(function.name, function.description or "", function.parameters or {}, fields.type or "function")


def _images(texts: list[str | None]) -> tuple[bytes, ...]:
    return tuple(_image(text or "") for text in texts)


def _image(text: str) -> bytes:
    """Raises InvalidRequest with the text of Go's decoder."""
    data = decode_base64(text)
    if data is None:
        sent = text.encode("utf-8", "surrogatepass").translate(None, b"\r\n")
        bad = _NOT_BASE64.search(sent)
        position = bad.start() if bad else len(sent)
        raise InvalidRequest(f"illegal base64 data at input byte {position}", field="images")
    return data
