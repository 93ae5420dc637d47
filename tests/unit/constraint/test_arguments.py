"""Grammars for arguments that are not one JSON object.

The grammars are tried as regular expressions, which they are as long as no schema holds itself; that the engine takes
and holds them is tested in e2e.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from corral.answer.parsers import answer_parser
from corral.constraint.fields import EngineFields, ToolGrammar, engine_fields
from corral.core import Tool, ToolChoice
from corral.inference.ways.answerforms import FORMS

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "units": {"enum": ["metric", "im perial"]},
        "hourly": {"type": "boolean"},
    },
    "required": ["city", "units"],
}
ALL = {"city": "Köln, a", "days": 3, "units": "im perial", "hourly": True}
FEW = {"city": "x", "units": "metric"}
WITH_FORMS = sorted(name for name, form in FORMS.items() if form.calls and form.calls.arguments)
_PARTS = re.compile(r"\b[rT]\d+\b|\"(?:[^\"\\]|\\.)*\"|%json \{.*\}|/(?:[^/\\]|\\.)*/|<\[\d+\]>|\S")
_JSON = r'(?:true|false|null|[0-9.]+|"[^"]*")'


def fields_of(parser: str, parameters: dict[str, Any]) -> EngineFields:
    form = FORMS[parser].calls
    assert form is not None
    tools = ToolGrammar((Tool("f", parameters=parameters),), ToolChoice("required", parallel=False), form)
    return engine_fields(tools=tools)


def pattern_of(fields: EngineFields) -> re.Pattern[str]:
    """The grammar as a regular expression; blanks between its parts mean nothing."""
    rules = dict(re.findall(r"(?m)^(\w+)(?:\[lazy\])?: (.*)$", str(fields.body["grammar"])))

    def expression(found: re.Match[str]) -> str:
        part = found.group()
        if part in rules:
            return f"(?:{expanded(part)})"
        if part.startswith('"'):
            return re.escape(str(json.loads(part)))
        if part.startswith("%json"):
            return _JSON
        # a lazy text ends at the first of its ends, for good
        return f"(?>{part[1:-1].replace('(?s:.*)', '(?s:.*?)')})" if part.startswith("/") else part

    def expanded(name: str) -> str:
        return "".join(expression(found) for found in _PARTS.finditer(rules[name]))

    return re.compile(expanded("start"), re.DOTALL)


def written(parser: str, arguments: dict[str, Any]) -> str:
    """A call of `f` as the form has it."""
    calls = FORMS[parser].calls
    assert calls is not None
    form = calls.arguments
    assert form is not None
    members = []
    for key, value in arguments.items():
        bare = value if isinstance(value, str) else json.dumps(value)
        text = f"{form.quote}{bare}{form.quote}" if isinstance(value, str) else bare
        members.append(form.key.format(key=key) + text + form.close)
    inner = form.opening.format(name="f") + form.separator.join(members) + form.ending
    return calls.start + "f" + calls.middle + inner + calls.end


@pytest.mark.parametrize("parser", WITH_FORMS)
def test_calls_are_held_to_their_schema_and_read_back(parser: str) -> None:
    fields = fields_of(parser, SCHEMA)
    pattern = pattern_of(fields)
    assert fields.notices == ()
    for arguments in (ALL, FEW, {**FEW, "hourly": False}):
        text = written(parser, arguments)
        assert pattern.fullmatch(text), text
        reader = answer_parser(parser, [Tool("f", parameters=SCHEMA)], None, False)
        assert reader is not None
        deltas = [*reader.feed(text), *reader.finish()]
        assert [call.arguments for delta in deltas for call in delta.tool_calls] == [arguments]


@pytest.mark.parametrize("parser", WITH_FORMS)
def test_other_calls_cannot_be_made(parser: str) -> None:
    form = FORMS[parser].calls
    assert form is not None
    assert form.arguments is not None
    pattern = pattern_of(fields_of(parser, SCHEMA))
    missing, order, unknown = {"city": "x"}, {"units": "metric", "city": "x"}, {**FEW, "more": 1}
    wrong = [{"city": "x", "units": "kelvin"}, {"city": "x", "days": "many", "units": "metric"}]
    for arguments in ({}, missing, order, unknown, *(wrong if form.arguments.quote != '"' else ())):
        assert pattern.fullmatch(written(parser, arguments)) is None, arguments


@pytest.mark.parametrize("parser", WITH_FORMS)
def test_arguments_that_may_all_be_left_out(parser: str) -> None:
    flags: dict[str, Any] = {"a": {"type": "boolean"}, "b": {"type": "boolean"}}
    for properties in ({}, flags):
        fields = fields_of(parser, {"properties": properties})
        assert fields.notices == ()
        pattern = pattern_of(fields)
        assert pattern.fullmatch(written(parser, {}))
        both = bool(properties)
        for arguments in ({"a": True}, {"b": True}, {"a": True, "b": False}):
            assert bool(pattern.fullmatch(written(parser, arguments))) is both


def test_strings_between_marks_are_so_in_lists_and_objects() -> None:
    parameters = {
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "meta": {"type": "object", "properties": {"author": {"type": "string"}}},
        }
    }
    pattern = pattern_of(fields_of("gemma4", parameters))
    mark = '<|"|>'
    inner = f"tags:[{mark}a{mark},{mark}b{mark}],meta:{{author:{mark}c{mark}}}"
    assert pattern.fullmatch(f"<|tool_call>call:f{{{inner}}}<tool_call|>")
    assert pattern.fullmatch("<|tool_call>call:f{tags:[],meta:{}}<tool_call|>")
    assert not pattern.fullmatch('<|tool_call>call:f{tags:["a"]}<tool_call|>')


def test_a_schema_that_holds_itself_and_any_value_become_rules_that_hold_themselves() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "more": {}}}
    grammar = str(fields_of("gemma4", {"properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}).body)
    assert len(grammar) < 3000


@pytest.mark.parametrize(
    ("parser", "parameters", "why"),
    [
        ("qwen3-coder", {"type": "object"}, "which names none"),
        ("qwen3-coder", {"properties": {"a b": {}}}, 'the parameter "a b" cannot be written'),
        ("qwen3-coder", {"properties": {"a": {"not": {}}}}, '"not" is not supported'),
        ("qwen3-coder", {"properties": {"a": {"type": "string", "pattern": "x"}}}, "any text here"),
    ],
)
def test_what_cannot_be_held_is_told_and_the_call_is_bound_all_the_same(
    parser: str, parameters: dict[str, Any], why: str
) -> None:
    fields = fields_of(parser, parameters)
    assert [notice.code for notice in fields.notices] == ["tool_schema_not_enforced"]
    assert why in fields.notices[0].message
    pattern = pattern_of(fields)
    assert pattern.fullmatch("<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>")
    assert not pattern.fullmatch("<tool_call>\n<function=g>\n</function>\n</tool_call>")
