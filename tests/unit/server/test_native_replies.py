"""Native wire forms: key order, what is left out, timestamps; the table of errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from corral import errors
from corral.api.native_replies import (
    GenerateReply,
    calls_of,
    encode,
    logprobs_of,
    progress_of,
    set_metrics,
    status_line,
    warnings_of,
)
from corral.api.timestamps import format_local, format_utc
from corral.core import Metrics, Notice, Progress, TokenLogprob, ToolCall, TransferStatus
from corral.server.errors import headers_of, status_of, text_of


def test_a_bare_chunk_has_four_keys_in_order() -> None:
    assert encode(GenerateReply(model="m", created_at="t", response="x")) == (
        b'{"model":"m","created_at":"t","response":"x","done":false}'
    )


def test_metrics_that_are_zero_are_left_out() -> None:
    reply = GenerateReply(model="m", created_at="t", done=True, done_reason="stop")
    set_metrics(reply, Metrics(total_duration_ns=9, prompt_tokens=3, cached_tokens=1))
    assert list(json.loads(encode(reply))) == [
        "model",
        "created_at",
        "response",
        "done",
        "done_reason",
        "total_duration",
        "prompt_eval_count",
        "prompt_eval_cached_count",
    ]


def test_calls_have_their_index_and_an_id_only_when_there_is_one() -> None:
    made = calls_of([ToolCall("f", {"b": 1, "a": 2}), ToolCall("g", {}, "c1", 1)])
    assert encode(made) == (
        b'[{"function":{"index":0,"name":"f","arguments":{"b":1,"a":2}}},'
        b'{"id":"c1","function":{"index":1,"name":"g","arguments":{}}}]'
    )


def test_logprobs_leave_out_bytes_of_nothing() -> None:
    made = encode(logprobs_of([TokenLogprob("", -1.0), TokenLogprob("a", -2.0, b"a")]))
    assert made == b'[{"token":"","logprob":-1.0},{"token":"a","logprob":-2.0,"bytes":[97]}]'


def test_warnings_carry_their_facts() -> None:
    assert encode(warnings_of([Notice("c", "m", {"n": 1})])) == b'[{"code":"c","message":"m","n":1}]'


def test_progress_tells_what_belongs_to_its_stage() -> None:
    assert progress_of(Progress("queued", 2, 1.5)) == {"stage": "queued", "position": 2, "wait_seconds": 1.5}
    assert progress_of(Progress("loading")) == {"stage": "loading"}
    assert progress_of(Progress("prompt", processed=1, total=3, cached=0))["total"] == 3


def test_a_transfer_line_leaves_out_zeros() -> None:
    assert status_line(TransferStatus("pulling x", "sha256:1", 10)) == {
        "status": "pulling x",
        "digest": "sha256:1",
        "total": 10,
    }
    assert status_line(TransferStatus("success", notices=(Notice("c", "m"),)))["warnings"][0]["code"] == "c"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "Z"), (123456789, ".123456789Z"), (980000000, ".98Z"), (1, ".000000001Z")],
)
def test_times_have_up_to_nine_digits_without_trailing_zeros(fraction: int, text: str) -> None:
    assert format_utc(1_755_802_102 * 10**9 + fraction) == "2025-08-21T18:48:22" + text


def test_local_times_have_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 8, 20, 10, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=-7)))
    shown = format_local(moment)
    assert datetime.fromisoformat(shown) == moment
    assert shown.endswith("Z") or shown[-6] in "+-"
    assert ".5" in shown
    assert datetime.fromisoformat(format_local(datetime(2026, 1, 1, tzinfo=UTC))) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest("x"), 400),
        (errors.ContextOverflow(2, 1), 400),
        (errors.TemplateError("x"), 400),
        (errors.BodyTooLarge(1), 413),
        (errors.ModelNotFound("x"), 404),
        (errors.RequestNotFound("x"), 404),
        (errors.CloudDisabled(), 403),
        (errors.QueueFull(1), 503),
        (errors.RequestCanceled(), 499),
        (errors.RunnerDied(), 500),
        (errors.RunnerHung(1.0), 500),
        (errors.NotEnoughSpace(2, 1), 507),
        (errors.EngineError(503, "busy"), 503),
        (errors.EngineError(429, "busy"), 429),
        (errors.EngineError(0, "odd"), 500),
        (errors.CorralError("x"), 500),
        (KeyError("x"), 500),
    ],
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert status_of(error) == status


def test_unexpected_errors_do_not_show_their_text(caplog: pytest.LogCaptureFixture) -> None:
    assert text_of(OSError("/secret/path")) == "internal server error"
    assert "/secret/path" in caplog.text


def test_a_full_queue_says_when_to_come_back() -> None:
    assert headers_of(errors.QueueFull(1, 7)) == {"Retry-After": "7"}
    assert headers_of(errors.ModelNotFound("x")) == {}
