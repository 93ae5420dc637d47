"""Rendering with Go templates: what a real Ollama rendered (golden), and the vectors of spec models §5.8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corral.core import Message, Tool, ToolCall
from corral.errors import TemplateError
from corral.gotemplate import parse
from corral.prompt.gorender import (
    DEFAULT_TEMPLATE,
    collate,
    render_messages,
    render_suffix,
    schema_notices,
    strip_old_thinking,
    tag_images,
    think_level,
    thinks,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "templates.json").read_text())
LEGACY = "{{ if .System }}S:{{ .System }} {{ end }}{{ if .Prompt }}U:{{ .Prompt }} {{ end }}A:{{ .Response }}|"
WEATHER = Tool(
    "get_weather",
    "Current weather",
    {
        "type": "object",
        "required": ["city"],
        "properties": {
            "unit": {"type": "string", "enum": ["c", "f"], "minLength": 1},
            "city": {"type": ["string", "null"], "description": "which"},
        },
        "additionalProperties": False,
    },
)


def wire_message(data: dict[str, Any]) -> Message:
    calls = [call["function"] for call in data.get("tool_calls", [])]
    return Message(
        data["role"],
        data["content"],
        data.get("thinking", ""),
        tool_calls=tuple(ToolCall(call["name"], call["arguments"]) for call in calls),
        tool_name=data.get("tool_name", ""),
    )


def wire_tool(data: dict[str, Any]) -> Tool:
    function = data["function"]
    return Tool(function["name"], function.get("description", ""), function.get("parameters", {}))


def render_case(case: dict[str, Any]) -> str:
    template = parse(case["template"])
    if "suffix" in case:
        return render_suffix(template, case["prompt"], case["suffix"])
    if "messages" in case:
        messages = [wire_message(message) for message in case["messages"]]
    else:
        system = [Message("system", case["system"])] if "system" in case else []
        messages = [*system, Message("user", case["prompt"])]
    thinking = case.get("think", True if ".Thinking" in case["template"] else None)
    return render_messages(template, messages, [wire_tool(tool) for tool in case.get("tools", [])], think=thinking)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_renders_as_a_real_ollama_did(case: dict[str, Any]) -> None:
    if case["rendered"] is None:
        with pytest.raises(TemplateError, match=case["error"].rpartition(": ")[2].replace("*", r"\*")):
            render_case(case)
    else:
        assert render_case(case) == case["rendered"]


def turns(*pairs: str) -> list[Message]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [Message(roles[pair[0]], pair[1:]) for pair in pairs]


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (LEGACY, turns("ss", "u1", "ax", "u2"), "S:s U:1 A:x|U:2 A:"),
        (LEGACY, turns("u1", "apar"), "U:1 A:par"),
        ("<{{ .Prompt }}>", turns("u1", "ax", "u2"), "<1>x<2>"),
        ("{{ if .Suffix }}P{{ .Suffix }}{{ else }}{{ .Prompt }}{{ end }}", turns("ua"), "a"),
        (
            "{{ .System }}|{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}",
            turns("sa", "sb", "ux", "uy"),
            "a\n\nb|[system:a\n\nb][user:x\n\ny]",
        ),
        ("{{ range .Messages }}{{ end }}{{ .Nope }}", turns("ux"), "<no value>"),
        (
            "{{ if .Prompt }}{{ .Prompt }}:{{ .Response }}!{{ else }}-{{ .Response }}{{ end }}end",
            turns("ua", "ab"),
            "a:b",
        ),
        ("{{ .Prompt }}{{ if .Response }}={{ .Response }}{{ end }}.", turns("ua", "ab", "uc"), "a=b.c"),
        ("{{ .Prompt }}{{ $.Response }}.{{ .Response }}x", turns("ua"), "a."),
        ("{{ json .Prompt }}{{ .Response }}x", turns("ua"), '"a"'),
    ],
)
def test_small_vectors(template: str, messages: list[Message], expected: str) -> None:
    assert render_messages(parse(template), messages) == expected


def test_suffix_mode_knows_prompt_and_suffix_only() -> None:
    template = parse("{{ if .Suffix }}P{{ .Prompt }}S{{ .Suffix }}M{{ else }}{{ .Prompt }}{{ end }}")
    assert render_suffix(template, "a", "b") == "PaSbM"


def test_a_model_without_a_template_sees_the_prompt_alone() -> None:
    assert render_messages(DEFAULT_TEMPLATE, turns("ss", "ua")) == "a"


def test_arguments_and_properties_print_as_json_with_sorted_keys() -> None:
    template = parse("{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}")
    call = ToolCall("f", {"unit": "c", "city": "T"})
    assert render_messages(template, [Message("assistant", tool_calls=(call,))]) == '{"city":"T","unit":"c"}'


TOOL_JSON = (
    '{"type":"function","function":{"name":"get_weather","description":"Current weather","parameters":{"type":"object",'
    '"required":["city"],"properties":{"city":{"type":["string","null"],"description":"which"},'
    '"unit":{"type":"string","enum":["c","f"]}}}}}'
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{{ .Tools }}", f"[{TOOL_JSON}]"),
        ("{{ range .Tools }}{{ . }}{{ end }}", TOOL_JSON),
        ("{{ range .Tools }}{{ json .Function.Parameters.Required }}{{ end }}", '["city"]'),
        ("{{ range .Tools }}{{ .Function }}{{ end }}", TOOL_JSON.removeprefix('{"type":"function","function":')[:-1]),
        (
            "{{ range .Tools }}{{ range $n, $p := .Function.Parameters.Properties }}"
            "{{ $n }}:{{ toTypeScriptType $p }}:{{ .Type }};{{ end }}{{ end }}",
            "city:string | null:[string null];unit:string:string;",
        ),
    ],
)
def test_tools_print_as_ollama_prints_them(body: str, expected: str) -> None:
    assert render_messages(parse("{{ range .Messages }}{{ end }}" + body), turns("ux"), [WEATHER]) == expected


CALL = ToolCall("f", {"n": 1000000, "big": 2**60, "city": "Paris", "l": [1, None, {"z": True}]}, "c1", 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{{ . }}", '{c1 {1 f {"big":1152921504606846976,"city":"Paris","l":[1,null,{"z":true}],"n":1000000}}}'),
        (
            "{{ json . }}",
            '{"ID":"c1","Function":{"Index":1,"Name":"f",'
            '"Arguments":{"big":1152921504606846976,"city":"Paris","l":[1,null,{"z":true}],"n":1000000}}}',
        ),
        ("{{ range $k, $v := .Function.Arguments }}{{ $k }}={{ $v }};{{ end }}", None),
        ("{{ printf `%T %d` .Function.Arguments.n .Function.Arguments.n }}", "float64 %!d(float64=1e+06)"),
    ],
)
def test_tool_calls_print_as_go_prints_them(body: str, expected: str | None) -> None:
    """Source: Ollama's template package, run on these; it has 1.152921504606847e+18 for the large number."""
    template = parse("{{ range .Messages }}{{ range .ToolCalls }}" + body + "{{ end }}{{ end }}")
    pairs = "big=1152921504606846976;city=Paris;l=[1 <nil> map[z:true]];n=1e+06;"
    assert render_messages(template, [Message("assistant", tool_calls=(CALL,))]) == (expected or pairs)


