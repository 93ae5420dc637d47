"""What is checked before anything is loaded, and the answer at its end."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.constraint.matching import begins, matches

from corral.constraint.checks import check_answer, check_constraint, check_tools, check_whole
from corral.constraint.compiling import ANY_OBJECT
from corral.constraint.lark import Lark
from corral.constraint.trial import Trial
from corral.core import Constraint, Tool
from corral.errors import InvalidRequest


async def arguments_of(trial: Trial, parameters: dict[str, Any]) -> tuple[str, list[str]]:
    """The grammar of a tool's arguments, and the warnings' messages."""
    schemas, notices = await check_tools(trial, [Tool("t", parameters=parameters)])
    lark = Lark()
    assert {notice.code for notice in notices} <= {"tool_schema_not_enforced"}
    return lark.text(lark.json(schemas["t"])), [notice.message for notice in notices]


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "string", "enum": None},
        {"type": "string", "minLength": None, "pattern": None, "anyOf": None, "items": None},
        {"type": "any"},
        {"type": "OBJECT"},
        {"type": "integer", "required": True},
        {"type": ["string", "null"], "nullable": True},
        {"type": "str"},
        True,
        {"type": "string", "format": "binary"},
        {"type": "string", "maxLength": 10**9},
    ],
    ids=str,
)
async def test_a_tools_odd_schema_is_read_as_it_is_meant_without_a_word(trial: Trial, odd: Any) -> None:
    grammar, warnings = await arguments_of(trial, {"type": "object", "properties": {"x": odd, "n": {"type": "null"}}})
    assert warnings == []
    assert matches(grammar, '{"n": null}')
    assert not begins(grammar, '{"other')


@pytest.mark.parametrize(
    ("odd", "keyword"),
    [
        ({"type": "string", "enum": []}, "enum"),
        ({"type": "string", "anyOf": []}, "anyOf"),
        ({"$ref": "http://elsewhere/x.json"}, "$ref"),
        ({"$ref": "#/$defs/nope"}, "$ref"),
        ({"type": "file"}, "type"),
        ({"not": {"type": "null"}}, "not"),
        ({"type": "string", "pattern": "(?<!a)b"}, "pattern"),
        ({"type": "string", "pattern": "^a$", "minLength": 3}, "pattern"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum"),
        ({"type": "array", "minItems": 5, "maxItems": 2}, "minItems"),
        ({"type": "number", "multipleOf": 0}, "multipleOf"),
        ({"type": "integer", "minimum": 10**30}, "minimum"),
    ],
    ids=str,
)
async def test_a_part_that_cannot_be_held_is_a_warning_and_the_rest_holds(trial: Trial, odd: Any, keyword: str) -> None:
    grammar, (warning,) = await arguments_of(
        trial, {"properties": {"x": odd, "n": {"type": "null"}}, "required": ["n"]}
    )
    assert f"{keyword} at #/properties/x" in warning
    assert matches(grammar, '{"n": null}')
    assert not begins(grammar, '{"n": 1')
    assert not begins(grammar, '{"other')


async def test_a_required_argument_that_cannot_be_held_can_still_be_given(trial: Trial) -> None:
    odd = {"type": "string", "pattern": "^a$", "minLength": 3}
    grammar, (warning,) = await arguments_of(trial, {"properties": {"x": odd}, "required": ["x"]})
    assert "pattern at #/properties/x" in warning
    assert matches(grammar, '{"x": "anything"}')


async def test_a_schema_that_cannot_be_held_at_all_is_any_object(trial: Trial) -> None:
    huge: dict[str, Any] = {"properties": {f"p{number}": {} for number in range(6000)}}
    for parameters in (huge, {"allOf": [{"type": "string"}]}, {"required": ["x"], "properties": {"x": False}}):
        grammar, (warning,) = await arguments_of(trial, parameters)
        assert warning.startswith('invalid tool "t": ')
        assert matches(grammar, '{"anything": 1}')


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": "object", "properties": {}}])
async def test_a_tool_without_parameters_has_no_arguments(trial: Trial, parameters: dict[str, Any]) -> None:
    grammar, warnings = await arguments_of(trial, parameters)
    assert warnings == []
    assert matches(grammar, "{}")
    assert not begins(grammar, '{"')


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("grammar", ""),
        ("grammar", 'start: "a"'),
        ("grammar", 'root ::= "a"{2,1}'),
        ("grammar", "root ::= " + "x" * 300_000),
        ("choice", []),
        ("choice", [""]),
        ("choice", "red"),
        ("choice", ["a"] * 3000),
    ],
)
async def test_bad_grammars_and_choices_are_refused(trial: Trial, kind: Any, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await check_constraint(trial, Constraint(kind, value))
    assert caught.value.field == kind


async def test_parts_that_are_too_much_together_are_refused(trial: Trial) -> None:
    await check_whole(trial, {"grammar": 'root ::= "gbnf is not its matter"'})
    await check_whole(trial, {})
    with pytest.raises(InvalidRequest, match="too much together"):
        await check_whole(trial, {"grammar": "%llguidance {}\nstart: nowhere\n"})


def test_a_promise_of_json_that_was_not_kept_is_told() -> None:
    bound = Constraint("schema", ANY_OBJECT)
    assert check_answer(bound, '{"a": 1}') is None
    assert check_answer(None, "text") is None
    assert check_answer(Constraint("choice", ["a"]), "text") is None
    notice = check_answer(bound, "text")
    assert notice is not None
    assert notice.code == "format_not_met"
