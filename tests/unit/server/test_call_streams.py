"""Calls shown while they are written, on OpenAI's and Anthropic's streams: valid at the end, or said to be none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.server.test_compat_streams import chat_frames, deltas, message_frames, response_frames

from corral.api.responses import ResponseReply
from corral.core import CallPiece, Delta, Done, Metrics, ToolCall
from corral.server.openai.responses.events import ResponseEncoder

METRICS = Metrics(prompt_tokens=3, eval_tokens=200)
FIRST, SECOND = ToolCall("write", {"text": "ab\nc"}, "call_a", 0), ToolCall("now", {}, "call_b", 1)
PIECES = (
    Delta("Well."),
    Delta(call_pieces=(CallPiece(0, "call_a", "write", '{"text": "'),)),
    Delta(call_pieces=(CallPiece(0, "call_a", arguments="ab\\n"), CallPiece(0, "call_a", arguments='c"'))),
    Delta(call_pieces=(CallPiece(0, "call_a", arguments="}", end="whole"),), tool_calls=(FIRST,)),
)
SECOND_WHOLE = Delta(
    call_pieces=(CallPiece(1, "call_b", "now", "{"), CallPiece(1, "call_b", arguments="}", end="whole")),
    tool_calls=(SECOND,),
)
BROKEN = (
    Delta(call_pieces=(CallPiece(1, "call_c", "write", '{"text": "ab'),)),
    Delta(call_pieces=(CallPiece(1, "call_c", end="broken"),)),
)


def calls_of(chunks: Sequence[Any]) -> dict[int, dict[str, Any]]:
    """Calls as OpenAI's SDKs put them together."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas(chunks):
        for piece in delta.get("tool_calls", ()):
            call = calls.setdefault(piece["index"], {"arguments": ""})
            call |= {key: piece[key] for key in ("id", "type") if key in piece}
            call |= {"name": piece["function"]["name"]} if "name" in piece["function"] else {}
            call["arguments"] += piece["function"]["arguments"]
    return calls


async def test_chunks_of_a_call_join_to_the_call() -> None:
    chunks = await chat_frames(*PIECES, SECOND_WHOLE, Done("stop", METRICS))
    assert calls_of(chunks) == {
        0: {"id": "call_a", "type": "function", "name": "write", "arguments": '{"text": "ab\\nc"}'},
        1: {"id": "call_b", "type": "function", "name": "now", "arguments": "{}"},
    }
    shown = [delta["tool_calls"][0] for delta in deltas(chunks) if "tool_calls" in delta]
    assert len(shown) == 6
    assert shown[1] == {"index": 0, "function": {"arguments": "ab\\n"}}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == "tool_calls"


async def test_a_call_that_opens_the_answer_brings_the_role() -> None:
    chunks = await chat_frames(PIECES[1], Done("length", METRICS))
    assert deltas(chunks)[0] == {
        "role": "assistant",
        "tool_calls": [
            {"index": 0, "function": {"arguments": '{"text": "', "name": "write"}, "id": "call_a", "type": "function"}
        ],
    }


@pytest.mark.parametrize(("reason", "said"), [("length", "length"), ("stop", "stop")])
async def test_a_broken_call_alone_is_no_reason_to_call(reason: str, said: str) -> None:
    chunks = await chat_frames(*BROKEN, Done(reason, METRICS))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == said
    with pytest.raises(json.JSONDecodeError):
        json.loads(calls_of(chunks)[1]["arguments"])


async def test_choices_of_one_stream_do_not_hide_each_others_calls() -> None:
    chunks = await chat_frames(Delta(tool_calls=(FIRST,)), *PIECES[1:], Done("stop", METRICS), count=2)
    for index in (0, 1):
        own = [chunk for chunk in chunks[:-1] if chunk["choices"][0]["index"] == index]
        assert [d["tool_calls"][0].get("id") for d in deltas(own) if "tool_calls" in d].count("call_a") == 2


async def test_a_tool_block_grows_and_closes() -> None:
    frames = await message_frames(*PIECES, SECOND_WHOLE, Done("stop", METRICS))
    blocks = [data["content_block"] for kind, data in frames if kind == "content_block_start"]
    assert blocks[1:] == [
        {"type": "tool_use", "id": "call_a", "name": "write", "input": {}},
        {"type": "tool_use", "id": "call_b", "name": "now", "input": {}},
    ]
    inputs: dict[int, str] = {}
    for kind, data in frames:
        if kind == "content_block_delta" and data["delta"]["type"] == "input_json_delta":
            inputs[data["index"]] = inputs.get(data["index"], "") + data["delta"]["partial_json"]
    assert {index: json.loads(text) for index, text in inputs.items()} == {1: FIRST.arguments, 2: {}}
    assert [data["index"] for kind, data in frames if kind == "content_block_stop"] == [0, 1, 2]
    assert frames[-2][1]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("before", "reason", "said"),
    [
        ((), "length", "max_tokens"),
        (PIECES, "length", "max_tokens"),
        ((), "stop", "end_turn"),
        (PIECES, "stop", "tool_use"),
    ],
)
async def test_a_message_whose_call_broke_says_why_it_stopped(before: Sequence[Delta], reason: str, said: str) -> None:
    frames = await message_frames(*before, *BROKEN, Done(reason, METRICS))
    assert frames[-2][1]["delta"]["stop_reason"] == said
    starts = [data["index"] for kind, data in frames if kind == "content_block_start"]
    assert starts == [data["index"] for kind, data in frames if kind == "content_block_stop"]


async def test_a_responses_call_grows_and_is_done_once() -> None:
    frames = await response_frames(*PIECES, SECOND_WHOLE, Delta("After."), Done("stop", METRICS))
    output = frames[-1][1]["response"]["output"]
    assert [(item["type"], item.get("arguments")) for item in output] == [
        ("message", None),
        ("function_call", '{"text": "ab\\nc"}'),
        ("function_call", "{}"),
        ("message", None),
    ]
    grown = [data["delta"] for kind, data in frames if kind == "response.function_call_arguments.delta"]
    assert grown == ['{"text": "', "ab\\n", 'c"', "}", "{", "}"]
    for kind in ("response.output_item.added", "response.output_item.done"):
        assert [data["output_index"] for name, data in frames if name == kind] == [0, 1, 2, 3]
    assert [data["sequence_number"] for _, data in frames] == list(range(len(frames)))
    assert {item["status"] for item in output} == {"completed"}


async def test_a_responses_call_that_broke_stays_incomplete_and_can_be_answered() -> None:
    frames = await response_frames(*BROKEN, Done("length", METRICS))
    (item,) = frames[-1][1]["response"]["output"]
    assert (item["status"], item["call_id"], item["arguments"]) == ("incomplete", "call_c", '{"text": "ab')
    encoder = ResponseEncoder(ResponseReply(id="resp_1", model="m"))
    for delta in (*PIECES, *BROKEN):
        encoder.take(delta)
    assert [(call.id, call.arguments) for call in encoder.calls] == [("call_a", FIRST.arguments), ("call_c", {})]
