"""OpenAI's messages, tools and items, decoded. Rules: spec compat-apis §4.2–4.5, §8.2–8.3."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.fakes.sounds import wav

from corral.core import Message, Tool, ToolCall, ToolChoice
from corral.errors import InvalidRequest
from corral.server.openai.completions import read_prompts, text_logprobs
from corral.server.openai.embeddings import read_inputs
from corral.server.openai.fields import read_count, read_logit_bias
from corral.server.openai.messages import (
    allowed_tools,
    read_effort,
    read_messages,
    read_stop,
    read_tool_choice,
    read_tools,
)
from corral.server.openai.responses.items import InputReader
from corral.server.openai.responses.tools import OfferedTools, joined_choice

PIXEL = base64.b64encode(b"not really a png").decode()


def messages(*items: Any) -> tuple[Message, ...]:
    return read_messages(items)


def read_input(items: Any, earlier: tuple[Message, ...] = ()) -> tuple[Message, ...]:
    return InputReader().read(items, earlier)


def error_of(call: Any, *args: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        call(*args)
    return str(caught.value)


def test_a_plain_turn_is_taken_as_it_is_and_developer_is_the_system() -> None:
    assert messages({"role": "developer", "content": "Be brief."}, {"role": "User", "content": "hi"}) == (
        Message("system", "Be brief."),
        Message("user", "hi"),
    )


def test_parts_of_one_message_stay_one_message() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "text", "text": "b"},
        {"type": "image_url", "image_url": f"data:;base64,{PIXEL}"},
    ]
    image = b"not really a png"
    assert messages({"role": "user", "content": parts}) == (
        Message("user", "ab", images=(image, image), places=(1, 2)),
    )
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages({"role": "user", "content": texts}) == (Message("user", "a\n\nb"),)


@pytest.mark.parametrize(
    "head",
    [
        "data:image/PNG;base64,",
        "DATA:image/png;BASE64,",
        "data:image/png;charset=utf-8;base64,",
        "data:image/jpg;name=a.jpg;base64,",
        "data:;base64,",
    ],
)
@pytest.mark.parametrize("form", ["padded", "bare", "url-safe", "lines", "escaped"])
def test_data_urls_are_read_however_clients_write_them(head: str, form: str) -> None:
    image = bytes(range(250, 256)) * 5 + b"!"
    text = base64.b64encode(image).decode()
    written = {
        "padded": text,
        "bare": text.rstrip("="),
        "url-safe": base64.urlsafe_b64encode(image).decode(),
        "lines": text[:9] + "\r\n " + text[9:],
        "escaped": text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    }[form]
    part = {"type": "image_url", "image_url": {"url": head + written}}
    assert messages({"role": "user", "content": [part]})[0].images == (image,)


def test_a_message_of_no_parts_is_no_turn() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    assert messages({"role": "user", "content": []}, {"role": "user", "content": "x"}) == (Message("user", "x"),)
    assert error_of(messages, {"role": "user", "content": []}) == "messages have no content"
    assert messages({"role": "user", "content": ""}) == (Message("user", ""),)
    assert messages({"role": "assistant", "content": [], "reasoning": "r"}) == (Message("assistant", "", "r"),)
    assert messages({"role": "assistant", "content": [], "tool_calls": [call]})[0].tool_calls[0].name == "f"
    assert messages({"role": "tool", "content": [], "tool_call_id": "c"}) == (Message("tool", "", tool_call_id="c"),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "invalid message content type: <nil>"),
        (5, "invalid message content type: float64"),
        (True, "invalid message content type: bool"),
        ({}, "invalid message content type: map[string]interface {}"),
        ([{"type": "text", "text": 5}], "invalid message format"),
        ([{"type": "nope"}], "invalid message format"),
        ([7], "invalid message format"),
        ([{"type": "image_url", "image_url": 5}], "invalid message format"),
        ([{"type": "image_url", "image_url": {"url": PIXEL}}], "invalid image input"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}], "invalid image input"),
        ([{"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PIXEL}"}}], "invalid image input"),
        ([{"type": "image_url", "image_url": {"url": f"data:text/plain;base64,{PIXEL}"}}], "invalid image input"),
        ([{"type": "image_url", "image_url": {"url": f"data:image/png,{PIXEL}"}}], "invalid image input"),
        (
            [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        ([{"type": "input_audio", "input_audio": {}}], "invalid input_audio format: missing data"),
        (
            [{"type": "input_audio", "input_audio": {"data": "@"}}],
            "invalid input_audio base64 data: illegal base64 data",
        ),
    ],
)
def test_content_that_cannot_be_read_has_ollamas_words(content: Any, why: str) -> None:
    assert error_of(messages, {"role": "user", "content": content}) == why


@pytest.mark.parametrize("data", ["", PIXEL, base64.b64encode(b"OggS\0\2").decode()])
def test_input_audio_that_is_no_sound_is_called_that(data: str) -> None:
    content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
    assert error_of(messages, {"role": "user", "content": content}) == "input_audio is no WAV, MP3 or FLAC sound"


def test_input_audio_is_a_sound_of_its_message() -> None:
    data = base64.b64encode(wav(0.1)).decode()
    content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}, {"type": "text", "text": "Hm?"}]
    assert messages({"role": "user", "content": content}) == (Message("user", "Hm?", images=(wav(0.1),), places=(0,)),)


def test_an_image_url_is_its_fetched_bytes_and_refused_where_none_were() -> None:
    item = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
    assert read_messages([item], {"https://x/y.png": b"seen"})[0].images == (b"seen",)
    assert error_of(messages, item) == (
        "image URLs are not currently supported, please use base64 encoded data instead"
    )


def test_a_tool_result_gets_its_tools_name_from_the_last_call_with_its_id() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": 2}'}}
    result = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "ok"}]}
    found = messages({"role": "assistant", "tool_calls": [call]}, result)
    assert found[0].tool_calls == (ToolCall("f", {"b": 1, "a": 2}, "c1", 0),)
    assert list(found[0].tool_calls[0].arguments) == ["b", "a"]
    assert found[1] == Message("tool", "ok", tool_name="f", tool_call_id="c1")


def test_of_two_calls_with_the_same_id_the_last_messages_first_one_names_the_result() -> None:
    def calling(*names: str) -> dict[str, Any]:
        calls = [{"id": "c1", "function": {"name": name, "arguments": "{}"}} for name in names]
        return {"role": "assistant", "tool_calls": calls}

    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    assert messages(calling("f"), calling("g", "h"), result)[-1].tool_name == "g"


@pytest.mark.parametrize("field", ["role", "name", "reasoning", "reasoning_content", "tool_call_id"])
def test_a_field_that_is_no_text_is_refused_by_name_and_null_is_as_if_absent(field: str) -> None:
    turn = {"role": "user", "content": "x"}
    why = f'json: field "messages[0].{field}" must be of type string, not '
    assert error_of(messages, {**turn, field: 5}) == why + "number"
    assert error_of(messages, {**turn, field: {}}) == why + "object"
    assert messages({**turn, field: None}) == (Message("" if field == "role" else "user", "x"),)


def test_calls_that_are_no_list_of_functions_are_refused() -> None:
    turn = {"role": "assistant", "content": "x"}
    why = 'json: field "messages[0].tool_calls" must be of type array, not number'
    assert error_of(messages, {**turn, "tool_calls": 5}) == why
    assert error_of(messages, {**turn, "tool_calls": ["f"]}) == "invalid message format"
    assert messages({**turn, "tool_calls": None}) == (Message("assistant", "x"),)


def calling(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", **arguments}}]}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({}, {}),
        ({"arguments": ""}, {}),
        ({"arguments": None}, {}),
        ({"arguments": {"a": 1}}, {"a": 1}),
        ({"arguments": '"{\\"a\\": 1}"'}, {"a": 1}),
    ],
)
def test_arguments_that_say_nothing_or_are_objects_are_read(sent: Any, read: dict[str, Any]) -> None:
    assert messages(calling(sent))[0].tool_calls[0].arguments == read


@pytest.mark.parametrize("text", ['{"a": "b', "{", "[]", "x"])
def test_broken_arguments_do_not_end_a_session(text: str) -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    call = messages(calling({"arguments": text}), result)[0].tool_calls[0]
    assert call.arguments == {"unreadable_arguments": text}


@pytest.mark.parametrize("text", ["{", "[]", "x"])
def test_arguments_that_are_none_are_refused_in_the_last_message(text: str) -> None:
    assert error_of(messages, calling({"arguments": text})) == "invalid tool call arguments"


def test_assistant_turns_without_content_are_turns() -> None:
    assert messages({"role": "assistant", "content": None, "reasoning": "r"}) == (Message("assistant", "", "r"),)
    assert messages({"role": "assistant", "content": None}) == (Message("assistant"),)
    assert messages({"role": "assistant", "content": None, "refusal": "no"}) == (Message("assistant", "no"),)
    refusal = [{"type": "refusal", "refusal": "no"}]
    assert messages({"role": "assistant", "content": refusal}) == (Message("assistant", "no"),)
    assert messages({"role": "tool", "content": None, "tool_call_id": "c"}) == (Message("tool", tool_call_id="c"),)


def test_functions_of_the_older_form_are_calls_and_results() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    assert messages(call, {"role": "function", "name": "f", "content": "ok"}) == (
        Message("assistant", tool_calls=(ToolCall("f", {"a": 1}),)),
        Message("tool", "ok", tool_name="f"),
    )


def test_arguments_that_broke_off_are_kept_as_their_text() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": '{"path": "a", "text": "ab'}}
    (message,) = messages({"role": "assistant", "tool_calls": [call]})
    assert message.tool_calls[0].arguments == {"unreadable_arguments": '{"path": "a", "text": "ab'}


TOOLS = read_tools([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": 1}}}])


def test_tools_keep_their_whole_schema() -> None:
    assert (Tool("f", "", {"type": "object", "x": 1}),) == TOOLS
    assert "tools[0]" in error_of(read_tools, [{"type": "function"}])


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
        ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
    ],
)
def test_tool_choices(value: Any, choice: ToolChoice) -> None:
    assert read_tool_choice(value, TOOLS) == choice


def test_a_tool_choice_must_name_a_tool_of_the_request() -> None:
    assert '"g"' in error_of(read_tool_choice, {"function": {"name": "g"}}, TOOLS)
    assert "tool_choice must be" in error_of(read_tool_choice, "sometimes", TOOLS)


@pytest.mark.parametrize("nested", [True, False])
def test_allowed_tools_are_all_there_are(nested: bool) -> None:
    tools = read_tools([{"type": "function", "function": {"name": name}} for name in "fgh"])
    listed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "h"}}, {"name": "f"}]}
    value = {"type": "allowed_tools", **({"allowed_tools": listed} if nested else listed)}
    choice, left = allowed_tools(value, tools)
    assert (choice, [tool.name for tool in left]) == ("required", ["h", "f"])
    assert allowed_tools("auto", tools) == ("auto", tools)
    unknown = {"type": "allowed_tools", "tools": [{"name": "x"}]}
    assert error_of(allowed_tools, unknown, tools) == 'tool_choice allows "x", which is not among the tools'
    assert "must list its tools" in error_of(allowed_tools, {"type": "allowed_tools"}, tools)


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        (None, None),
        ("", None),
        ("none", False),
        ("minimal", "low"),
        ("high", "high"),
        ("xhigh", "max"),
        ("ultra", "max"),
    ],
)
def test_reasoning_efforts(effort: str | None, think: Any) -> None:
    assert read_effort(effort) == think


def test_an_unknown_effort_lists_the_known_ones() -> None:
    assert error_of(read_effort, "loud").startswith('invalid reasoning value: "loud" (must be "minimal", ')


def test_stops_counts_biases_and_prompts() -> None:
    assert read_stop("x") == ["x"]
    assert read_stop(["x", 5]) == ["x"]
    assert read_stop(5) is None
    assert read_count(None) == 1
    assert "between 1 and 16" in error_of(read_count, 17)
    assert read_logit_bias({"5": -100.0}) == {5: -100.0}
    assert "token id" in error_of(read_logit_bias, {"word": 1.0})
    assert read_prompts(None) == [""]
    assert read_prompts(["a", "b"]) == ["a", "b"]
    assert read_prompts([1, 2]) == [[1, 2]]
    assert read_prompts([[1], [2, 3]]) == [[1], [2, 3]]
    assert "prompt must be" in error_of(read_prompts, [])


@pytest.mark.parametrize(
    ("value", "want"),
    [("a", ("a",)), ("", ("",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2]], ((1,), (2,)))],
)
def test_embedding_inputs(value: Any, want: Any) -> None:
    assert read_inputs(value) == want


@pytest.mark.parametrize(("value", "why"), [(None, "invalid input"), ([], "invalid input"), ({}, "invalid input type")])
def test_embedding_inputs_that_are_none(value: Any, why: str) -> None:
    assert error_of(read_inputs, value) == why


def test_legacy_logprobs_are_four_parallel_lists() -> None:
    from corral.core import TokenLogprob, TokenProb

    found = text_logprobs([TokenLogprob("He", -0.5, top=(TokenProb("He", -0.5),)), TokenLogprob("y", -1.0)], 3)
    assert (found.tokens, found.text_offset, found.top_logprobs) == (["He", "y"], [3, 5], [{"He": -0.5}, {}])


def test_thinking_waits_for_the_next_assistant_item() -> None:
    items = [
        {"type": "reasoning", "encrypted_content": "hmm"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"role": "assistant", "content": "one moment"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ]
    assert read_input(items) == (
        Message("assistant", "one moment", "hmm", tool_calls=(ToolCall("f", {}, "c", 0),)),
        Message("tool", "42", tool_name="f", tool_call_id="c"),
    )
    assert read_input([{"type": "reasoning", "encrypted_content": "x"}]) == (Message("assistant", thinking="x"),)


def test_thinking_is_what_was_sent_else_the_content_else_the_summary_and_items_in_a_row_are_one() -> None:
    summary = [{"type": "summary_text", "text": "s"}]
    content = [{"type": "reasoning_text", "text": "c"}]
    items = [
        {"type": "reasoning", "encrypted_content": "e", "content": content, "summary": summary},
        {"type": "reasoning", "content": content, "summary": summary},
        {"type": "reasoning", "summary": summary},
        {"role": "assistant", "content": "hi"},
    ]
    assert read_input(items) == (Message("assistant", "hi", "e\nc\ns"),)


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([{"type": "nope"}], 'input[0]: unknown input item type: "nope"'),
        ([{}], "input[0]: input item missing required 'type' field"),
        ([{"role": "user", "content": [{"type": "x"}]}], "input[0]: content[0]: unknown content type: x"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "file inputs are not currently supported"),
        ([{"role": "user", "content": [{}]}], "input[0]: content[0]: unknown content type: "),
        ([{"role": 5, "content": "x"}], 'json: field "input[0].role" must be of type string, not number'),
        (
            [{"type": "reasoning", "content": 5}],
            'json: field "input[0].content" must be of type array, not number',
        ),
        (5, "input must be a string or array: got a number"),
    ],
)
def test_items_that_cannot_be_read_are_named(items: Any, why: str) -> None:
    assert error_of(read_input, items) == why


def test_null_texts_of_items_are_empty() -> None:
    parts = [{"type": "input_text", "text": None}, {"type": "input_text", "text": "x"}]
    assert read_input([{"role": "user", "content": parts}]) == (Message("user", "x"),)
    assert read_input([{"type": "message", "role": None, "content": "x"}]) == (Message("", "x"),)
    call = {"type": "function_call", "call_id": None, "name": None, "arguments": None}
    assert read_input([call]) == (Message("assistant", tool_calls=(ToolCall("", {}, "", 0),)),)


def test_a_tool_result_gets_its_tools_name_from_an_earlier_response() -> None:
    earlier = (Message("user", "?"), Message("assistant", tool_calls=(ToolCall("f", {}, "c", 0),)))
    found = read_input([{"type": "function_call_output", "call_id": "c", "output": "42"}], earlier)
    assert found == (*earlier, Message("tool", "42", tool_name="f", tool_call_id="c"))


def offered(*items: Any) -> OfferedTools:
    tools = OfferedTools()
    tools.add(items)
    return tools


def test_a_namespace_of_no_tools_is_refused() -> None:
    assert error_of(offered, {"type": "namespace", "name": "n", "tools": [5]}) == "tools[0]: expected an object"


def test_namespaces_are_unfolded_and_their_names_found_again() -> None:
    inner = [{"type": "function", "name": "f"}, {"type": "function", "name": "n.g"}]
    tools = offered({"type": "namespace", "name": "n", "tools": inner}, {"type": "function", "name": "f"})
    assert [tool.name for tool in tools.tools] == ["n.f", "n.g", "f"]
    assert [tools.parts_of(name) for name in ("n.f", "n.g", "f", "?")] == [
        ("n", "f"),
        ("n", "n.g"),
        ("", "f"),
        ("", "?"),
    ]
    call = {"type": "function_call", "call_id": "c", "name": "f", "namespace": "n", "arguments": "{}"}
    assert read_input([call])[0].tool_calls[0].name == "n.f"
    named = {"type": "function", "name": "f", "namespace": "n"}
    assert read_tool_choice(joined_choice(named), tools.tools) == ToolChoice("named", "n.f")
    some = {"type": "allowed_tools", "mode": "auto", "tools": [named]}
    assert [tool.name for tool in allowed_tools(joined_choice(some), tools.tools)[1]] == ["n.f"]


def test_built_in_tools_are_reported_but_for_the_one_that_agents_always_offer() -> None:
    function, search, custom = (
        {"type": "function", "name": "f"},
        {"type": "web_search"},
        {"type": "custom", "name": "c"},
    )
    assert [notice.facts["tool"] for notice in offered(function, search, custom).notices()] == ["custom"]
    assert [notice.facts["tool"] for notice in offered(search).notices()] == ["web_search"]


SHELL = {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}, "status": "x"}


@pytest.mark.parametrize(
    ("items", "call", "result"),
    [
        (
            [
                {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "Done!"},
            ],
            ToolCall("apply_patch", {"input": "*** Begin"}, "c"),
            "Done!",
        ),
        (
            [SHELL, {"type": "local_shell_call_output", "call_id": "c", "output": "a\nb"}],
            ToolCall("local_shell", {"type": "exec", "command": ["ls"]}, "c"),
            "a\nb",
        ),
        (
            [
                {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
                {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "a", "stderr": ""}]},
            ],
            ToolCall("shell", {"commands": ["ls"]}, "c"),
            '[{"stdout":"a","stderr":""}]',
        ),
        (
            [{"type": "mcp_call", "id": "c", "name": "look", "arguments": '{"a": 1}', "output": "seen"}],
            ToolCall("look", {"a": 1}, "c"),
            "seen",
        ),
        (
            [{"type": "code_interpreter_call", "id": "c", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}],
            ToolCall("code_interpreter", {"code": "1+1"}, "c"),
            '[{"type":"logs","logs":"2"}]',
        ),
        (
            [
                {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "x"}},
                {"type": "apply_patch_call_output", "call_id": "c", "status": "completed"},
            ],
            ToolCall("apply_patch", {"type": "delete_file", "path": "x"}, "c"),
            "completed",
        ),
    ],
)
def test_calls_of_built_in_tools_are_calls_with_results(items: Any, call: ToolCall, result: str) -> None:
    assert read_input(items) == (
        Message("assistant", tool_calls=(call,)),
        Message("tool", result, tool_name=call.name, tool_call_id="c"),
    )


def test_items_that_are_no_turns_are_passed_and_those_that_only_openai_reads_are_told() -> None:
    reader = InputReader()
    quiet = [{"type": "mcp_list_tools", "tools": []}, {"type": "web_search_call", "id": "w"}]
    lost = [{"type": "compaction", "encrypted_content": "gAAA"}, {"type": "image_generation_call", "result": "iVBO"}]
    assert reader.read([*quiet, *lost, {"role": "user", "content": "x"}]) == (Message("user", "x"),)
    assert [(notice.code, notice.facts["item"]) for notice in reader.notices] == [
        ("item_ignored", "compaction"),
        ("item_ignored", "image_generation_call"),
    ]


def test_tools_that_come_as_items_are_offered() -> None:
    reader = InputReader()
    reader.read([{"type": "additional_tools", "tools": [{"type": "function", "name": "f"}]}])
    assert [tool.name for tool in offered(*reader.tools).tools] == ["f"]


def test_parts_of_items_keep_their_order_and_images_need_their_bytes() -> None:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
    parts = [{"type": "input_text", "text": "A:"}, image, {"type": "input_text", "text": "B"}]
    (message,) = read_input([{"role": "user", "content": parts}])
    assert (message.content, message.images, message.places) == ("A:B", (b"not really a png",), (2,))
    by_id = [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]
    assert "file_id" in error_of(read_input, by_id)
    shot = {"type": "computer_screenshot", "image_url": image["image_url"]}
    (result,) = read_input([{"type": "computer_call_output", "call_id": "c", "output": shot}])
    assert (result.role, result.images) == ("tool", (b"not really a png",))