def test_what_is_not_there_is_a_nil_list() -> None:
    template = parse("{{ range .Messages }}{{ .Images }}{{ len .ToolCalls }}{{ json . }}{{ end }}|{{ .Tools }}")
    assert render_messages(template, [Message("user", "x")]) == (
        '[]0{"Role":"user","Content":"x","Thinking":"","Images":null,"ToolCalls":null,"ToolName":"","ToolCallID":""}|null'
    )


def test_what_a_template_cannot_show_of_a_tool_is_named() -> None:
    lost = {"properties": {"a": {"$ref": "#/$defs/x"}, "b": {"anyOf": [{"type": "null"}, {"oneOf": [{}]}]}}, "not": {}}
    nested = {"properties": {"a": {"type": "object", "properties": {"b": {"const": 3}}}}}
    (notice,) = schema_notices([Tool("one", parameters=lost), Tool("plain"), Tool("two", parameters=nested)])
    assert notice.facts == {"dropped": {"one": ["$ref", "not", "oneOf"], "two": ["const"]}}


def test_what_only_limits_a_value_is_left_out_without_a_word() -> None:
    """As clients' libraries put such limits on every tool."""
    number = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "exclusiveMinimum": 0, "default": 1}
    text = {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a", "format": "uri"}
    items = {"type": "array", "items": {"oneOf": [{}]}, "maxItems": 3}  # the items are shown whole
    schema = {"properties": {"n": number, "t": text, "i": items}, "title": "x", "additionalProperties": False}
    assert schema_notices([WEATHER, Tool("plain", parameters=schema)]) == []


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, "false||false"),
        (False, "false||true"),
        (True, "true|medium|true"),
        ("high", "true|high|true"),
        (0, "false||true"),
        (200, "true|medium|true"),
    ],
)
def test_think_fields(think: Any, expected: str) -> None:
    template = parse("{{ range .Messages }}{{ end }}{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}")
    assert render_messages(template, turns("ux"), think=think) == expected
    assert thinks(think) == expected.startswith("true")
    assert think_level(think) == expected.split("|")[1]


def test_images_take_their_placeholders_or_stand_in_front() -> None:
    messages = [
        Message("user", "see [img] and", images=(b"a", b"b")),
        Message("user", "plain"),
        Message("user", "third", images=(b"c",)),
    ]
    tagged = tag_images(messages)
    assert [message.content for message in tagged.messages] == ["[img-1]see [img-0] and", "plain", "[img-2]third"]
    assert tagged.images == (b"a", b"b", b"c")
    system, merged = collate(tagged.messages)
    assert (system, merged[0].content) == ("", "[img-1]see [img-0] and\n\nplain\n\n[img-2]third")


def test_tool_messages_never_merge() -> None:
    _, merged = collate([Message("tool", "1"), Message("tool", "2"), Message("user", "a"), Message("user", "b")])
    assert [message.content for message in merged] == ["1", "2", "a\n\nb"]


def test_old_thinking_is_removed_before_the_last_question_only() -> None:
    messages = turns("u1", "a<think>x</think>\n\ny", "u2", "a<think>z</think>w")
    assert [message.content for message in strip_old_thinking(messages)] == ["1", "y", "2", "<think>z</think>w"]


def test_merged_turns_keep_the_calls_thoughts_and_images_of_all() -> None:
    one = Message("assistant", "a", "t", (b"1",), (ToolCall("f", {}, "c1"),))
    two = Message("assistant", "b", "u", (b"2",), (ToolCall("g", {}, "c2"),))
    _, (merged,) = collate([one, two])
    assert (merged.content, merged.thinking, merged.images) == ("a\n\nb", "t\n\nu", (b"1", b"2"))
    assert [(call.name, call.index) for call in merged.tool_calls] == [("f", 0), ("g", 1)]
