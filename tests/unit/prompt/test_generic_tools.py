"""Tools for models without any, and the form of calls learnt from a template."""

from __future__ import annotations

import pytest

from corral.answer.toolcalls import ToolCallParser, find_tag
from corral.core import Message, Tool, ToolCall, ToolChoice
from corral.gotemplate import parse
from corral.prompt.generic_tools import generic_messages
from corral.prompt.gorender import render_messages
from corral.prompt.toolformat import GENERIC_FORMAT, ToolFormat, learn_format, sample_messages

ADD = Tool("add", "Adds", {"type": "object", "properties": {"a": {"type": "integer"}}})


def test_the_functions_and_the_form_are_told_in_the_system_prompt() -> None:
    messages = generic_messages([Message("user", "1+1?")], [ADD], ToolChoice())
    assert [message.role for message in messages] == ["system", "user"]
    told = messages[0].content
    assert '{"name":"add","description":"Adds","parameters":{"type":"object"' in told
    assert GENERIC_FORMAT.start in told


def test_a_system_prompt_of_the_client_stays_in_front() -> None:
    messages = generic_messages([Message("system", "Be brief."), Message("user", "x")], [ADD], ToolChoice("required"))
    assert messages[0].content.startswith("Be brief.\n\n")
    assert len(messages) == 2
    named = generic_messages([], [ADD], ToolChoice("named", name="add"))
    assert "calling the function add" in named[0].content


def test_calls_and_results_become_text_that_takes_turns() -> None:
    history = [
        Message("user", "?"),
        Message("assistant", "Hm", tool_calls=(ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2}))),
        Message("tool", "1", tool_name="add"),
        Message("tool", "2"),
        Message("user", "and?"),
    ]
    messages = generic_messages(history, [ADD], ToolChoice())[1:]
    assert [message.role for message in messages] == ["user", "assistant", "user", "user"]
    assert not any(message.tool_calls for message in messages)
    assert messages[2].content == ("<tool_response>\nadd:\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>")
    parser = ToolCallParser(GENERIC_FORMAT.tag, [ADD])
    calls, content = parser.feed(messages[1].content)
    assert ([call.arguments for call in calls], content) == ([{"a": 1}, {"a": 2}], "Hm\n")


LEARNT = [
    (
        '{{ range .Messages }}{{ .Content }}{{ range .ToolCalls }}<tool_call>\n{"name": "{{ .Function.Name }}", '
        '"arguments": {{ .Function.Arguments }}}\n</tool_call>\n{{ end }}<|im_end|>{{ end }}',
        ToolFormat(
            "<tool_call>",
            '<tool_call>\n{"name": "',
            '", "arguments": ',
            '}\n</tool_call>\n<tool_call>\n{"name": "',
            "}\n</tool_call>",
        ),
    ),
    (
        "{{ range .Messages }}{{ if .ToolCalls }}[TOOL_CALLS] [{{ range $i, $c := .ToolCalls }}{{ if $i }}, {{ end }}"
        '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]</s>{{ end }}{{ end }}',
        ToolFormat("[TOOL_CALLS] [", '[TOOL_CALLS] [{"name": "', '", "arguments": ', '}, {"name": "', "}]"),
    ),
    (
        "{{ range .Messages }}{{ if .ToolCalls }}[CALLS][{{ range $i, $c := .ToolCalls }}{{ if $i }},{{ end }}"
        '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}][/CALLS]</s>'
        "{{ end }}{{ end }}",
        ToolFormat("[CALLS][", '[CALLS][{"name": "', '", "arguments": ', '},{"name": "', "}][/CALLS]"),
    ),
    (
        "{{ range .Messages }}{{ if .ToolCalls }}{{ range .ToolCalls }}"
        '{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}{{ end }}{{ end }}',
        ToolFormat("{", '{"name": "', '", "parameters": ', '}{"name": "', "}"),
    ),
]


@pytest.mark.parametrize(("text", "expected"), LEARNT)
def test_the_form_of_calls_is_learnt_from_sample_calls(text: str, expected: ToolFormat) -> None:
    template = parse(text)
    one, two = (render_messages(template, sample_messages(count)) for count in (1, 2))
    assert learn_format(find_tag(template), one, two) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ range .Messages }}{{ .Content }}{{ end }}",
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ .Function.Name }}{{ end }}{{ end }}",
    ],
)
def test_a_template_that_does_not_show_calls_teaches_nothing(text: str) -> None:
    template = parse(text)
    one, two = (render_messages(template, sample_messages(count)) for count in (1, 2))
    assert learn_format(find_tag(template), one, two) is None
