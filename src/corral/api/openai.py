"""OpenAI's wire shapes: chat completions, completions, embeddings, models, errors. Field names and what is left out.

Fields whose value may be of several JSON types are `Any` and read by server/openai/, which words the errors. A field
with `UNSET` as its value is left out of a reply. Replies have their fields in Ollama's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

FINGERPRINT = "fp_corral"


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class Reasoning(msgspec.Struct):
    """`reasoning` of chat completions and Responses."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class EngineFields(msgspec.Struct, kw_only=True):
    """Fields beyond OpenAI's that every model request takes (ours), and those that all APIs share."""

    model: str = ""
    options: dict[str, Any] | None = None
    keep_alive: Any = None
    num_ctx: int | None = None
    strict: bool | None = None
    user: str | None = None


class AnswerFields(EngineFields, kw_only=True):
    """Fields of ours that every request for an answer takes. cache: tell what of the prompt had been read before."""

    cache: bool | None = None


class SamplingFields(AnswerFields, kw_only=True):
    """Sampling fields shared by chat completions and completions; null and absent mean the model's own value."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: Any = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    debug_render_only: bool | None = msgspec.field(name="_debug_render_only", default=None)


class ChatCompletionRequest(SamplingFields, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]] | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    generic_tools: bool | None = None


class CompletionRequest(SamplingFields, kw_only=True):
    """POST /v1/completions."""

    prompt: Any = None
    suffix: str | None = None
    logprobs: int | None = None
    echo: bool | None = None


class EmbeddingRequest(EngineFields, kw_only=True):
    """POST /v1/embeddings."""

    input: Any = None
    dimensions: int | None = None
    encoding_format: str | None = None


class ErrorBody(msgspec.Struct):
    """The inner object of an error; `param` and `code` are always there, null but for the code of a long prompt."""

    message: str
    type: str
    param: None = None
    code: str | None = None


class ErrorReply(msgspec.Struct):
    """Any failed request."""

    error: ErrorBody


class PromptDetails(msgspec.Struct):
    """Of the prompt tokens, how many came from the runner's cache."""

    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    """Of the generated tokens, how many were thinking."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | UnsetType = UNSET
    completion_tokens_details: CompletionDetails | UnsetType = UNSET


class ToolCallFunction(msgspec.Struct):
    """Name and arguments; `arguments` is compact JSON text."""

    name: str
    arguments: str


class ToolCallReply(msgspec.Struct):
    """A tool call, complete in one piece."""

    id: str
    index: int
    type: str
    function: ToolCallFunction


class ToolCallPieceFunction(msgspec.Struct):
    """More of a call's arguments; the name comes with the first piece."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallPiece(msgspec.Struct):
    """A piece of a streamed tool call; id and type come with the first one."""

    index: int
    function: ToolCallPieceFunction
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class ChoiceLogprobs(msgspec.Struct):
    """`logprobs` of a chat choice."""

    content: list[dict[str, Any]]


class MessageReply(msgspec.Struct):
    """The assistant's message; `content` is never null."""

    role: str = "assistant"
    content: str = ""
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET


class DeltaReply(msgspec.Struct):
    """A piece of a streamed message; the finish chunk's has no key at all."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: Sequence[ToolCallReply | ToolCallPiece] | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One answer."""

    index: int
    message: MessageReply
    finish_reason: str | None
    logprobs: ChoiceLogprobs | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    """One answer's part of a chunk."""

    index: int
    delta: DeltaReply
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | UnsetType = UNSET


class ChatCompletion(msgspec.Struct, kw_only=True):
    """The reply to a chat completion that does not stream."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[ChatChoice]
    usage: Usage
    cache: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET
    debug_info: dict[str, Any] | UnsetType = msgspec.field(name="_debug_info", default=UNSET)


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """One event of a streamed chat completion."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[ChunkChoice]
    usage: Usage | UnsetType = UNSET
    cache: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class TextLogprobs(msgspec.Struct):
    """`logprobs` of a completion choice; four lists of equal length."""

    tokens: list[str] = []
    token_logprobs: list[float] = []
    top_logprobs: list[dict[str, float]] = []
    text_offset: list[int] = []


class TextChoice(msgspec.Struct):
    """One completion."""

    text: str
    index: int
    finish_reason: str | None = None
    logprobs: TextLogprobs | UnsetType = UNSET


class TextCompletion(msgspec.Struct, kw_only=True):
    """The reply to a completion, and each event of a streamed one."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str = FINGERPRINT
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    cache: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class EmbeddingItem(msgspec.Struct, kw_only=True):
    """One vector: floats, or base64 of little-endian float32."""

    object: str = "embedding"
    embedding: list[float] | str
    index: int


class EmbeddingUsage(msgspec.Struct):
    """Tokens evaluated, twice."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, kw_only=True):
    """The reply to an embeddings request."""

    object: str = "list"
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class ModelItem(msgspec.Struct, kw_only=True):
    """A model; `created` is when its manifest was written."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, kw_only=True):
    """GET /v1/models."""

    object: str = "list"
    data: list[ModelItem]
