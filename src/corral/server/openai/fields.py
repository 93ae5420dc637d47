"""Fields that all compatibility routes share, as `Common` and options: what was sent, and nothing else.

An option that the client did not send stays the model's own (docs/differences.md), unlike Ollama's fixed 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from corral.api.openai import EngineFields, SamplingFields
from corral.core import Common, Notice
from corral.durations import parse_keep_alive
from corral.errors import InvalidRequest
from corral.server.callers import caller_of
from corral.server.openai.messages import read_stop


def common_of(
    request: Request, body: EngineFields, options: Mapping[str, Any], notices: tuple[Notice, ...], *, strict: bool
) -> Common:
    """`Common` of a compatibility request; our extra `options`, `num_ctx` and `keep_alive` are honoured."""
    merged = {**(body.options or {}), **{name: value for name, value in options.items() if value is not None}}
    if body.num_ctx is not None:
        merged["num_ctx"] = body.num_ctx
    return Common(
        model=body.model,
        options=merged,
        keep_alive_s=parse_keep_alive(body.keep_alive),
        caller=caller_of(request),
        strict=strict if body.strict is None else body.strict,
        notices=notices,
    )


def sampling_options(body: SamplingFields) -> dict[str, Any]:
    """The sampling fields of a request under Ollama's option names; None where absent."""
    return {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
        "seed": body.seed,
        "stop": read_stop(body.stop),
    }


def stop_notices(stop: Any) -> tuple[Notice, ...]:
    """A notice where something in `stop` is no text and therefore ignored, as Ollama does."""
    values = stop if isinstance(stop, list) else [] if stop is None else [stop]
    ignored = sum(not isinstance(value, str) for value in values)
    if not ignored:
        return ()
    return (
        Notice("stop_ignored", f"{ignored} of the stop sequences are no text and were ignored", {"count": ignored}),
    )


def read_logit_bias(value: Mapping[str, float] | None) -> dict[int, float]:
    """`logit_bias`: token ids to -100…100. Raises InvalidRequest naming a key that is no id."""
    biases = {}
    for key, bias in (value or {}).items():
        if not key.isdecimal() or not -100 <= bias <= 100:
            raise InvalidRequest(
                f"logit_bias: {key!r}: expected a token id with a bias from -100 to 100", field="logit_bias"
            )
        biases[int(key)] = float(bias)
    return biases


def read_count(value: int | None) -> int:
    """`n`: 1 to 16 answers. Raises InvalidRequest."""
    count = 1 if value is None else value
    if not 1 <= count <= 16:
        raise InvalidRequest("n must be between 1 and 16", field="n")
    return count
