"""Anthropic's wire shapes: POST /v1/messages, count_tokens, stream events, errors.

Source: ollama anthropic/anthropic.go, 2026-08, and Anthropic's SDK types.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from corral.api.openai import AnswerFields


class Thinking(msgspec.Struct):
    """`thinking`: enabled, disabled, adaptive or between_tools."""

    type: str | None = None
    budget_tokens: int | None = None


class OutputConfig(msgspec.Struct):
    """`output_config`: how hard to think, and the form of the answer."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class MessagesRequest(AnswerFields, kw_only=True):
    """POST /v1/messages and /v1/messages/count_tokens."""

    max_tokens: int | None = None
    messages: list[dict[str, Any]] | None = None
    system: Any = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None  # what to leave out of a long history; nothing is, here
    service_tier: str | None = None
    generic_tools: bool | None = None


class ErrorDetail(msgspec.Struct):
    """The inner object of an error; `remedy` (ours) where the message is fixed and something would help."""

    type: str
    message: str
    remedy: str | UnsetType = UNSET


class ErrorReply(msgspec.Struct, kw_only=True):
    """Any failed request, and the `error` event of a stream."""

    type: str = "error"
    error: ErrorDetail
    request_id: str


class Usage(msgspec.Struct, kw_only=True):
    """Token counts as Anthropic's clients add them up: input_tokens are those that were not in the cache."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0


class MessageReply(msgspec.Struct, kw_only=True):
    """The reply to POST /v1/messages that does not stream; also opens a stream (without stop_reason)."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | UnsetType | None = UNSET
    stop_sequence: str | UnsetType | None = UNSET
    usage: Usage
    cache: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class TokenCount(msgspec.Struct):
    """The reply of count_tokens."""

    input_tokens: int
