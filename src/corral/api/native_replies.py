"""Reply shapes of the native API: key order, and what is left out when empty. Called by `server/native/`.

Field order is key order. A field whose default is UNSET is left out until it is set; fields that Ollama marks
`omitempty` are set only when they are not empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from corral.core import CacheReport, Metrics, Notice, Progress, TokenLogprob, TokenProb, ToolCall, TransferStatus

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


class DebugInfo(msgspec.Struct, kw_only=True):
    """What `_debug_render_only` shows."""

    rendered_template: str
    image_count: int | UnsetType = UNSET


class GenerateReply(msgspec.Struct, kw_only=True):
    """A chunk of /api/generate, its last one, or the whole reply."""

    model: str
    created_at: str
    response: str = ""
    thinking: str | UnsetType = UNSET
    done: bool = False
    done_reason: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_cached_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    draft_count: int | UnsetType = UNSET
    draft_accepted_count: int | UnsetType = UNSET
    cache: dict[str, Any] | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(name="_debug_info", default=UNSET)
    logprobs: list[dict[str, Any]] | UnsetType = UNSET
    progress: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


class ReplyMessage(msgspec.Struct, kw_only=True):
    """`message` of a chat reply."""

    role: str = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class ChatReply(msgspec.Struct, kw_only=True):
    """A chunk of /api/chat, its last one, or the whole reply."""

    model: str
    created_at: str
    message: ReplyMessage
    done: bool = False
    done_reason: str | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(name="_debug_info", default=UNSET)
    logprobs: list[dict[str, Any]] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_cached_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    draft_count: int | UnsetType = UNSET
    draft_accepted_count: int | UnsetType = UNSET
    cache: dict[str, Any] | UnsetType = UNSET
    progress: dict[str, Any] | UnsetType = UNSET
    warnings: list[dict[str, Any]] | UnsetType = UNSET


def set_metrics(reply: GenerateReply | ChatReply, metrics: Metrics) -> None:
    """Put a run's counts and times on its last chunk; zeros are left out."""
    reply.total_duration = metrics.total_duration_ns or UNSET
    reply.load_duration = metrics.load_duration_ns or UNSET
    reply.prompt_eval_count = metrics.prompt_tokens or UNSET
    reply.prompt_eval_cached_count = metrics.cached_tokens or UNSET
    reply.prompt_eval_duration = metrics.prompt_duration_ns or UNSET
    reply.eval_count = metrics.eval_tokens or UNSET
    reply.eval_duration = metrics.eval_duration_ns or UNSET
    if metrics.drafted_tokens:
        reply.draft_count, reply.draft_accepted_count = metrics.drafted_tokens, metrics.accepted_tokens


def cache_of(report: CacheReport | None) -> dict[str, Any] | UnsetType:
    """`cache`: tokens of the prompt, those that had been read and where, the text around where reading began."""
    if report is None:
        return UNSET
    place = {"before": report.before, "after": report.after} if report.after is not None else {}
    source = {"source": report.source} if report.cached_tokens else {}
    return {"prompt_tokens": report.prompt_tokens, "cached_tokens": report.cached_tokens, **source, **place}


def warnings_of(notices: Iterable[Notice]) -> list[dict[str, Any]] | UnsetType:
    """`warnings`: each notice's code, message and facts; UNSET when there are none."""
    return [{"code": notice.code, "message": notice.message, **notice.facts} for notice in notices] or UNSET


def calls_of(calls: Iterable[ToolCall]) -> list[dict[str, Any]] | UnsetType:
    """`tool_calls`; the id is left out when empty, the index is always there."""
    return [
        ({"id": call.id} if call.id else {})
        | {"function": {"index": call.index, "name": call.name, "arguments": call.arguments}}
        for call in calls
    ] or UNSET


def logprobs_of(entries: Iterable[TokenLogprob]) -> list[dict[str, Any]] | UnsetType:
    """`logprobs`; `bytes` is absent for an empty token, `top_logprobs` unless asked for."""
    return [
        _prob(entry) | ({"top_logprobs": [_prob(top) for top in entry.top]} if entry.top else {}) for entry in entries
    ] or UNSET


def _prob(entry: TokenProb) -> dict[str, Any]:
    shown = {"token": entry.token, "logprob": entry.logprob}
    return shown | {"bytes": list(entry.bytes)} if entry.bytes else shown


def progress_of(progress: Progress) -> dict[str, Any]:
    """`progress`: the stage, and the numbers that belong to it."""
    if progress.stage == "queued":
        return {"stage": "queued", "position": progress.position, "wait_seconds": round(progress.wait_s, 3)}
    if progress.stage == "translating":
        return {"stage": "translating", "processed": progress.processed, "total": progress.total}
    if progress.stage == "loading":
        return {"stage": "loading"}
    return {
        "stage": "prompt",
        "processed": progress.processed,
        "total": progress.total,
        "cached": progress.cached,
    }


def status_line(status: TransferStatus) -> dict[str, Any]:
    """A progress object of pull, push and create; zero numbers and an empty digest are left out."""
    line: dict[str, Any] = {"status": status.status}
    if status.digest:
        line["digest"] = status.digest
    if status.total:
        line["total"] = status.total
    if status.completed:
        line["completed"] = status.completed
    warnings = warnings_of(status.notices)
    return line if warnings is UNSET else line | {"warnings": warnings}
