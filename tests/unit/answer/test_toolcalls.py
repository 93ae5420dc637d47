"""Tool calls in text: vectors of spec native §11.6, Ollama's own cases, and ours where Ollama loses something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.answer.toolcalls import ToolCallParser, find_tag, new_call_id, takes_bare_calls
from corral.core import Tool
from corral.gotemplate import parse

NAMES = ("get_temperature", "get_conditions", "say_hello", "say_hello_world", "get_address", "add")
TOOLS = tuple(Tool(name) for name in NAMES)
TEMPERATURE = '{"name": "get_temperature", "arguments": {"city": "London", "format": "fahrenheit"}}'
CONDITIONS = '{"name": "get_conditions", "arguments": {"location": "Tokyo"}}'
CALLED_TEMPERATURE: tuple[str, dict[str, object]] = ("get_temperature", {"city": "London", "format": "fahrenheit"})
CALLED_CONDITIONS: tuple[str, dict[str, object]] = ("get_conditions", {"location": "Tokyo"})
Calls = list[tuple[str, dict[str, object]]]


def run(tag: str, *pieces: str, finish: bool = True) -> tuple[str, Calls, ToolCallParser]:
    parser = ToolCallParser(tag, TOOLS)
    outputs = [parser.feed(piece) for piece in pieces]
    if finish:
        outputs.append(parser.finish())
    calls = [call for found, _ in outputs for call in found]
    assert [call.index for call in calls] == list(range(len(calls)))
    return "".join(text for _, text in outputs), [(call.name, call.arguments) for call in calls], parser


TC, DEEPSEEK = "<tool_call>", "<|tool▁calls▁begin|>"
CASES: dict[str, tuple[str, list[str], str, Calls]] = {
    "text only": (TC, ["Hello, how can I help you today?"], "Hello, how can I help you today?", []),
    "nothing": (TC, [""], "", []),
    "text before": (TC, [f"Let me check. {TC}{CONDITIONS}</tool_call>"], "Let me check. ", [CALLED_CONDITIONS]),
    "name in prose": (TC, ["I'll use the say_hello tool. "], "I'll use the say_hello tool. ", []),
    "two blocks": (
        TC,
        [f"Both! {TC}{TEMPERATURE}</tool_call>{TC}{CONDITIONS}</tool_call>"],
        "Both! ",
        [CALLED_TEMPERATURE, CALLED_CONDITIONS],
    ),
    "list behind a tag": (
        "[TOOL_CALLS]",
        [f"[TOOL_CALLS] [{TEMPERATURE}, {CONDITIONS}][/TOOL_CALLS]"],
        "",
        [CALLED_TEMPERATURE, CALLED_CONDITIONS],
    ),
    "empty arguments": (
        TC,
        ['<tool_call>{"name": "say_hello", "arguments": {}}</tool_call>', f"{TC}{CONDITIONS}</tool_call>"],
        "",
        [("say_hello", {}), CALLED_CONDITIONS],
    ),
    "name before the object": (
        DEEPSEEK,
        [
            "<think>Wait</think><|too",
            "l▁calls▁begin",
            "|>",
            "<|tool▁call▁begin|>function<|tool▁sep|>get_temperature\n```json\n",
            '{"city": "Tokyo"}\n```<|tool▁c',
            "all▁end|><|tool▁calls▁end|><|end▁of▁sentence|>",
        ],
        "<think>Wait</think>",
        [("get_temperature", {"city": "Tokyo"})],
    ),
    "bare object": (
        "{",
        ["{", '"name": "get_temperature",', '"arguments": {"city": "Tok', 'yo"}', "}"],
        "",
        [("get_temperature", {"city": "Tokyo"})],
    ),
    "bare, unknown tool": ("{", ['{"name": "search", ', '"arguments": {}}'], '{"name": "search", "arguments": {}}', []),
    "bare, another object first": ("{", ['{"name": "jeff"} {', CONDITIONS[1:]], '{"name": "jeff"} ' + CONDITIONS, []),
    "bare, text first": ("{", ['for { fmt.Println("hello") }'], 'for { fmt.Println("hello") }', []),
    "bare list": ("[", ["[", TEMPERATURE, ",", CONDITIONS, "]"], "", [CALLED_TEMPERATURE, CALLED_CONDITIONS]),
    "bare list, unclosed": ("[", ["[" + CONDITIONS], "", [CALLED_CONDITIONS]),
    "bare list, closed twice": ("[", ["[" + CONDITIONS + "]]"], "", [CALLED_CONDITIONS]),
    "bare list, words": ("[", ["[special", " del", "ivery]"], "[special delivery]", []),
    "longer name": (TC, [TC, '{"name": "say_hello', '_world", "arguments": {}}', "}"], "", [("say_hello_world", {})]),
    "arguments first": (
        TC,
        ['<tool_call>{"arguments": {"a": "5", "b": "10"}, "name": "add"}</tool_call>'],
        "",
        [("add", {"a": "5", "b": "10"})],
    ),
    "parameters": ("{", ['{"name": "add", "parameters": {"a": 1}}'], "", [("add", {"a": 1})]),
    "arguments as text": ("{", ['{"name": "add", "arguments": "{\\"a\\": 1}"}'], "", [("add", {"a": 1})]),
    "wrapped": (
        TC,
        [TC + '{"tool_calls": [{"type": "function", "function": ' + CONDITIONS + "}]}"],
        "",
        [CALLED_CONDITIONS],
    ),
    "function for name": (TC, [TC + '{"function": "add", "parameters": {"a": 2}}'], "", [("add", {"a": 2})]),
    "name as key": (TC, [TC + '{"add": {"a": 3}}'], "", [("add", {"a": 3})]),
    "no arguments at all": (TC, [TC + '{"name": "say_hello"}</tool_call>'], "", [("say_hello", {})]),
    "braces in strings": (TC, [TC + '{"name": "add", "arguments": {"a": "}\\"{"}}'], "", [("add", {"a": '}"{'})]),
    "quotes before": (TC, [TC + "let's \"" + CONDITIONS], "let's \"", [CALLED_CONDITIONS]),
    "prose behind": (
        TC,
        [f"{TC}{CONDITIONS}</tool_call>\nDone, I called it."],
        "Done, I called it.",
        [CALLED_CONDITIONS],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_content_and_calls(name: str) -> None:
    tag, pieces, content, calls = CASES[name]
    assert run(tag, *pieces)[:2] == (content, calls)


def test_a_call_is_returned_with_the_piece_that_completes_it() -> None:
    parser = ToolCallParser("{", TOOLS)
    *early, last = CASES["bare object"][1]
    assert [parser.feed(piece) for piece in early] == [([], "")] * len(early)
    calls, content = parser.feed(last)
    assert ([call.name for call in calls], content) == (["get_temperature"], "")
    assert calls[0].id.startswith("call_")


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (TC, '<tool_call>{"name": "search", "arguments": {"q": 1}}</tool_call>'),
        (TC, "<tool_call>{'name': 'add', 'arguments': {}}</tool_call>"),
        (TC, '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
        (TC, '<tool_call>{"name": "add", "arguments": {"a"'),
        (TC, "<tool_call>I think you should"),
        (TC, "<tool_call>" + '{"a":' * 5000 + "1" + "}" * 5000),
    ],
)
def test_what_is_no_call_comes_back_whole_with_a_notice(tag: str, text: str) -> None:
    content, calls, parser = run(tag, "Look: " + text)
    assert (content, calls) == ("Look: " + text, [])
    assert [notice.code for notice in parser.notices] == ["tool_call_unparsed"]


def test_a_call_of_an_unknown_tool_does_not_borrow_the_name_of_the_next() -> None:
    _, calls, parser = run(
        TC, f'{TC}{{"name": "search", "arguments": {{"q": 1}}}}</tool_call>{TC}{CONDITIONS}</tool_call>'
    )
    assert calls == [CALLED_CONDITIONS]
    assert len(parser.notices) == 1


def test_arguments_keep_the_order_the_model_wrote() -> None:
    _, calls, _ = run(TC, TC + '{"name": "add", "arguments": {"z": 1, "a": 2, "m": 3}}')
    assert list(calls[0][1]) == ["z", "a", "m"]


@given(st.text(alphabet='<tool_call>{}[]"\\:, adn', max_size=80), st.sampled_from([TC, "{", "["]), st.integers(1, 7))
def test_without_a_call_every_character_comes_back(text: str, tag: str, size: int) -> None:
    content, calls, _ = run(tag, *(text[i : i + size] for i in range(0, len(text), size)))
    if not calls:
        assert content == text


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ('{{ if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{"name"{{ end }}</tool_call>{{ end }}', "<tool_call>"),
        ("{{ range .Messages }}{{ range .ToolCalls }}<call>{{ .Function }}</call>{{ end }}{{ end }}", "<call>"),
        ('{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": 1}{{ end }}{{ end }}', "{"),
        ('{{ if .ToolCalls }}\n[TOOL_CALLS] [{"name"{{ end }}', "[TOOL_CALLS] ["),
        ("{{ if .ToolCalls }}[{{ range .ToolCalls }}{}{{ end }}]{{ end }}", "["),
        ("{{ if and .Content .ToolCalls }}{{ .Content }}<tool>{{ end }}", "{"),
        ("{{ range .Messages }}{{ .Content }}{{ end }}", "{"),
    ],
)
def test_the_tag_is_the_first_text_of_the_tool_call_block(template: str, tag: str) -> None:
    assert find_tag(parse(template)) == tag


@pytest.mark.parametrize(
    ("reply", "content", "calls"),
    [
        (CONDITIONS, "", [CALLED_CONDITIONS]),
        (f"\n{CONDITIONS}", "\n", [CALLED_CONDITIONS]),
        (f"<call>{CONDITIONS}</call>", "", [CALLED_CONDITIONS]),
        (f"Well: <call>{CONDITIONS}</call>", "Well: ", [CALLED_CONDITIONS]),
        (f'{{"a": 1}} <call>{CONDITIONS}</call>', '{"a": 1} ', [CALLED_CONDITIONS]),
        ('{"a": 1} and more', '{"a": 1} and more', []),
        (f"Well: {CONDITIONS}", f"Well: {CONDITIONS}", []),
        ('{"a": ', '{"a": ', []),
        (" \n", " \n", []),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_where_only_a_range_shows_the_tag_a_reply_may_begin_with_the_bare_call(
    reply: str, content: str, calls: Calls, size: int
) -> None:
    parser = ToolCallParser("<call>", TOOLS, or_bare=True)
    outputs = [parser.feed(reply[at : at + size]) for at in range(0, len(reply), size)] + [parser.finish()]
    found = [(call.name, call.arguments) for made, _ in outputs for call in made]
    assert found == calls
    assert "".join(text for _, text in outputs) == content


def test_a_bare_call_is_taken_where_no_if_shows_the_tag() -> None:
    in_range = "{{ range .Messages }}{{ range .ToolCalls }}<call>{}{{ end }}{{ end }}"
    assert takes_bare_calls(parse(in_range))
    assert not takes_bare_calls(parse("{{ range .Messages }}{{ if .ToolCalls }}<call>{}{{ end }}{{ end }}"))


def test_ids_have_ollamas_form() -> None:
    ids = {new_call_id() for _ in range(20)}
    assert len(ids) == 20
    assert all(len(i) == 13 and i.startswith("call_") and i[5:].isalnum() and i == i.lower() for i in ids)
