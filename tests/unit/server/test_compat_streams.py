"""Events to OpenAI's, Responses' and Anthropic's streams: order, keys, and what happens in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from corral.api.anthropic import MessagesRequest
from corral.api.responses import ResponseReply
from corral.core import Delta, Done, Event, Message, Metrics, Notice, Progress, TokenLogprob, ToolCall
from corral.errors import InvalidRequest, ModelNotFound, RunnerDied
from corral.server.anthropic.messages import estimate_tokens, read_conversation, read_tool_choice
from corral.server.anthropic.replies import MessageEncoder, error_event, stop_of
from corral.server.openai.chat import ChunkEncoder
from corral.server.openai.merge import merge
from corral.server.openai.responses.events import ResponseEncoder
from corral.server.openai.responses.store import ResponseStore
from corral.server.openai.wire import with_pings

METRICS = Metrics(prompt_tokens=3, cached_tokens=1, eval_tokens=2)
CALL = ToolCall("f", {"x": 1}, "call_ab12cd34", 0)


async def stream(*events: Event | BaseException) -> AsyncIterator[Event]:
    for event in events:
        if isinstance(event, BaseException):
            raise event
        yield event


async def text_of(frames: AsyncIterator[bytes]) -> str:
    return b"".join([piece async for piece in frames]).decode()


def parse(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in lines:
            found.append(
                (lines.get("event", ""), lines["data"] if lines["data"] == "[DONE]" else json.loads(lines["data"]))
            )
    return found


async def chat_frames(*events: Event, count: int = 1, usage: bool = False) -> list[Any]:
    encoder = ChunkEncoder("m", count, include_usage=usage)
    return [data for _, data in parse(await text_of(encoder.frames(merge([stream(*events) for _ in range(count)]))))]


def deltas(chunks: Sequence[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]]


async def test_the_role_comes_with_the_first_piece_and_the_finish_chunk_is_empty() -> None:
    chunks = await chat_frames(Delta("Hi"), Delta("!"), Done("stop", METRICS))
    assert deltas(chunks) == [{"role": "assistant", "content": "Hi"}, {"content": "!"}, {}]
    assert chunks[2]["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in chunks[2]
    assert chunks[-1] == "[DONE]"


async def test_usage_comes_last_with_empty_choices_only_when_asked_for() -> None:
    chunks = await chat_frames(Delta("Hi"), Done("stop", METRICS), usage=True)
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["total_tokens"] == 5
    assert chunks[-2]["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


async def test_thinking_and_content_of_one_event_become_two_chunks() -> None:
    chunks = await chat_frames(Delta("a", "hmm"), Delta(thinking="x"), Done("stop", METRICS))
    assert deltas(chunks)[:3] == [
        {"role": "assistant", "reasoning": "hmm"},
        {"content": "a"},
        {"content": "", "reasoning": "x"},
    ]


async def test_a_call_is_complete_in_one_delta_and_changes_the_finish_reason() -> None:
    chunks = await chat_frames(Delta(tool_calls=(CALL,)), Done("stop", METRICS))
    call = deltas(chunks)[0]["tool_calls"][0]
    assert call == {
        "id": "call_ab12cd34",
        "index": 0,
        "type": "function",
        "function": {"name": "f", "arguments": '{"x":1}'},
    }
    assert chunks[1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_empty_answer_still_opens_with_the_role() -> None:
    assert deltas(await chat_frames(Done("stop", METRICS))) == [{"role": "assistant", "content": ""}, {}]


async def test_choices_of_one_stream_keep_their_index_and_share_id_and_time() -> None:
    chunks = [
        chunk
        for chunk in await chat_frames(Delta("a"), Done("stop", METRICS), count=3, usage=True)
        if chunk != "[DONE]"
    ]
    assert {chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"]} == {0, 1, 2}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert chunks[-1]["usage"]["prompt_tokens"] == 3


async def test_warnings_stand_on_the_finish_chunk() -> None:
    chunks = await chat_frames(Delta("a"), Done("stop", METRICS, notices=(Notice("c", "m", {"n": 1}),)))
    assert chunks[1]["warnings"] == [{"code": "c", "message": "m", "n": 1}]


async def test_one_failing_choice_ends_the_merged_stream_and_closes_the_others() -> None:
    closed = []

    async def endless() -> AsyncIterator[Event]:
        try:
            while True:
                yield Delta("a")
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(RunnerDied):
        async for _ in merge([endless(), stream(Delta("b"), RunnerDied(-9))]):
            pass
    assert closed == [True]


async def test_pings_fill_the_silence_and_the_source_is_closed_when_the_reader_leaves() -> None:
    closed = asyncio.Event()
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        try:
            await gate.wait()
            yield b"data"
            await asyncio.Event().wait()
        finally:
            closed.set()

    frames = with_pings(slow(), 0.001, lambda: b"ping")
    assert await anext(frames) == b"ping"
    gate.set()
    while await anext(frames) != b"data":
        pass
    await frames.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def kept() -> None:
    """Nothing to keep."""


async def response_frames(*events: Event, limit: int | None = None) -> list[tuple[str, Any]]:
    encoder = ResponseEncoder(ResponseReply(id="resp_1", model="m", max_output_tokens=limit), spaced)
    return parse(await text_of(encoder.frames(stream(*events), kept)))


def spaced(full: str) -> tuple[str, str]:
    namespace, _, name = full.rpartition(".")
    return namespace, name


async def test_text_before_a_call_is_closed_before_the_call_and_text_after_it_kept() -> None:
    frames = await response_frames(Delta("a"), Delta(tool_calls=(CALL,)), Delta("b"), Done("stop", METRICS))
    output = frames[-1][1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    added = [data["output_index"] for kind, data in frames if kind == "response.output_item.added"]
    done = [data["output_index"] for kind, data in frames if kind == "response.output_item.done"]
    assert added == done == [0, 1, 2]
    assert [data["sequence_number"] for _, data in frames] == list(range(len(frames)))


async def test_a_cut_at_the_clients_limit_ends_incomplete_and_an_empty_answer_has_an_empty_list() -> None:
    frames = await response_frames(Done("length", METRICS), limit=METRICS.eval_tokens)
    assert [kind for kind, _ in frames] == ["response.created", "response.in_progress", "response.incomplete"]
    response = frames[-1][1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"] == []
    assert response["usage"]["input_tokens_details"] == {"cached_tokens": 1, "cache_write_tokens": 0}


@pytest.mark.parametrize(
    ("end", "limit", "status", "item", "code"),
    [
        (Done("stop", METRICS), 3, "completed", "completed", None),
        (Done("length", METRICS), METRICS.eval_tokens, "incomplete", "incomplete", None),
        (Done("length", METRICS), None, "completed", "completed", "length_limit"),  # the model's own num_predict
        (Done("length", METRICS, window_full=True), None, "failed", "incomplete", None),
        (Done("length", METRICS, window_full=True), 1000, "failed", "incomplete", None),
    ],
)
async def test_why_a_response_stopped_is_true(
    end: Done, limit: int | None, status: str, item: str, code: str | None
) -> None:
    frames = await response_frames(Delta("a"), end, limit=limit)
    response = frames[-1][1]["response"]
    assert (frames[-1][0], response["status"], response["output"][-1]["status"]) == (f"response.{status}", status, item)
    assert [warning["code"] for warning in response.get("warnings", [])] == ([code] if code else [])
    assert (response["error"] or {}).get("code") == ("context_length_exceeded" if status == "failed" else None)
    assert bool(response["incomplete_details"]) == (status == "incomplete")


async def test_calls_of_a_namespace_carry_name_and_namespace() -> None:
    frames = await response_frames(
        Delta(tool_calls=(ToolCall("n.f", {}, "c"), ToolCall("g", {}, "d", 1))), Done("stop")
    )
    one, two = frames[-1][1]["response"]["output"]
    assert (one["name"], one["namespace"]) == ("f", "n")
    assert (two["name"], "namespace" in two) == ("g", False)
    added = [data["item"]["name"] for kind, data in frames if kind == "response.output_item.added"]
    assert added == ["f", "g"]


async def test_a_late_error_of_a_response_is_response_failed() -> None:
    encoder = ResponseEncoder(ResponseReply(id="resp_1", model="m"))
    ((kind, data),) = parse(encoder.failure(RunnerDied(-9)).decode())
    assert kind == "response.failed"
    assert data["response"]["error"]["code"] == "api_error"


async def message_frames(*events: Event) -> list[tuple[str, Any]]:
    encoder = MessageEncoder(MessagesRequest(model="m", max_tokens=100))
    return parse(await text_of(encoder.frames(stream(*events))))


async def test_blocks_close_when_another_kind_begins() -> None:
    frames = await message_frames(
        Delta("a"), Delta(thinking="hmm"), Delta("b"), Delta(tool_calls=(CALL,)), Done("stop", METRICS)
    )
    starts = [(data["index"], data["content_block"]["type"]) for kind, data in frames if kind == "content_block_start"]
    assert starts == [(0, "text"), (1, "thinking"), (2, "text"), (3, "tool_use")]
    stops = [data["index"] for kind, data in frames if kind == "content_block_stop"]
    assert stops == [0, 1, 2, 3]
    assert frames[-2][1]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


async def test_an_empty_message_has_only_its_frame() -> None:
    assert [kind for kind, _ in await message_frames(Done("stop", METRICS))] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


async def test_usage_parts_what_was_cached_from_what_was_read() -> None:
    frames = await message_frames(Progress("prompt", 0, 0.0, 7, 9, 7), Delta("a"), Done("stop", METRICS))
    opened = {"cache_creation_input_tokens": 0, "input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 0}
    assert frames[0][1]["message"]["usage"] == opened
    usage = frames[-2][1]["usage"]
    assert usage["cache_read_input_tokens"] == METRICS.cached_tokens
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == METRICS.prompt_tokens


def test_a_ping_before_the_first_event_opens_the_message() -> None:
    encoder = MessageEncoder(MessagesRequest(model="m", max_tokens=5))
    assert [kind for kind, _ in parse(encoder.ping().decode())] == ["message_start", "ping"]
    assert [kind for kind, _ in parse(encoder.ping().decode())] == ["ping"]


@pytest.mark.parametrize(
    ("end", "called", "stop"),
    [
        (Done("stop"), False, ("end_turn", None)),
        (Done("stop", stop_sequence="x"), False, ("stop_sequence", "x")),
        (Done("stop", stop_sequence="</model's own>"), False, ("end_turn", None)),
        (Done("length", Metrics(eval_tokens=10)), False, ("max_tokens", None)),
        (Done("length", Metrics(eval_tokens=4)), False, ("model_context_window_exceeded", None)),
        (Done("length", Metrics(eval_tokens=10), window_full=True), False, ("model_context_window_exceeded", None)),
        (Done("length"), True, ("tool_use", None)),
        (Done("stop", stop_sequence="x"), True, ("tool_use", None)),
        (Done(""), False, (None, None)),
        (Done("load"), False, ("end_turn", None)),
    ],
)
def test_stop_reasons(end: Done, called: bool, stop: tuple[str | None, str | None]) -> None:
    assert stop_of(end, MessagesRequest(max_tokens=10, stop_sequences=["x"]), called=called) == stop


def test_a_late_error_of_a_message_is_an_error_event() -> None:
    ((kind, data),) = parse(error_event(RunnerDied(-9)).decode())
    assert kind == "error"
    assert data["error"]["type"] == "api_error"


def test_tool_results_of_a_user_come_before_its_text_and_get_the_tools_name() -> None:
    body = MessagesRequest(
        messages=[
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
                ],
            },
        ],
        system=[{"type": "text", "text": "S"}, {"type": "text", "text": "T"}],
    )
    assert read_conversation(body, []) == (
        Message("system", "ST"),
        Message("assistant", tool_calls=(ToolCall("f", {}, "t", 0),)),
        Message("tool", "ok", tool_name="f", tool_call_id="t"),
        Message("user", "a"),
    )


def conversation(*blocks: Any, role: str = "user") -> tuple[tuple[Message, ...], list[str]]:
    """The messages of one turn, and the codes of the notices."""
    notices: list[Notice] = []
    body = MessagesRequest(messages=[{"role": role, "content": list(blocks)}])
    return read_conversation(body, notices), [notice.code for notice in notices]


def test_null_texts_of_blocks_are_empty() -> None:
    assert conversation({"type": "text", "text": None}, {"type": "text", "text": "x"}) == ((Message("user", "x"),), [])
    with pytest.raises(InvalidRequest, match="messages have no content"):
        conversation({"type": "thinking", "thinking": None}, role="assistant")
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": None}]}
    assert conversation(result) == ((Message("tool", "", tool_call_id="t"),), [])
    body = MessagesRequest(system=[{"type": "text", "text": None}], messages=[{"role": "user", "content": "x"}])
    assert read_conversation(body, []) == (Message("user", "x"),)


@pytest.mark.parametrize("content", [None, 5, "x", [], [5]])
def test_search_results_of_another_form_have_no_lines(content: Any) -> None:
    block = {"type": "web_search_tool_result", "tool_use_id": "t", "content": content}
    assert conversation(block) == ((Message("tool", "", tool_call_id="t"),), [])


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"type": []}, 'json: field "messages[0].content[0].type" must be of type string, not array'),
        ({"type": "text", "text": 5}, 'json: field "messages[0].content[0].text" must be of type string, not number'),
        ({}, 'messages[0].content[0]: unknown content block type ""'),
        (
            {"type": "image", "source": {"type": "url", "url": []}},
            "invalid image source type: url. Only base64 images are supported.",
        ),
        ({"type": "image"}, "invalid image source"),
        ({"type": "tool_result", "content": [{"type": "image"}]}, "invalid tool_result image source"),
        ({"type": "tool_use", "name": "f"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "t"}, "tool_use block missing required 'name' field"),
    ],
)
def test_blocks_that_cannot_be_read_are_named(block: Any, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation(block)
    assert str(caught.value) == why


DOCUMENT = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "doc"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
FOUND = {"type": "search_result", "title": "S", "source": "u", "content": [{"type": "text", "text": "found"}]}


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    ("block", "text"),
    [
        (DOCUMENT, "T\ndoc"),
        ({"type": "document", "source": {"type": "content", "content": "plain"}}, "plain"),
        (FOUND, "S (u)\nfound"),
        ({"type": "tool_reference", "tool_name": "Read"}, "[tool Read]"),
    ],
)
def test_documents_are_read_in_messages_and_in_results(block: Any, text: str, within: bool) -> None:
    blocks = {"type": "tool_result", "tool_use_id": "t", "content": [block]} if within else block
    ((message,), codes) = conversation(blocks)
    assert (message.content, codes) == (text, [])


def test_a_pdf_in_a_result_is_left_out_and_told_and_refused_in_a_message() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}, PDF]}
    assert conversation(result) == ((Message("tool", "x", tool_call_id="t"),), ["block_ignored"])
    with pytest.raises(InvalidRequest, match="only documents with a text source can be read"):
        conversation(PDF)


@pytest.mark.parametrize(
    ("content", "is_error", "text"),
    [
        ("no such file", True, "Error: no such file"),
        ("<tool_use_error>no</tool_use_error>", True, "<tool_use_error>no</tool_use_error>"),
        ([], True, "Error: "),
        ("no such file", False, "no such file"),
        ("no such file", None, "no such file"),
    ],
)
def test_a_result_that_failed_says_so(content: Any, is_error: Any, text: str) -> None:
    ((message,), _) = conversation(
        {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": is_error}
    )
    assert message.content == text


def test_results_of_tools_that_run_elsewhere_are_results() -> None:
    blocks = [
        {"type": "mcp_tool_use", "id": "m", "name": "look", "server_name": "s", "input": {"a": 1}},
        {"type": "mcp_tool_result", "tool_use_id": "m", "content": [{"type": "text", "text": "seen"}]},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "b", "content": {"stdout": "hi"}},
    ]
    (call, seen, ran), codes = conversation(*blocks, role="assistant")
    assert (call.tool_calls[0].name, seen.content, ran.content, codes) == ("look", "seen", '{"stdout":"hi"}', [])


def test_images_stay_between_the_texts_of_a_message_and_of_a_result() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    blocks = [{"type": "text", "text": "A:"}, picture, {"type": "text", "text": "B"}, picture]
    ((message,), _) = conversation(*blocks)
    assert (message.content, message.images, message.places) == ("A:B", (b"ABC", b"ABC"), (2, 3))
    ((result,), _) = conversation({"type": "tool_result", "tool_use_id": "t", "content": blocks})
    assert (result.content, result.places) == ("A:B", (2, 3))


def test_blocks_that_are_left_out_are_reported() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document"}]}
    assert conversation(result)[1] == ["block_ignored"]
    notices: list[Notice] = []
    system = [{"type": "text", "text": "S"}, {"type": "image"}, 5]
    read_conversation(MessagesRequest(system=system, messages=[{"role": "user", "content": "x"}]), notices)
    assert [notice.message for notice in notices] == [
        'system[1]: a block of type "image" is not read here',
        'system[2]: a block of type "" is not read here',
    ]


def test_a_tool_choice_without_a_type_leaves_the_choice_to_the_model() -> None:
    assert read_tool_choice({"type": None}, ()).mode == read_tool_choice(None, ()).mode == "auto"


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, 3),  # "user" and "Say hello." are 14 bytes
        ({"system": "Be brief."}, 5),
        ({"system": [{"type": "text", "text": "Be brief."}]}, 5),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Grüße"}]}]}, 2),  # 4 + 7 bytes
        ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x" * 11}]}]}, 5),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]}, 11),
        ({"tools": [{"name": "f", "description": "dd", "input_schema": {"type": "object"}}]}, 8),
        ({"messages": [{"role": "user", "content": ""}]}, 1),
    ],
)
def test_a_message_opens_with_ollamas_estimate_of_its_tokens(more: dict[str, Any], tokens: int) -> None:
    hello = {"messages": [{"role": "user", "content": "Say hello."}]}
    assert estimate_tokens(MessagesRequest(**{**hello, **more})) == tokens


def test_kept_responses_are_bounded_private_and_gone_when_deleted(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "r", max_responses=2)
    for number in range(3):
        store.save(f"resp_{number}", [Message("user", "é", images=(b"\x00\xff",))], b'{"id":"x"}')
    kept = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert kept == ["resp_1.json", "resp_2.json"]
    assert store.load("resp_2").messages == [Message("user", "é", images=(b"\x00\xff",))]
    assert (tmp_path / "r" / "resp_2.json").stat().st_mode & 0o077 == 0
    store.delete("resp_2")
    for missing in ("resp_2", "resp_0", "../x", "resp_" + "a" * 100):
        with pytest.raises(ModelNotFound):
            store.load(missing)


async def test_logprobs_of_a_response_stand_on_its_deltas_and_its_item() -> None:
    def token(text: str) -> TokenLogprob:
        return TokenLogprob(text, -0.5, text.encode())

    found = await response_frames(Delta("a", logprobs=(token("a"),)), Delta("b", logprobs=(token("b"),)), Done("stop"))
    deltas = [data["logprobs"] for name, data in found if name == "response.output_text.delta"]
    assert [[entry["token"] for entry in each] for each in deltas] == [["a"], ["b"]]
    (item,) = found[-1][1]["response"]["output"]
    assert [entry["token"] for entry in item["content"][0]["logprobs"]] == ["a", "b"]
