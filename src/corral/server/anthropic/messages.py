"""Anthropic's messages and tools as the shared nouns of core.py. Pure.

Each message becomes at most one message plus one per tool result: in a user message the results come first, since
they answer the assistant's calls; otherwise they follow. Source: ollama anthropic/anthropic.go, 2026-08; spec
compat-apis §10.2. Unlike Ollama, a block nobody can read is refused by name (docs/differences.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from corral.api.anthropic import MessagesRequest
from corral.api.bodies import decode_base64, decode_data_url, text_at
from corral.api.parts import Parts
from corral.core import Constraint, Message, Notice, Think, Tool, ToolCall, ToolChoice
from corral.errors import InvalidRequest
from corral.prompt.turns import wrapped
from corral.server.formats import read_format
from corral.server.openai.messages import NO_IMAGES, make_tool, name_tool_results

_ROLES = {"user", "assistant", "system"}
_CONTENT = ("text", "image", "document", "search_result", "tool_reference")  # blocks of messages and of results
_ERROR_SHOWN = 200  # characters in which a result that failed may say so itself
_EFFORTS: Mapping[str, Think] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}


@dataclass
class _Turn:
    """One wire message, while its blocks are read."""

    notices: list[Notice]
    fetched: Mapping[str, bytes]
    parts: Parts = field(default_factory=Parts)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)


def read_conversation(
    body: MessagesRequest, notices: list[Notice], fetched: Mapping[str, bytes] = NO_IMAGES
) -> tuple[Message, ...]:
    """System prompt and messages; `fetched` has the images named by URL, `notices` gets what is left out.

    Raises InvalidRequest naming what cannot be read.
    """
    turns: list[Message] = []
    for number, item in enumerate(body.messages or []):
        turns += _read_message(item, f"messages[{number}]", notices, fetched)
    if not turns:
        raise InvalidRequest("messages have no content", field="messages")
    return name_tool_results([*_system(body.system, notices), *turns])


def _system(value: Any, notices: list[Notice]) -> list[Message]:
    if isinstance(value, list):
        texts = []
        for number, block in enumerate(value):
            at = f"system[{number}]"
            if isinstance(block, Mapping) and block.get("type") == "text":
                texts.append(text_at(block, "text", at))
            else:
                notices.append(_ignored(at, block))
        value = "".join(texts)
    elif value is not None and not isinstance(value, str):
        raise InvalidRequest("system must be a string or a list of text blocks", field="system")
    return [Message("system", value)] if value else []


def _ignored(at: str, block: Any) -> Notice:
    kind = str(block.get("type", "")) if isinstance(block, Mapping) else ""
    return Notice("block_ignored", f'{at}: a block of type "{kind}" is not read here', {"block": kind})


def _read_message(
    item: Mapping[str, Any], where: str, notices: list[Notice], fetched: Mapping[str, bytes]
) -> list[Message]:
    role = text_at(item, "role", where).lower()
    if role not in _ROLES:
        raise InvalidRequest(f'{where}: role "{role}" must be "user" or "assistant"', field=where)
    content = item.get("content")
    if isinstance(content, str):
        return [Message(role, content)]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}: content must be a string or a list of blocks", field=where)
    turn = _Turn(notices, fetched)
    for number, block in enumerate(content):
        at = f"{where}.content[{number}]"
        if not isinstance(block, Mapping):
            raise InvalidRequest(f"{at}: expected a content block", field=at)
        _read_block(block, at, turn)
    body: list[Message] = []
    if turn.parts or turn.calls or any(turn.thoughts):
        thinking = "\n".join(filter(None, turn.thoughts))
        body = [turn.parts.message(role, thinking=thinking, tool_calls=tuple(turn.calls))]
    return [*turn.results, *body] if role == "user" else [*body, *turn.results]


def _read_block(block: Mapping[str, Any], at: str, turn: _Turn) -> None:
    kind = text_at(block, "type", at)
    if kind in _CONTENT:
        _add_content(block, at, turn.parts, turn, "invalid image source")
    elif kind == "thinking":
        turn.thoughts.append(text_at(block, "thinking", at))
    elif kind in {"tool_use", "server_tool_use", "mcp_tool_use"}:
        turn.calls.append(_call(block, at, len(turn.calls), checked=kind == "tool_use"))
    elif kind == "web_search_tool_result":
        lines = _search_lines(block.get("content"))
        turn.results.append(Message("tool", lines, tool_call_id=text_at(block, "tool_use_id", at)))
    elif kind.endswith("tool_result"):
        turn.results.append(_result(block, at, turn))
    elif kind == "redacted_thinking":
        turn.notices.append(Notice("block_ignored", f"{at}: redacted thinking cannot be read here", {"block": kind}))
    else:
        raise InvalidRequest(f'{at}: unknown content block type "{kind}"', field=at)


def _add_content(block: Mapping[str, Any], at: str, parts: Parts, turn: _Turn, no_image: str) -> None:
    """Add a block of one of the kinds in _CONTENT. Raises InvalidRequest."""
    kind = block["type"]
    if kind == "text":
        parts.add_text(text_at(block, "text", at))
    elif kind == "image":
        parts.add_image(_image(block.get("source"), no_image, turn.fetched))
    elif kind == "tool_reference":
        parts.add_text(f"[tool {text_at(block, 'tool_name', at)}]")
    elif kind == "search_result":
        parts.add_text(f"{text_at(block, 'title', at)} ({text_at(block, 'source', at)})\n")
        parts.add_texts(_texts(block.get("content"), at))
    else:
        parts.add_texts(_document(block, at))


def _image(source: Any, missing: str, fetched: Mapping[str, bytes]) -> bytes:
    if not isinstance(source, Mapping):
        raise InvalidRequest(missing, field="image")
    kind, url = source.get("type"), source.get("url")
    if kind == "url" and isinstance(url, str) and url in fetched:
        return fetched[url]
    if kind != "base64":
        kind = kind or ""
        why = f"invalid image source type: {kind}. Only base64 images are supported."
        raise InvalidRequest(why, field="image")
    sent = str(source.get("data", ""))
    data = decode_data_url(sent) if sent.startswith("data:") else decode_base64(sent)
    if not data:
        raise InvalidRequest("invalid base64 image data: illegal base64 data", field="image")
    return data


def _document(block: Mapping[str, Any], at: str) -> list[str]:
    """The texts of a document, its title in front. Raises InvalidRequest for one that is no text, such as a PDF."""
    source = block.get("source")
    title = text_at(block, "title", at)
    head = [f"{title}\n"] if title else []
    if isinstance(source, Mapping) and source.get("type") == "text" and isinstance(source.get("data"), str):
        return [*head, source["data"]]
    if isinstance(source, Mapping) and source.get("type") == "content":
        return [*head, *_texts(source.get("content"), at)]
    raise InvalidRequest(f"{at}: only documents with a text source can be read", field=at)


def _texts(content: Any, at: str) -> list[str]:
    """The texts in a string or a list of text blocks. Raises InvalidRequest naming any other block."""
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    for block in blocks:
        if not isinstance(block, Mapping) or block.get("type") != "text":
            raise InvalidRequest(f"{at}: only text blocks can be read in it", field=at)
    return [text_at(block, "text", at) for block in blocks]


def _call(block: Mapping[str, Any], at: str, index: int, *, checked: bool) -> ToolCall:
    call_id, name = text_at(block, "id", at), text_at(block, "name", at)
    if checked and not (call_id and name):
        missing = "name" if call_id else "id"
        raise InvalidRequest(f"tool_use block missing required '{missing}' field", field="tool_use")
    arguments = block.get("input")
    if arguments is not None and not isinstance(arguments, Mapping):
        raise InvalidRequest("tool_use block: input must be an object", field="tool_use")
    return ToolCall(name, dict(arguments or {}), call_id, index)


def _result(block: Mapping[str, Any], at: str, turn: _Turn) -> Message:
    """A tool's result; what in it cannot be read is left out with a notice. A failed one says so, as no role does."""
    content, parts = block.get("content"), Parts()
    if isinstance(content, str):
        parts.add_text(content)
    elif isinstance(content, Mapping):  # of a tool that runs at Anthropic
        parts.add_text(_compact(content))
    for number, part in enumerate(content if isinstance(content, list) else []):
        where = f"{at}.content[{number}]"
        if not isinstance(part, Mapping) or part.get("type") not in _CONTENT:
            turn.notices.append(_ignored(where, part))
            continue
        try:
            _add_content(part, where, parts, turn, "invalid tool_result image source")
        except InvalidRequest:
            if part["type"] != "document":
                raise
            turn.notices.append(_ignored(where, part))
    message = parts.message("tool", tool_call_id=text_at(block, "tool_use_id", at))
    if block.get("is_error") is True and "error" not in message.content[:_ERROR_SHOWN].lower():
        return wrapped(message, "Error: ", "")
    return message


