"""The official OpenAI Python SDK against a real server with real models."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="ollama", max_retries=0, timeout=120) as made:
        yield made


def greedy(n: int = 16, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "temperature": 0, "seed": 7, "max_tokens": n, **more}


def test_a_chat_answers_with_usage(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(messages=HELLO, **greedy())
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_says_the_same_as_the_whole_reply(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=HELLO, **greedy())
    chunks = list(
        client.chat.completions.create(messages=HELLO, stream=True, stream_options={"include_usage": True}, **greedy())
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_repeated_prompt_reports_its_cached_tokens(client: openai.OpenAI) -> None:
    for _ in range(2):
        reply = client.chat.completions.create(messages=HELLO, **greedy(2))
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details is not None
    assert (reply.usage.prompt_tokens_details.cached_tokens or 0) > 0


def test_several_choices_come_from_one_request_and_usage_sums_them(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=HELLO, n=3, temperature=1.0, seed=1, max_tokens=8, stop=["zzz"]
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 8


def test_stop_sequences_end_the_answer(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(messages=HELLO, stop=["l"], **greedy(64))
    assert "l" not in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"


def test_logprobs_of_chat_and_completions(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(messages=HELLO, logprobs=True, top_logprobs=3, **greedy(4))
    assert reply.choices[0].logprobs is not None
    tokens = reply.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == reply.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens)
    text = client.completions.create(prompt="The sky is", logprobs=2, **greedy(4)).choices[0]
    assert text.logprobs is not None
    assert text.logprobs.tokens is not None
    assert "".join(text.logprobs.tokens) == text.text
    assert text.logprobs.text_offset == [
        sum(map(len, text.logprobs.tokens[:i])) for i in range(len(text.logprobs.tokens))
    ]


def test_logit_bias_forbids_a_token(client: openai.OpenAI, server: ServerProcess) -> None:
    free = client.chat.completions.create(messages=HELLO, logprobs=True, **greedy(1))
    assert free.choices[0].logprobs is not None
    first = (free.choices[0].logprobs.content or [])[0].token
    (token,) = server.post("/api/tokenize", {"model": MODEL, "content": first})["tokens"]
    biased = client.chat.completions.create(messages=HELLO, logit_bias={str(token): -100}, logprobs=True, **greedy(1))
    assert biased.choices[0].message.content != free.choices[0].message.content


class Person(BaseModel):
    """What the answer is parsed into."""

    name: str
    age: int


def test_a_strict_schema_binds_the_answer(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Describe a person named Ann, 30 years old, as JSON."}]
    reply = client.chat.completions.parse(messages=messages, response_format=Person, **greedy(60))
    assert isinstance(reply.choices[0].message.parsed, Person)
    loose = client.chat.completions.create(messages=messages, response_format={"type": "json_object"}, **greedy(120))
    assert isinstance(json.loads(loose.choices[0].message.content or ""), dict)


def test_a_model_without_tools_refuses_them_as_ollama_does(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.chat.completions.create(messages=HELLO, tools=[WEATHER], **greedy())


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_tool_call_matches_its_schema(client: openai.OpenAI, choice: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    reply = client.chat.completions.create(
        messages=messages,
        tools=[WEATHER],
        tool_choice=choice,
        parallel_tool_calls=False,
        extra_body={"generic_tools": True},
        **greedy(80),
    )
    call = (reply.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in {"C", "F"}
    assert reply.choices[0].finish_reason == "tool_calls"


def test_a_tool_result_goes_back_to_the_model(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages: list[Any] = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees, sunny"},
    ]
    assert client.chat.completions.create(messages=messages, **greedy()).choices[0].message.content


def test_a_ten_turn_agent_loop_reads_only_what_is_new(client: openai.OpenAI) -> None:
    city = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}}, "required": ["city"]}
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": city}}]
    messages: list[Any] = [{"role": "user", "content": "Get the weather of one city after the other."}]
    read = 0
    for turn in range(10):
        asked: dict[str, Any] = {"messages": messages, "tools": tools, "tool_choice": "required", **greedy(60)}
        asked |= {"parallel_tool_calls": False, "extra_body": {"generic_tools": True}}
        if turn % 2:
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            usage = chunks[-1].usage
            call, *more = [call for chunk in chunks[:-1] for call in chunk.choices[0].delta.tool_calls or ()]
            assert more, "the arguments come in pieces"
            assert {piece.index for piece in more} == {call.index}
            call.function.arguments += "".join(piece.function.arguments for piece in more)
            reason = chunks[-2].choices[0].finish_reason
        else:
            reply = client.chat.completions.create(**asked)
            usage, reason = reply.usage, reply.choices[0].finish_reason
            (call,) = reply.choices[0].message.tool_calls
        assert reason == "tool_calls"
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert 0 < usage.completion_tokens <= 60
        # All of the prompt before, give or take the template's last line, comes from the cache.
        assert read - 8 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens, (turn, read, usage)
        assert usage.prompt_tokens > read
        read = usage.prompt_tokens
        function = {"name": call.function.name, "arguments": call.function.arguments}
        made = {"id": call.id, "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{turn} degrees"})


def test_completions_take_lists_and_token_arrays(client: openai.OpenAI, server: ServerProcess) -> None:
    reply = client.completions.create(prompt=["One, two,", "Red, green,"], n=2, **greedy(3))
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    tokens = server.post("/api/tokenize", {"model": MODEL, "content": "One, two,"})["tokens"]
    assert client.completions.create(prompt=tokens, **greedy(3)).choices[0].text
    echoed = client.completions.create(prompt="One, two,", echo=True, **greedy(3))
    assert echoed.choices[0].text.startswith("One, two,")


def test_embeddings_are_unit_vectors_whatever_the_encoding(client: openai.OpenAI) -> None:
    texts = ["Hello world", "Machine learning is fascinating"]
    packed = client.embeddings.create(model="all-minilm", input=texts)  # the SDK asks for base64
    plain = client.embeddings.create(model="all-minilm", input=texts, encoding_format="float")
    for a, b in zip(packed.data, plain.data, strict=True):
        assert len(a.embedding) == 384
        assert math.isclose(math.hypot(*a.embedding), 1.0, abs_tol=1e-4)
        assert a.embedding == pytest.approx(b.embedding, abs=1e-6)
    short = client.embeddings.create(model="all-minilm", input="Hello world", dimensions=64, encoding_format="float")
    assert len(short.data[0].embedding) == 64


def test_embeddings_of_token_arrays(client: openai.OpenAI, server: ServerProcess) -> None:
    tokens = server.post("/api/tokenize", {"model": "all-minilm", "content": "hello world"})["tokens"]
    by_text = client.embeddings.create(model="all-minilm", input="hello world", encoding_format="float")
    by_token = client.embeddings.create(model="all-minilm", input=[tokens], encoding_format="float")
    dot = sum(a * b for a, b in zip(by_text.data[0].embedding, by_token.data[0].embedding, strict=True))
    assert dot > 0.999


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} >= {"smollm2:135m", "all-minilm:latest"}
    assert client.models.retrieve("smollm2:135m").owned_by == "library"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_errors_have_the_sdks_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.chat.completions.create(model="nope", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="too short"):
        client.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.BadRequestError, match="top_logprobs must be between 0 and 20"):
        client.chat.completions.create(messages=HELLO, logprobs=True, top_logprobs=21, **greedy())


def test_responses_go_on_from_the_one_before(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model=MODEL, input="My name is Ada. Say hello.", max_output_tokens=12, temperature=0
    )
    assert first.output_text
    second = client.responses.create(
        model=MODEL, input="And again.", previous_response_id=first.id, max_output_tokens=6, temperature=0
    )
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert client.responses.retrieve(first.id).id == first.id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="x", previous_response_id=first.id)


def test_a_responses_stream_has_the_sdks_events_in_order(client: openai.OpenAI) -> None:
    stream = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=4, temperature=0, stream=True)
    kinds = [event.type for event in stream]
    deltas = kinds.count("response.output_text.delta")
    assert deltas >= 1
    assert [kind for kind in kinds if kind != "response.output_text.delta"] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]


def test_a_responses_schema_is_parsed(client: openai.OpenAI) -> None:
    reply = client.responses.parse(
        model=MODEL, input="Ann is 30. As JSON:", text_format=Person, temperature=0, max_output_tokens=60
    )
    assert isinstance(reply.output_parsed, Person)


def test_leaving_a_stream_frees_its_slot(client: openai.OpenAI, server: ServerProcess) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Count to one thousand."}], max_tokens=2000, stream=True
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 5
    while server.request("GET", "/api/requests")["requests"] and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert server.request("GET", "/api/requests")["requests"] == []
