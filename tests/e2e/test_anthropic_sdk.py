"""The official Anthropic Python SDK against a real server with a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="ollama", max_retries=0, timeout=120) as made:
        yield made


def greedy(n: int = 16, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": n, "extra_body": {"temperature": 0, **more}}


def test_a_message_answers_with_usage(client: anthropic.Anthropic) -> None:
    reply = client.messages.create(messages=HELLO, **greedy(6))
    assert reply.role == "assistant"
    assert reply.content[0].type == "text"
    assert reply.stop_reason == "max_tokens"
    usage = reply.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == 12
    assert (usage.output_tokens, usage.cache_creation_input_tokens) == (6, 0)


def test_a_stream_collects_to_the_same_message(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(messages=HELLO, system="Be brief.", **greedy())
    with client.messages.stream(messages=HELLO, system="Be brief.", **greedy()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert final.stop_reason == whole.stop_reason
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_a_matched_stop_sequence_is_reported(client: anthropic.Anthropic) -> None:
    reply = client.messages.create(messages=HELLO, stop_sequences=["l"], **greedy(64))
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "l")


def test_a_forced_tool_call_is_a_tool_use_block(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    choice: Any = {"type": "tool", "name": "get_weather"}
    reply = client.messages.create(
        messages=messages, tools=[WEATHER], tool_choice=choice, **greedy(80, generic_tools=True)
    )
    block = next(block for block in reply.content if block.type == "tool_use")
    assert (block.name, set(block.input)) == ("get_weather", {"city"})
    assert reply.stop_reason == "tool_use"
    with client.messages.stream(
        messages=messages, tools=[WEATHER], tool_choice=choice, **greedy(80, generic_tools=True)
    ) as stream:
        streamed = next(block for block in stream.get_final_message().content if block.type == "tool_use")
    assert streamed.input == block.input


def test_a_tool_result_goes_back_to_the_model(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
    ]
    assert client.messages.create(messages=messages, **greedy()).usage.output_tokens > 0


def test_an_output_schema_binds_the_answer(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    reply = client.messages.create(messages=HELLO, **greedy(40, output_config=form))
    assert isinstance(json.loads(reply.content[0].text)["age"], int)


def test_thinking_of_a_model_that_cannot_is_left_out(client: anthropic.Anthropic) -> None:
    reply = client.messages.create(messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024}, **greedy(6))
    assert reply.content[0].type == "text"


def test_tokens_are_counted_as_the_prompt_will_have_them(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens == 12


def test_errors_have_the_sdks_classes(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nope", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        client.messages.create(messages=HELLO, tools=[WEATHER], **greedy())
    block: Any = {"role": "user", "content": [{"type": "hologram"}]}
    with pytest.raises(anthropic.BadRequestError, match="unknown content block type"):
        client.messages.create(messages=[block], **greedy())


def test_a_thirty_turn_agent_loop_reads_only_what_is_new(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "Get the weather of one city after the other."}]
    city = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}}, "required": ["city"]}
    tools: Any = [{**WEATHER, "input_schema": city}]
    choice: Any = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    read = 0
    for turn in range(30):
        asked: Any = {"messages": messages, "tools": tools, "tool_choice": choice}
        counted = client.messages.count_tokens(model=MODEL, **asked, extra_body={"generic_tools": True}).input_tokens
        if turn % 2:
            with client.messages.stream(**asked, **greedy(60, generic_tools=True)) as stream:
                reply: Any = stream.get_final_message()
        else:
            reply = client.messages.create(**asked, **greedy(60, generic_tools=True))
            cached = reply.usage.cache_read_input_tokens
            # All of the prompt before, give or take the template's last line, comes from the cache.
            assert read - 8 <= cached < counted, (turn, cached, read, counted)
        read_in_all = reply.usage.input_tokens + (reply.usage.cache_read_input_tokens or 0)
        assert (reply.stop_reason, read_in_all) == ("tool_use", counted)
        assert 0 < reply.usage.output_tokens <= 60
        assert counted > read
        read = counted
        (call,) = reply.content
        result = {"type": "tool_result", "tool_use_id": call.id, "content": f"{turn} degrees"}
        content = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": [result]}]


def test_a_thirty_turn_chat_reads_only_what_is_new(client: anthropic.Anthropic) -> None:
    messages: list[Any] = []
    known = 0
    for turn in range(30):
        messages.append({"role": "user", "content": f"Step {turn}: the tool returned {turn * 7} items in {turn} ms."})
        reply: Any = client.messages.create(messages=messages, **greedy(4))
        cached = reply.usage.cache_read_input_tokens
        prompt_tokens = cached + reply.usage.input_tokens
        if turn:
            # All but the new turn's own tokens, give or take the template's last line, come from the cache.
            assert known - 8 <= cached < prompt_tokens, (turn, reply.usage, known)
        known = prompt_tokens + reply.usage.output_tokens
        messages.append({"role": "assistant", "content": reply.content[0].text})
