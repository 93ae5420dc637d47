"""Tools' schemas for the engine's own converter: what it chokes on goes, what it leaves out is told, the rest stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.fuzz.schemas import SCHEMAS

from corral.constraint.enginetools import bare, convertible
from corral.core import Tool


def converted(schema: Any) -> tuple[Any, dict[str, list[str]]]:
    """A property's schema afterwards, and the keywords that are told."""
    (tool,), notices = convertible([Tool("f", parameters={"type": "object", "properties": {"x": schema}})])
    told = notices[0].facts["keywords"] if notices else {}
    return tool.parameters["properties"]["x"], told


def test_a_sound_schema_stays_as_it_is() -> None:
    parameters = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where", "maxLength": 500, "default": None},
            "unit": {"enum": ["c", "f", None]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            "node": {"$ref": "#/$defs/node"},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "$schema": "http://json-schema.org/draft-07/schema#",
    }
    assert convertible([Tool("f", parameters=parameters)]) == ((Tool("f", parameters=parameters),), ())
    assert convertible([Tool("f")]) == ((Tool("f"),), ())


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": "string", "enum": None, "minLength": None, "default": None}, {"type": "string", "default": None}),
        (True, {}),
        ({"type": "any"}, {}),
        ({"type": "OBJECT", "required": True}, {"type": "object"}),
        ({"type": ["str", "null"]}, {"type": ["string", "null"]}),
        ({"type": "string", "maxLength": 10**12}, {"type": "string"}),
        ({"type": "array", "maxItems": 5000}, {"type": "array"}),
        ({"type": "array", "items": True, "minItems": 2.0}, {"type": "array", "minItems": 2}),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 3}),
        ({"allOf": [{"type": "string"}], "title": "T"}, {"type": "string", "title": "T"}),
        ({"type": "string", "format": "uri"}, {"type": "string", "format": "uri"}),
        ({"type": "integer", "minimum": 0, "maximum": 2**53 - 1}, {"type": "integer", "minimum": 0}),
        ({"type": "number", "minimum": 1 - 2**53, "exclusiveMaximum": 1e300}, {"type": "number"}),
    ],
    ids=str,
)
def test_what_is_only_written_oddly_is_written_otherwise_without_a_word(schema: Any, left: Any) -> None:
    assert converted(schema) == (left, {})


@pytest.mark.parametrize(
    ("schema", "left", "keyword"),
    [
        # what takes all memory
        ({"type": "string", "minLength": 5, "maxLength": 2}, {"type": "string"}, "minLength"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, {"type": "array"}, "minItems"),
        ({"type": "integer", "minimum": 10**17}, {"type": "integer"}, "minimum"),
        ({"type": "integer", "maximum": -1e17}, {"type": "integer"}, "maximum"),
        ({"type": "integer", "exclusiveMinimum": 1e16}, {"type": "integer"}, "exclusiveMinimum"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, {"type": "integer"}, "minimum"),
        ({"type": "string", "pattern": "^a{5,2}$"}, {"type": "string"}, "pattern"),
        ({"type": "string", "pattern": "^((a{50}){50}){50}$"}, {"type": "string"}, "pattern"),
        # what fails the request
        ({"enum": []}, {}, "enum"),
        ({"anyOf": []}, {}, "anyOf"),
        ({"type": "file"}, {}, "type"),
        ({"$ref": "#"}, {}, "$ref"),
        ({"$ref": "http://x"}, {}, "$ref"),
        ({"$ref": "#/properties/x"}, {}, "$ref"),
        ({"type": "string", "pattern": "(a"}, {"type": "string"}, "pattern"),
        ({"type": "array", "items": 5}, {"type": "array"}, "items"),
        ({"type": "string", "minLength": 5000}, {"type": "string"}, "minLength"),
        (False, {}, "schema"),
        # what it gets wrong
        ({"type": "string", "allOf": [{"minLength": 1}, {"maxLength": 2}]}, {"type": "string"}, "allOf"),
        ({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}]}, {"properties": {"a": {}}}, "anyOf"),
        # what it leaves out
        ({"type": "number", "minimum": 1}, {"type": "number", "minimum": 1}, "minimum"),
        ({"type": "string", "pattern": "a"}, {"type": "string", "pattern": "a"}, "pattern"),
        ({"not": {"type": "null"}}, {"not": {"type": "null"}}, "not"),
        ({"type": "array", "uniqueItems": True}, {"type": "array", "uniqueItems": True}, "uniqueItems"),
    ],
    ids=str,
)
def test_what_the_converter_does_not_hold_is_told(schema: Any, left: Any, keyword: str) -> None:
    made, told = converted(schema)
    assert made == left
    assert told[keyword] == ["#/properties/x"]


def test_definitions_that_begin_with_each_other_are_cut() -> None:
    loop = {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}, "b": {"$ref": "#/$defs/a"}}
    (tool,), (notice,) = convertible(
        [Tool("f", parameters={"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": loop})]
    )
    definitions = tool.parameters["$defs"]
    assert not ("$ref" in definitions["a"]["anyOf"][0] and "$ref" in definitions["b"])
    assert "$ref" in notice.facts["keywords"]


def test_too_large_a_schema_is_any_object() -> None:
    huge: dict[str, Any] = {"properties": {f"p{number}": {} for number in range(5000)}}
    (tool,), (notice,) = convertible([Tool("f", parameters=huge)])
    assert (tool.parameters, notice.facts["keywords"]) == ({"type": "object"}, {"schema": ["#"]})


def test_tools_for_an_engine_that_refuses_them_all_the_same() -> None:
    (tool,), (notice,) = bare([Tool("f", "does", {"properties": {"x": {}}})])
    assert tool == Tool("f", "does", {"type": "object"})
    assert notice.code == "tool_schema_not_enforced"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS)
def test_any_schema_is_cleaned_once_and_for_all(schema: Any) -> None:
    tools, _ = convertible([Tool("f", parameters={"type": "object", "properties": {"x": schema}})])
    again, _ = convertible(tools)
    assert again == tools