def _search_lines(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"web_search_tool_result_error: {content.get('error_code', '')}"
    found = [item for item in content if isinstance(item, Mapping)] if isinstance(content, list) else []
    return "\n".join(f"- {item.get('title', '')}: {item.get('url', '')}" for item in found)


def read_tools(items: Sequence[Mapping[str, Any]], notices: list[Notice]) -> tuple[Tool, ...]:
    """Tool definitions. Web search needs a cloud and is left out, with a notice. Raises InvalidRequest."""
    tools = []
    for number, item in enumerate(items):
        where = f"tools[{number}]"
        name, kind = text_at(item, "name", where), text_at(item, "type", where)
        if kind.startswith("web_search"):
            notices.append(Notice("tool_ignored", f'tool "{name}": web search is not available here', {"tool": name}))
            continue
        if not name:
            raise InvalidRequest(f"{where}: name is required", field="tools")
        wrong = f'invalid input_schema for tool "{name}"'
        tools.append(make_tool(name, item.get("description"), item.get("input_schema"), wrong))
    return tuple(tools)


def read_tool_choice(value: Mapping[str, Any] | None, tools: Sequence[Tool]) -> ToolChoice:
    """`tool_choice`: auto, any, none, or a tool by name. Raises InvalidRequest."""
    kind = text_at(value or {}, "type", "tool_choice") or "auto"
    parallel = not (value or {}).get("disable_parallel_tool_use")
    if kind == "tool":
        name = text_at(value or {}, "name", "tool_choice")
        if name not in {tool.name for tool in tools}:
            raise InvalidRequest(f'tool_choice names "{name}", which is not among the tools', field="tool_choice")
        return ToolChoice("named", name, parallel=parallel)
    if kind not in {"auto", "any", "none"}:
        raise InvalidRequest('tool_choice.type must be "auto", "any", "tool" or "none"', field="tool_choice")
    return ToolChoice("required" if kind == "any" else "none" if kind == "none" else "auto", parallel=parallel)


def read_think(body: MessagesRequest) -> Think:
    """`thinking`, else `output_config.effort`; a budget is a number of thinking tokens."""
    kind = body.thinking.type if body.thinking else ""
    if kind == "enabled":
        budget = body.thinking.budget_tokens if body.thinking else None
        return budget if budget and budget > 0 else True
    if kind == "disabled":
        return False
    effort = (body.output_config.effort if body.output_config else None) or ""
    return _EFFORTS.get(effort.strip().lower())


def unsupported_think(body: MessagesRequest) -> Literal["told", "quiet"]:
    """Clients ask for thinking of any model: some in so many words, others leave it to the model, or say how hard."""
    return "told" if body.thinking and body.thinking.type == "enabled" else "quiet"


def read_output_format(body: MessagesRequest) -> Constraint | None:
    """`output_config.format`, or its older name `output_format`: what the answer must match."""
    form = body.output_config.format if body.output_config else None
    if form is not None:
        return read_format(form, "output_config.format")
    return read_format(body.output_format, "output_format")


def estimate_tokens(body: MessagesRequest) -> int:
    """A quick guess at the prompt's tokens, for message_start: a token per four bytes of what was sent.

    Source: ollama anthropic/anthropic.go estimateInputTokens, 2026-08. `body` has been read by read_conversation.
    """
    texts = [body.system] if isinstance(body.system, str) else [block.get("text") for block in _blocks(body.system)]
    for message in body.messages or []:
        content = message.get("content")
        texts += [message.get("role"), content if isinstance(content, str) else None]
        for block in _blocks(content):
            texts += [block.get("text"), block.get("thinking")]
            if block.get("type") in ("tool_use", "tool_result"):
                texts.append(_compact(block))
    for tool in body.tools or []:
        texts += [tool.get("name"), tool.get("description"), _compact(tool.get("input_schema") or "")]
    return max(sum(len(text.encode()) for text in texts if isinstance(text, str)) // 4, 1)


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
