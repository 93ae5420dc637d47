"""Reading an engine's answer: repeat guard, counts and times, tool calls of a templated chat."""

from __future__ import annotations

import time
from typing import Any

import pytest

from corral.core import CallPiece, Delta, TokenProb, ToolCall
from corral.inference.running.enginechat import run_chat
from corral.inference.running.repeats import MOST_REPEATS, RepeatGuard
from corral.inference.running.run import Run, logprobs_of
from corral.runner.sharing import Sharing
from corral.sched.leased import LeasedPlace


def new_run(**fields: Any) -> Run:
    values: dict[str, Any] = {"guard": RepeatGuard(), "max_tokens": 10, "want_top": 0, **fields}
    return Run(started_ns=time.perf_counter_ns(), load_duration_ns=5, **values)


@pytest.mark.parametrize("piece", ["ha", " ha", "\n", "  "])
def test_a_piece_trips_the_guard_when_it_came_over_30_times_in_a_row(piece: str) -> None:
    guard = RepeatGuard()
    tripped = [guard.trips(piece) for _ in range(MOST_REPEATS + 2)]
    assert tripped.index(True) == MOST_REPEATS + (0 if not piece.strip() else 1)


def test_other_pieces_and_held_back_text_reset_or_leave_the_count() -> None:
    guard = RepeatGuard()
    assert not any(guard.trips("a") or guard.trips("") for _ in range(MOST_REPEATS))
    guard.trips("b")
    assert not any(guard.trips("a") for _ in range(MOST_REPEATS))


def test_counts_are_the_engines_and_prompt_tokens_include_cached_ones() -> None:
    run = new_run()
    run.take_piece("x")
    run.timings = {"cache_n": 7, "prompt_n": 3, "prompt_ms": 1.5, "predicted_n": 2, "predicted_ms": 0.25}
    metrics = run.metrics()
    assert (metrics.prompt_tokens, metrics.cached_tokens, metrics.eval_tokens) == (10, 7, 2)
    assert (metrics.prompt_duration_ns, metrics.eval_duration_ns) == (1_500_000, 250_000)


def test_a_run_stopped_by_us_still_has_counts() -> None:
    run = new_run()
    run.prompt_tokens = 4
    for piece in ("a", "b"):
        run.take_piece(piece)
    metrics = run.metrics()
    assert (metrics.prompt_tokens, metrics.eval_tokens) == (4, 2)
    assert metrics.eval_duration_ns > 0


def test_no_tokens_asked_for_means_none_counted() -> None:
    run = new_run(max_tokens=0)
    run.timings = {"prompt_n": 3, "predicted_n": 1, "predicted_ms": 1}
    assert run.done().reason == "length"
    assert run.done().metrics is not None
    assert run.metrics().eval_tokens == 0


def test_logprobs_have_bytes_of_their_token_and_the_alternatives_asked_for() -> None:
    entry = {
        "token": "é",
        "logprob": -0.1,
        "top_logprobs": [{"token": "é", "logprob": -0.1}, {"token": "", "logprob": -9}],
    }
    plain = logprobs_of([entry], new_run())[0]
    assert (plain.token, plain.bytes, plain.top) == ("é", "é".encode(), ())
    assert logprobs_of([entry], new_run(want_top=2))[0].top[1] == TokenProb("", -9, b"")


def test_a_control_token_has_its_name_where_it_has_no_text() -> None:
    end = {"id": 7, "token": "", "logprob": -0.5}
    named = new_run(want_top=1, control_names={7: "<|end|>"})
    (entry,) = logprobs_of([{**end, "top_logprobs": [end]}], named)
    assert (entry.token, entry.bytes) == ("<|end|>", b"<|end|>")
    assert entry.top == (TokenProb("<|end|>", -0.5, b"<|end|>"),)
    assert logprobs_of([{**end, "id": 8}], named)[0].token == ""


class _Lease:
    """As much of a lease as run_chat uses."""

    def __init__(self, *chunks: dict[str, Any]) -> None:
        self.chunks, self.runner, self.eval_tokens, self.context_window = chunks, self, 0, 4096
        self.gives_way, self.place = False, LeasedPlace()
        self.spec, self.paced, self.sharing = self, False, Sharing()

    async def chat(self, body: dict[str, Any], gather_s: float = 0.0) -> Any:
        for chunk in self.chunks:
            yield chunk


def _chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": reason}]}


async def test_tool_calls_are_put_together_from_their_pieces_and_come_once() -> None:
    lease = _Lease(
        _chunk(role="assistant", content=None),
        _chunk(content="Let me see."),
        _chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]),
        _chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]),
        _chunk(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        _chunk("tool_calls"),
    )
    run = new_run()
    events = [event async for event in run_chat(lease, {}, run)]  # type: ignore[arg-type]
    assert [(event.content, event.tool_calls) for event in events] == [  # type: ignore[union-attr]
        ("Let me see.", ()),
        ("", (ToolCall("f", {"x": 1}, "a", 0), ToolCall("g", {}, "b", 1))),
    ]
    assert run.reason == "stop"


def _call_chunk(index: int, arguments: str, name: str = "", call_id: str = "") -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return _chunk(tool_calls=[{"index": index, "function": function} | ({"id": call_id} if call_id else {})])


async def test_calls_are_shown_while_they_are_written_and_each_ends_before_the_next_thing() -> None:
    lease = _Lease(
        _call_chunk(0, "", "f", "a"),
        _call_chunk(0, '{"x"'),
        _call_chunk(0, ": 1}"),
        _call_chunk(1, "", "g", "b"),
        _chunk(content="Now."),
        _call_chunk(2, '{"y": "1', "h", "c"),
        _chunk("length"),
    )
    run = new_run()
    events = [event async for event in run_chat(lease, {}, run, call_pieces=True)]  # type: ignore[arg-type]
    assert events == [
        Delta(call_pieces=(CallPiece(0, "a", "f", '{"x"'),)),
        Delta(call_pieces=(CallPiece(0, "a", arguments=": 1"),)),
        Delta(
            call_pieces=(CallPiece(0, "a", arguments="}", end="whole"),), tool_calls=(ToolCall("f", {"x": 1}, "a", 0),)
        ),
        Delta(tool_calls=(ToolCall("g", {}, "b", 1),)),
        Delta("Now."),
        Delta(call_pieces=(CallPiece(2, "c", "h", '{"y": "1'),)),
        Delta(call_pieces=(CallPiece(2, "c", end="broken"),)),
    ]
    assert [notice.code for notice in run.notices] == ["tool_call_unparsed"]
    assert run.events == 6


async def test_a_call_whose_arguments_are_no_object_is_content_with_a_notice() -> None:
    lease = _Lease(_chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "[1]"}}]))
    run = new_run()
    (event,) = [event async for event in run_chat(lease, {}, run)]  # type: ignore[arg-type]
    assert event == Delta('{"name": "f", "arguments": [1]')
    assert [notice.code for notice in run.notices] == ["tool_call_unparsed"]
