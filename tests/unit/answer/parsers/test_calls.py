"""Calls as each family writes them, at the edges: what the recorded cases do not have. Think is off, tools are given.

Each reading is what the real Ollama (fb307609) makes of the text, marks as pieces of their own, unless a test says that
we depart from it.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.answer.parsers.readings import TOOLS, parser_of, read

from corral.core import Tool

MORE_TOOLS = (
    *TOOLS,
    Tool("read", parameters={"properties": {"path": {"type": "string"}}}),
    Tool("odd", parameters={"properties": []}),
)
Calls = list[tuple[str, dict[str, Any]]]


def reading(name: str, text: str) -> Any:
    return read(parser_of(name, tools=MORE_TOOLS, think=False), [text])


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [
        ("qwen3", '<tool_call>{"Name": "now", "ARGUMENTS": null}</tool_call>', [("now", {})]),
        (
            "qwen3",
            '<tool_call>{"name": "now", "arguments": '
            '{"a": "\\ud83d\\ude42 \\ud800", "b": 1.50, "c": [{}]}}</tool_call>',
            [("now", {"a": "🙂 \ufffd", "b": 1.5, "c": [{}]})],
        ),
        ("qwen3-vl-instruct", '<tool_call>{"arguments": {"a": 1}}</tool_call>', [("", {"a": 1})]),
        (
            "qwen3-coder",
            "<tool_call><function=get_weather><parameter=city>\n\n a & <b>\n\n</parameter>"
            "<parameter=days>+3</parameter></function> tail</tool_call>",
            [("get_weather", {"city": "\n a & <b>\n", "days": 3})],
        ),
        (
            "qwen3-coder",
            '<tool_call>text <function name="calc"><parameter name="expr">1e3</parameter>'
            "<parameter=digits>x</parameter></function></tool_call>",
            [("calc", {"expr": 1000, "digits": "x"})],
        ),
        (
            "qwen3-coder",
            '<tool_call><function=save_note><parameter=tags>["a", 1]</parameter>'
            '<parameter=meta>{"a": null}</parameter><parameter=body>NULL</parameter></function></tool_call>',
            [("save_note", {"tags": ["a", 1], "meta": {"a": None}, "body": None})],
        ),
        (
            "qwen3-coder",
            "<tool_call><function=f><parameter=a>1<parameter=b>2</parameter>3</parameter></function></tool_call>",
            [("f", {"a": "13"})],
        ),
        (
            "glm-4.7",
            "<tool_call>get_weather city</arg_key><arg_value>Bonn</arg_value></tool_call>",
            [("get_weather", {"city": "Bonn"})],
        ),
        (
            "glm-4.7",
            "<tool_call>get_weather<arg_key>city<arg_value>Bonn<arg_key>days</arg_key>2</tool_call>",
            [("get_weather", {"city": "Bonn", "days": ""})],
        ),
        (
            "glm-4.7",
            "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Bonn</arg_value></tool",
            [("get_weather", {"city": "Bonn"})],
        ),
        ("laguna", '<tool_call><tool_call>read_file{"path": "a"}</tool_call>', [("read", {"path": "a"})]),
        (
            "laguna",
            "<user>read_file<arg_key>path</arg_key> <arg_value>x</arg_value></user>",
            [("read", {"path": "x"})],
        ),
        ("laguna", '{"name": "read_file", "arguments": {"path": "{"}}', [("read", {"path": "{"})]),
        (
            "deepseek3",
            '<｜tool▁calls▁begin｜>x<｜tool▁call▁begin｜> now <｜tool▁sep｜> {"a": 1} <｜tool▁call▁end｜>'
            "<｜tool▁calls▁end｜>",
            [("now", {"a": 1})],
        ),
        (
            "cogito",
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{"a": "```"}\n```'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            [("now", {"a": "```"})],
        ),
        (
            "cohere",
            '<|START_ACTION|>[{"tool_name": bad}, {"tool_name": "now", "parameters": {"a": "}{"}} '
            '{"Tool_Name": "calc"}, {"tool_name": "x", "parameters": 1}]<|END_ACTION|>',
            [("now", {"a": "}{"}), ("calc", {})],
        ),
        ("cohere", '<|START_ACTION|>[{"tool_name": "now"}', [("now", {})]),
        ("cohere", "<|START_ACTION|>[null]<|END_ACTION|>", [("", {})]),
        (
            "ministral",
            '[TOOL_CALLS]calc[ARGS]{"expr": "]}\\"\\\\", "digits": [{}]}',
            [("calc", {"expr": ']}"\\', "digits": [{}]})],
        ),
        ("lfm2", "<|tool_call_start|>f(a=1 b)<|tool_call_end|>", [("f", {"a": "1 b"})]),
        (
            "lfm2",
            "<|tool_call_start|>[f(a='x\"y', b = [1, {\"k\": (2)}], c={'k': \"it's\", 'n': None, 'q': 'a\"b'})"
            ", g(), ]<|tool_call_end|>",
            [
                ("f", {"a": 'x"y', "b": '[1, {"k": (2)}]', "c": {"k": "it's", "n": None, "q": 'a"b'}}),
                ("g", {}),
            ],
        ),
        (
            "olmo3",
            '<function_calls>f(a=[1, "x, y", {k: \'v\', "l": None}], b="a\\nb\\\\", c=1.50, d=nil, e=[], g={}, h=word)'
            "</function_calls>",
            [
                (
                    "f",
                    {
                        "a": [1, "x, y", {"k": "v", "l": None}],
                        "b": "a\nb\\",
                        "c": 1.5,
                        "d": None,
                        "e": [],
                        "g": {},
                        "h": "word",
                    },
                )
            ],
        ),
        (
            "functiongemma",
            "<start_function_call>call:f{a:[1,{b:<escape>x,}<escape>}],c:-2.5,d:false,e:word,g:{h:{i:1}},j:007}"
            "<end_function_call>",
            [("f", {"a": [1, {"b": "x,}"}], "c": -2.5, "d": False, "e": "word", "g": {"h": {"i": 1}}, "j": 7})],
        ),
        (
            "gemma4",
            '<|tool_call>call:save_note{title:<|"|>a "b" {c: d}<|"|>,"tags":[<|"|>x<|"|>],ünï_1:null}<tool_call|>',
            [("save_note", {"title": 'a "b" {c: d}', "tags": ["x"], "ünï_1": None})],
        ),
        ("gemma4", '<|tool_call>call:save_note{title:<|"|>open}<tool_call|>', [("save_note", {"title": "open"})]),
        (
            "gemma4",
            "<|tool_call>call:save_note{title: 'it\\'s'<|\"|>, body:'x'<tool_call|>",
            [("save_note", {"title": "it\\'s", "body": "x"})],
        ),
        ("gemma4", "<|tool_call>call:get_weather{city: Bonn, B}<tool_call|>", [("get_weather", {"city": " Bonn, B"})]),
        (
            "glimmer",
            ' to=get_weather<|message|><atem:function_calls><atem:invoke name="get_weather<|message|>'
            '<atem:parameter name="city">a</atem:parameter></atem:invoke></atem:function_calls><|eot|>',
            [("get_weather", {"city": "a"})],
        ),
    ],
)
def test_calls(name: str, text: str, calls: Calls) -> None:
    got = reading(name, text)
    assert (got.calls, got.failure, got.content) == (calls, "", "")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "qwen3",
            '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
            "failed to parse JSON: Value looks like object, but can't find closing '}' symbol",
        ),
        (
            "qwen3",
            "<tool_call>[]</tool_call>",
            "failed to parse JSON: json: cannot unmarshal array into Go value of type "
            'struct { Name string "json:\\"name\\""; Arguments api.ToolCallFunctionArguments "json:\\"arguments\\"" }',
        ),
        (
            "qwen3-vl-instruct",
            '<tool_call>{"name": 5}</tool_call>',
            "json: cannot unmarshal number into Go struct field ToolCallFunction.name of type string",
        ),
        (
            "qwen3-coder",
            "<tool_call></function></tool_call>",
            "XML syntax error on line 1: unexpected end element </function>",
        ),
        (
            "qwen3-coder",
            "<tool_call><parameter=a>1</parameter></tool_call>",
            "expected element type <function> but have <parameter>",
        ),
        (
            "qwen3-coder",
            '<tool_call><function=f></function name="x"></tool_call>',
            "XML syntax error on line 1: invalid characters between </function and >",
        ),
        (
            "qwen3-coder",
            "<tool_call><function=f>\n<parameter=a>\n1</tool_call>",
            "XML syntax error on line 3: unexpected EOF",
        ),
        (
            "glm-4.7",
            "<tool_call>f<arg_key>a</arg_key></tool_call>",
            "mismatched arg_key and arg_value counts: 1 keys, 0 values",
        ),
        ("glm-4.7", "<tool_call><arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", "empty function name"),
        (
            "glm-4.7",
            "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Bo",
            "incomplete GLM tool call: XML syntax error on line 1: element <arg_value> closed by </tool_call>",
        ),
        (
            "glm-4.7",
            "<tool_call>unknown<arg_key>city</arg_key><arg_value>Bonn</arg_value>",
            'incomplete GLM tool call: tool "unknown" is not declared',
        ),
        (
            "glm-4.7",
            "<tool_call>save_note<arg_key>title</arg_key><arg_value>x</arg_value>",
            'incomplete GLM tool call: required argument "body" is missing for tool "save_note"',
        ),
        (
            "glm-4.7",
            "<tool_call>now<arg_key> </arg_key><arg_value>x</arg_value>",
            "incomplete GLM tool call: empty argument name",
        ),
        ("glm-4.7", "<tool_call>", "incomplete GLM tool call: empty function name"),
        (
            "laguna",
            '<tool_call>now{"a": }</tool_call>',
            "failed to parse Laguna JSON tool call arguments: invalid character '}' looking for beginning of value",
        ),
        (
            "laguna",
            '<tool_call>{"name": "", "arguments": {}}</tool_call>',
            "empty Laguna tool call name",
        ),
        (
            "laguna",
            '{"name": 1, "arguments": {}}',
            "failed to parse Laguna JSON tool call: "
            "json: cannot unmarshal number into Go struct field .name of type string",
        ),
        (
            "ministral",
            "[TOOL_CALLS]now[ARGS][1]",
            "Value looks like object, but can't find closing '}' symbol",
        ),
        (
            "glimmer",
            ' to=get_weather<|message|><atem:function_calls><atem:invoke name="now"></atem:invoke>'
            "</atem:function_calls>",
            'Glimmer recipient "get_weather" does not match ATEM invoke "now"',
        ),
        (
            "glimmer",
            ' to=get_weather<|message|><atem:function_calls><atem:invoke name="get_weather">'
            '<atem:parameter name="city">a</atem:invoke></atem:function_calls>',
            'parse Glimmer call to get_weather: unterminated ATEM parameter "city"',
        ),
    ],
)
def test_calls_for_which_ollama_fails_are_content_and_a_failure_in_its_words(name: str, text: str, why: str) -> None:
    got = reading(name, text)
    assert (got.calls, got.failure) == ([], why)
    assert got.content == text.partition("<|message|>")[2] if name == "glimmer" else got.content == text
    assert got.notices == [("tool_call_unparsed", {"text": got.content, "reason": why})]


@pytest.mark.parametrize(
    ("name", "text", "lost"),
    [
        ("qwen3", 'a <tool_call>{"name": "now", "argu', '<tool_call>{"name": "now", "argu'),
        ("qwen3-coder", "a <tool_call><function=now>", "<tool_call><function=now>"),
        ("lfm2", "a <|tool_call_start|>[now(", "<|tool_call_start|>[now("),
        ("olmo3", "a <function_calls>now()</func", "<function_calls>now()</func"),
        ("functiongemma", "a <start_function_call>call:now{}", "<start_function_call>call:now{}"),
        ("ministral", "a [TOOL_CALLS]now[ARGS]{", "[TOOL_CALLS]now[ARGS]{"),
        ("deepseek3", "a <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now", "now"),
        ("gemma4", "a <|tool_call>now{}<tool_call|>", "<|tool_call>now{}<tool_call|>"),
        ("cohere", "a <|START_ACTION|>nothing", ""),
    ],
)
def test_calls_that_ollama_drops_are_told(name: str, text: str, lost: str) -> None:
    got = reading(name, text)
    if name == "cohere":  # the content ends with its own tag only
        assert (got.content, got.notices) == (text, [])
        return
    assert (got.content.rstrip(), got.calls, got.failure) == ("a", [], "")
    assert [code for code, _ in got.notices] == ["tool_call_unparsed"]
    assert got.notices[0][1]["text"] == lost


@pytest.mark.parametrize(
    ("name", "text", "content", "thinking"),
    [
        ("laguna", "<user>who</user> is it?", "<user>who</user> is it?", ""),
        ("laguna", "Use {x} or { y }, <user", "Use {x} or { y }, <user", ""),
        ("laguna", "a <think>no one reads this</think> b", "a  b", ""),
        ("deepseek3", "a <｜tool▁output▁begin｜> out <｜tool▁output▁end｜> b", "a  out  b", ""),
        ("cohere", "<|START_RESPONSE|>a<|END_RESPONSE|><|END_OF_TURN_TOKEN|>\n<|START_TEXT|>b", "ab", ""),
        ("gemma4", "<|tool_call>call:now{}<tool_call|>\n<tool_call|> <|tool_response>\nDone.", "Done.", ""),
        ("gemma4", "<|channel>thought\nhm<channel|>Yes.", "Yes.", ""),
        (
            "glimmer",
            " to=user<|message|>a <|start|>b <|start|>assistant to=self<|message|>hm<|eom|>"
            "<|start|>assistant<|message|>c",
            "a <|start|>b c",
            "",
        ),
        (
            "glimmer",
            ' to=user<|message|> <atem:function_calls><atem:invoke name="nope"></atem:invoke></atem:function_calls>'
            "<|eot|>",
            ' <atem:function_calls><atem:invoke name="nope"></atem:invoke></atem:function_calls>',
            "",
        ),
        ("glm-ocr", "\n<think>\nhm\n</think>\n\nText", "Text", "hm"),
        (
            "harmony",
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|constrain|>json<|message|>{}",
            "{}",
            "hm",
        ),
    ],
)
def test_text_that_is_no_call(name: str, text: str, content: str, thinking: str) -> None:
    got = reading(name, text)
    assert (got.content, got.thinking, got.failure) == (content, thinking, "")


def test_departures_what_ollama_would_damage_stays_whole() -> None:
    olmo = reading("olmo3", '<function_calls>get_weather(city="Köln")</function_calls>')
    assert olmo.calls == [("get_weather", {"city": "Köln"})]
    gemma = "<start_function_call>call:f{a:<escape>x\ny<escape>,b:2026-01-05,c:[]}<end_function_call>"
    assert reading("functiongemma", gemma).calls == [("f", {"a": "x\ny", "b": "2026-01-05", "c": []})]
    coder = "<tool_call><function=f><parameter=a><T=int>\r\n\x01</parameter></function></tool_call>"
    assert reading("qwen3-coder", coder).calls == [("f", {"a": "<T=int>\r\n\x01"})]


@pytest.mark.parametrize(
    ("pointer", "value"), [("#/$defs/point", {"x": 1}), ("#/nowhere", '{"x": 1}'), ("#/$defs/loop", '{"x": 1}')]
)
def test_departures_a_schema_named_by_reference_says_what_a_value_is(pointer: str, value: Any) -> None:
    definitions = {"point": {"type": "object"}, "loop": {"$ref": "#/$defs/loop"}}
    tool = Tool("go", parameters={"properties": {"to": {"$ref": pointer}}, "$defs": definitions})
    call = '<tool_call><function=go><parameter=to>\n{"x": 1}\n</parameter></function></tool_call>'
    assert read(parser_of("qwen3-coder", tools=[tool]), [call]).calls == [("go", {"to": value})]


def test_departures_a_call_that_cannot_be_read_hides_none_behind_it() -> None:
    bad, good = (
        "<｜tool▁call▁begin｜>now{}<｜tool▁call▁end｜>",
        "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
    )
    assert reading("deepseek3", f"<｜tool▁calls▁begin｜>{bad}{good}<｜tool▁calls▁end｜>").calls == [("now", {})]
    blocks = "<|tool_call_start|>no<|tool_call_end|>a<|tool_call_start|>now()<|tool_call_end|>"
    assert (reading("lfm2", blocks).calls, reading("lfm2", blocks).content) == ([("now", {})], "a")
    assert reading("olmo3", "<function_calls>no\nnow()</function_calls>").calls == [("now", {})]
    json = '<tool_call>no</tool_call><tool_call>{"name": "now"}</tool_call>'
    assert (reading("qwen3", json).calls, reading("qwen3", json).content) == (
        [("now", {})],
        "<tool_call>no</tool_call>",
    )


def test_departures_an_object_in_a_lagunas_content_that_is_plainly_no_call_is_content() -> None:
    got = reading("laguna", 'It is {"a": {"b": 1}} now')
    assert (got.content, got.calls, got.failure) == ('It is {"a": {"b": 1}} now', [], "")


def test_departures_a_glimmer_text_without_a_header_is_the_same_in_all_pieces() -> None:
    text = "x" * 300 + "<|eom|><|start|>assistant<|message|>and more<|eot|>"
    whole, characters = (read(parser_of("glimmer"), pieces) for pieces in ([text], text))
    assert whole == characters
    assert whole.content == "x" * 300 + "and more"


def test_departures_a_glimmer_text_without_a_header_streams() -> None:
    parser = parser_of("glimmer")
    assert parser.feed("word " * 60)[0].content == "word " * 60
    assert parser.feed("more<|eot|>")[0].content == "more"
