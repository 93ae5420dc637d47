"""OpenAI's wire shapes of transcribing: the form's fields as plain data, the answers, the events of a stream."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from corral.api.openai import EngineFields


class TranscriptionRequest(EngineFields, kw_only=True):
    """POST /v1/audio/transcriptions, but for the recording, which a form has as a file and JSON as base64."""

    file: Any = None
    language: str | None = None
    prompt: str | None = None
    response_format: str | None = None
    temperature: float | None = None
    seed: int | None = None
    stream: bool | None = None
    include: list[str] | None = None
    timestamp_granularities: list[str] | None = None


class TokenUsage(msgspec.Struct, tag_field="type", tag="tokens"):
    """What a transcription took in tokens, those of the recording among the input."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class DurationUsage(msgspec.Struct, tag_field="type", tag="duration"):
    """What a transcription took in sound."""

    seconds: float


class Transcription(msgspec.Struct):
    """The answer of `response_format` json."""

    text: str
    logprobs: list[dict[str, Any]] | UnsetType = UNSET
    usage: TokenUsage | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class VerboseTranscription(msgspec.Struct):
    """The answer of `response_format` verbose_json, without times, which the models here do not tell."""

    language: str
    duration: float
    text: str
    usage: DurationUsage
    task: Literal["transcribe"] = "transcribe"
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class TranscriptDelta(msgspec.Struct, tag_field="type", tag="transcript.text.delta"):
    """A piece of the text."""

    delta: str
    logprobs: list[dict[str, Any]] | UnsetType = UNSET


class TranscriptDone(msgspec.Struct, tag_field="type", tag="transcript.text.done"):
    """The whole text, at the end."""

    text: str
    logprobs: list[dict[str, Any]] | UnsetType = UNSET
    usage: TokenUsage | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET
