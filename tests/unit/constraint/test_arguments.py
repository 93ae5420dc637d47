"""Grammars for arguments that are not one JSON object: the engine's compiler says what matches them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.constraint.matching import matches

from corral.answer.parsers import answer_parser
from corral.constraint.checks import check_tools
from corral.constraint.fields import EngineFields, ToolGrammar, engine_fields
from corral.constraint.trial import Trial
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


async def fields_of(trial: Trial, parser: str, parameters: dict[str, Any]) -> EngineFields:
    form = FORMS[parser].calls
    assert form is not None
    tools = (Tool("f", parameters=parameters),)
    schemas, notices = await check_tools(trial, tools)
    bound = ToolGrammar(tools, ToolChoice("required", parallel=False), form, schemas)
    fields = engine_fields(tools=bound)
    return EngineFields(fields.body, (*notices, *fields.notices))


def taken(fields: EngineFields, text: str) -> bool:
    return matches(fields.body["grammar"], text)


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
async def test_calls_are_held_to_their_schema_and_read_back(trial: Trial, parser: str) -> None:
    fields = await fields_of(trial, parser, SCHEMA)
    assert fields.notices == ()
    for arguments in (ALL, FEW, {**FEW, "hourly": False}):
        text = written(parser, arguments)
        assert taken(fields, text), text
        reader = answer_parser(parser, [Tool("f", parameters=SCHEMA)], None, False)
        assert reader is not None
        deltas = [*reader.feed(text), *reader.finish()]
        assert [call.arguments for delta in deltas for call in delta.tool_calls] == [arguments]


@pytest.mark.parametrize("parser", WITH_FORMS)
async def test_other_calls_cannot_be_made(trial: Trial, parser: str) -> None:
    form = FORMS[parser].calls
    assert form is not None
    assert form.arguments is not None
    fields = await fields_of(trial, parser, SCHEMA)
    missing, order, unknown = {"city": "x"}, {"units": "metric", "city": "x"}, {**FEW, "more": 1}
    wrong = [{"city": "x", "units": "kelvin"}, {"city": "x", "days": "many", "units": "metric"}]
    for arguments in ({}, missing, order, unknown, *(wrong if form.arguments.quote != '"' else ())):
        assert not taken(fields, written(parser, arguments)), arguments


@pytest.mark.parametrize("parser", WITH_FORMS)
async def test_arguments_that_may_all_be_left_out(trial: Trial, parser: str) -> None:
    flags: dict[str, Any] = {"a": {"type": "boolean"}, "b": {"type": "boolean"}}
    for properties in ({}, flags):
        fields = await fields_of(trial, parser, {"properties": properties})
        assert fields.notices == ()
        assert taken(fields, written(parser, {}))
        both = bool(properties)
        for arguments in ({"a": True}, {"b": True}, {"a": True, "b": False}):
            assert taken(fields, written(parser, arguments)) is both


async def test_strings_between_marks_are_so_in_lists_and_objects(trial: Trial) -> None:
    parameters = {
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "meta": {"type": "object", "properties": {"author": {"type": "string"}}},
        }
    }
    fields = await fields_of(trial, "gemma4", parameters)
    mark = '<|"|>'
    inner = f"tags:[{mark}a{mark},{mark}b{mark}],meta:{{author:{mark}c{mark}}}"
    assert taken(fields, f"<|tool_call>call:f{{{inner}}}<tool_call|>")
    assert taken(fields, "<|tool_call>call:f{tags:[],meta:{}}<tool_call|>")
    assert not taken(fields, '<|tool_call>call:f{tags:["a"]}<tool_call|>')


async def test_a_schema_that_holds_itself_and_any_value_become_rules_that_hold_themselves(trial: Trial) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "more": {}}}
    fields = await fields_of(trial, "gemma4", {"properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}})
    assert len(fields.body["grammar"]) < 3000
    assert taken(fields, "<|tool_call>call:f{a:{next:{more:[1,null]},more:2}}<tool_call|>")


@pytest.mark.parametrize(
    ("parser", "parameters", "why"),
    [
        ("qwen3-coder", {"type": "object", "additionalProperties": True}, "which names none"),
        ("qwen3-coder", {"properties": {"a b": {}}}, 'the parameter "a b" cannot be written'),
        ("qwen3-coder", {"properties": {"a": {"not": {}}}}, "not at #/properties/a"),
        ("qwen3-coder", {"properties": {"a": {"type": "string", "pattern": "x"}}}, "any text here"),
    ],
)
async def test_what_cannot_be_held_is_told_and_the_call_is_bound_all_the_same(
    trial: Trial, parser: str, parameters: dict[str, Any], why: str
) -> None:
    fields = await fields_of(trial, parser, parameters)
    assert [notice.code for notice in fields.notices] == ["tool_schema_not_enforced"]
    assert why in fields.notices[0].message
    assert taken(fields, "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>")
    assert not taken(fields, "<tool_call>\n<function=g>\n</function>\n</tool_call>")
