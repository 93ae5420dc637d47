"""Wire shapes of OpenAI's Responses API. Source: ollama openai/responses.go, 2026-08, and OpenAI's SDK types."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from corral.api.openai import AnswerFields, Reasoning


class TextFields(msgspec.Struct):
    """`text`: the form of the answer."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesRequest(AnswerFields, kw_only=True):
    """POST /v1/responses."""

    input: Any = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    reasoning: Reasoning | None = None
    text: TextFields | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    truncation: str | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    client_metadata: dict[str, Any] | None = None  # for its maker's statistics
    include: list[str] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    seed: int | None = None
    stop: Any = None
    generic_tools: bool | None = None


class InputDetails(msgspec.Struct):
    """Of the input tokens, how many came from the cache; the SDK's type demands both."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct):
    """Of the output tokens, how many were thinking."""

    reasoning_tokens: int = 0


class ResponsesUsage(msgspec.Struct):
    """Token counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputDetails = msgspec.field(default_factory=InputDetails)
    output_tokens_details: OutputDetails = msgspec.field(default_factory=OutputDetails)


class ResponseReply(msgspec.Struct, kw_only=True):
    """A response, in any state."""

    id: str
    object: str = "response"
    created_at: int = 0
    completed_at: int | None = None
    status: str = "in_progress"
    incomplete_details: dict[str, str] | None = None
    model: str = ""
    previous_response_id: str | None = None
    instructions: str | None = None
    output: list[dict[str, Any]] = []
    error: dict[str, str] | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: Any = "auto"
    truncation: str = "disabled"
    parallel_tool_calls: bool = True
    text: dict[str, Any] = {}
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    temperature: float = 1.0
    reasoning: dict[str, Any] | None = None
    usage: ResponsesUsage | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    store: bool = False
    background: bool = False
    service_tier: str = "default"
    metadata: dict[str, Any] = {}
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    cache: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET
