"""What a schema holds an answer to, and what of it is refused: by keyword and place."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.constraint.matching import begins, matches, schema_grammar

from corral.constraint.checks import check_constraint
from corral.constraint.schema import read_schema
from corral.constraint.trial import Trial
from corral.core import Constraint
from corral.errors import InvalidRequest

INTEGER = {"type": "integer"}
NODE = {
    "type": "object",
    "properties": {"v": INTEGER, "k": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
    "required": ["v"],
}

HELD: list[tuple[Any, list[str], list[str]]] = [
    # objects are closed unless they say otherwise, at every level
    ({"properties": {"a": INTEGER}, "required": ["a"]}, ['{"a": 1}'], ["{}", '{"a": 1, "b": 2}', '{"b": 2}', "1"]),
    ({"properties": {"o": {"properties": {"a": {}}}}}, ['{"o": {"a": [2]}}'], ['{"o": {"b": 1}}']),
    ({"properties": {"a": INTEGER}, "additionalProperties": True}, ['{"a": 1, "z": []}', '{"z": 1}'], ['{"a": ""}']),
    ({"properties": {"a": INTEGER}, "additionalProperties": INTEGER}, ['{"a": 1, "z": 2}'], ['{"z": ""}']),
    ({"properties": {"a": INTEGER}, "patternProperties": {"^x": {}}}, ['{"a": 1, "x": 2, "z": 3}'], ['{"a": ""}']),
    ({"type": "object"}, ["{}", '{"a": {"b": [1, null, "x", true]}}'], ["[]"]),
    ({"type": "object", "properties": {}}, ["{}"], ['{"a": 1}']),
    ({}, ["{}", '{"a": 1}'], ["1", "null"]),
    ({"title": "T", "description": "D"}, ["{}"], ["1"]),
    # closed together, not one by one
    ({"allOf": [{"properties": {"a": INTEGER}}, {"properties": {"b": {}}}]}, ['{"a": 1, "b": 2}'], ['{"c": 1}']),
    (
        {"properties": {"t": {}}, "anyOf": [{"properties": {"a": INTEGER}, "required": ["a"]}, {"required": ["t"]}]},
        ['{"t": 1, "a": 2}', '{"a": 2}', '{"t": 1}'],
        ["{}", '{"t": 1, "b": 2}'],
    ),
    (
        {
            "allOf": [{"$ref": "#/$defs/base"}],
            "properties": {"b": INTEGER},
            "$defs": {"base": {"properties": {"a": {}}}},
        },
        ['{"b": 1, "a": 2}'],
        ['{"c": 1}'],
    ),
    ({"type": "object", "properties": {"a": {}}, "required": ["a", "z"]}, ['{"a": 1, "z": 2}'], ['{"a": 1}']),
    # references
    ({"$ref": "#/$defs/n", "$defs": {"n": NODE}}, ['{"v": 1, "k": [{"v": 2}]}'], ['{"k": []}']),
    ({"properties": {"x": {"$ref": "#"}}}, ['{"x": {"x": {}}}'], ['{"x": 1}']),
    ({"properties": {"x": {"$ref": "#a"}}, "$defs": {"q": {"$anchor": "a", "type": "null"}}}, ['{"x": null}'], []),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, ["null"], ["1"]),
    # numbers of objects' members, and their names
    ({"properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2}, ['{"a": 1, "c": 1}'], ["{}", '{"b": 1}']),
    ({"properties": {"a": {}, "b": {}, "c": {}}, "maxProperties": 1}, ["{}", '{"b": 1}'], ['{"a": 1, "c": 1}']),
    (
        {"additionalProperties": INTEGER, "minProperties": 1, "maxProperties": 2},
        ['{"a": 1}', '{"a": 1, "b": 2}'],
        ["{}", '{"a": 1, "b": 2, "c": 3}'],
    ),
    ({"patternProperties": {"^x": {"type": "string"}, "y$": {"minLength": 2}}}, ['{"xy": "ab", "xa": "", "q": 1}'], []),
    ({"patternProperties": {"^x": {"type": "string"}, "y$": {"minLength": 2}}}, [], ['{"xy": "a"}', '{"xa": 1}']),
    ({"properties": {"xa": {}}, "patternProperties": {"^x": INTEGER}}, ['{"xa": 1}'], ['{"xa": ""}']),
    ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}}, ['{"ab": 1}'], ['{"A": 1}']),
    ({"propertyNames": {"enum": ["x", "y"]}, "additionalProperties": INTEGER}, ['{"y": 1}'], ['{"z": 1}', '{"x": ""}']),
    # lists
    (
        {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 3},
        ["[1, 2]", "[1, 2, 3]"],
        ["[1]", "[1, 2, 3, 4]"],
    ),
    ({"prefixItems": [INTEGER, {"type": "null"}]}, ["[]", "[1]", '[1, null, "x"]'], ["[null]"]),
    ({"items": [INTEGER], "additionalItems": False}, ["[]", "[1]"], ["[1, 2]"]),
    ({"type": "array", "prefixItems": [INTEGER, INTEGER], "minItems": 1, "items": False}, ["[1]", "[1, 2]"], ["[]"]),
    # alternatives and values
    ({"anyOf": [INTEGER, {"type": "null"}]}, ["1", "null"], ['"x"', "1.5"]),
    ({"type": ["integer", "null"], "enum": [1, "x", None]}, ["1", "null"], ['"x"']),
    ({"enum": [1.5, True, {"a": [1]}]}, ["1.5", "true", '{"a": [1]}'], ["false", '{"a": []}']),
    ({"const": None}, ["null"], ["1"]),
    ({"anyOf": [INTEGER, {"type": "string"}], "minimum": 3, "maxLength": 1}, ["3", '"a"'], ["2", '"ab"']),
    # numbers
    ({"type": "integer", "multipleOf": 5, "minimum": -20}, ["0", "-5", "100"], ["-25", "3"]),
    ({"type": "number", "multipleOf": 0.25}, ["0.25", "-3.75"], ["0.2"]),
    ({"type": "number", "minimum": 5, "exclusiveMinimum": True}, ["5.1"], ["5"]),
    ({"type": "integer", "minimum": 10**18}, [str(10**18), str(2**63 - 1)], [str(10**18 - 1), str(2**63)]),
    ({"type": "number", "maximum": 1e308}, ["1"], ["1" * 30]),
    # strings
    ({"type": "string", "minLength": 1, "maxLength": 65536}, ['"a"'], ['""']),
    ({"type": "string", "pattern": "b"}, ['"abc"'], ['"ac"']),
    ({"type": "string", "pattern": "^a+$", "maxLength": 2}, ['"aa"'], ['"aaa"']),
    ({"type": "string", "format": "date-time"}, ['"2024-02-29T10:11:12.5Z"'], ['"2023-02-29T10:11:12Z"']),
    ({"type": "string", "format": "date-time"}, [], ['"2024-02-29T10:11:12.0000000000Z"']),
    ({"type": "string", "format": "uri"}, ['"https://a.b:80/c?d#e"', '"mailto:a@b"'], ['"a b"', '"a"']),
    ({"type": "string", "format": "password"}, ['"x"'], ["1"]),
    ({"type": "integer", "format": "int64"}, ["1"], ["1.5"]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), HELD, ids=lambda value: str(value)[:60])
def test_an_answer_is_held_to_its_schema(schema: Any, good: list[str], bad: list[str]) -> None:
    grammar = schema_grammar(schema)
    assert [text for text in good if not matches(grammar, text)] == []
    assert [text for text in bad if matches(grammar, text)] == []


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


REFUSED: list[tuple[Any, str]] = [
    ([], "must be an object"),
    (False, "matches nothing"),
    ({"type": "strin"}, r'"type" must be one of .*\(at #/type\)'),
    ({"type": []}, r'"type" must be one of .*\(at #/type\)'),
    ({"properties": {"x": {"not": {}}}}, r'"not" is not supported \(at #/properties/x/not\)'),
    ({"if": {}}, r'"if" is not supported \(at #/if\)'),
    ({"properties": {"a/b": {"contains": {}}}}, r"\(at #/properties/a~1b/contains\)"),
    ({"$dynamicRef": "#a"}, "dynamicRef"),
    ({"properties": []}, '"properties" must be an object'),
    ({"items": {}, "anyOf": 1e300}, r'"anyOf" must be a list'),
    ({"anyOf": []}, r'"anyOf" must be a list that is not empty, not \[\] \(at #/anyOf\)'),
    ({"enum": []}, r"\(at #/enum\)"),
    ({"required": "a"}, r'"required" must be a list of names, not "a" \(at #/required\)'),
    ({"$ref": "http://x"}, r'"\$ref" must point into .*\(at #/\$ref\)'),
    ({"$ref": "#/$defs/x"}, r"does not exist \(at #/\$ref\)"),
    ({"properties": {"a": {"$ref": "#foo"}}}, r"#foo does not exist \(at #/properties/a/\$ref\)"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, r"no finite value.*\(at #/\$defs/a\)"),
    ({"$ref": "#/x", "x": {"properties": {"y": {"$ref": "#/x"}}, "required": ["y"]}}, "no finite value"),
    ({"items": {"$ref": "#"}, "type": "array", "minItems": 1}, '"minItems" is 1, and 0 are possible'),
    ({"pattern": "(?<=a)b"}, r"look-around.*\(at #/pattern\)"),
    ({"patternProperties": {"(": {}}}, r"\(at #/patternProperties\)"),
    (
        {"properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]},
        "#/properties/a/minimum",
    ),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "no number is in the range"),
    ({"type": "integer", "minimum": 0.5, "maximum": 0.6}, "no number is in the range"),
    ({"maxLength": -1}, r'"maxLength" must be a whole number .*\(at #/maxLength\)'),
    ({"type": "string", "minLength": 10**9}, r"cannot be held \(at #/minLength\)"),
    (
        {"type": "string", "minLength": 5, "maxLength": 2},
        r'"minLength" 5 is greater than "maxLength" 2 \(at #/minLength\)',
    ),
    ({"minimum": "1"}, '"minimum" must be a number'),
    ({"type": "number", "multipleOf": 0}, r"\(at #/multipleOf\)"),
    ({"type": "integer", "minimum": 10**30}, "digits"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, r"types exclude each other \(at #/allOf\)"),
    ({"type": "string", "enum": [1, 2]}, r"types exclude each other \(at #/enum\)"),
    ({"type": "string", "format": "uuid", "enum": ["x"]}, "no text is possible"),
    ({"additionalProperties": False, "properties": {"a": {}}, "required": ["b"]}, '"b" is required, and cannot be'),
    ({"prefixItems": [{}], "items": False, "minItems": 2}, '"minItems" is 2, and 1 are possible'),
    ({"maxProperties": 0, "required": ["a"]}, r'"maxProperties" is 0, and 1 are required \(at #/maxProperties\)'),
    ({"additionalProperties": {}, "minProperties": 3}, '"minProperties"'),
    ({"type": "string", "pattern": "^a$", "minLength": 3}, r'"pattern": no text is possible \(at #/pattern\)'),
    ({"type": "string", "pattern": "^(.*a.*b.*c.*d){20}$", "maxLength": 5000}, r"\(at #/pattern\)"),
    (nested(60), "levels"),
    ({"enum": ["x" * 300_000]}, "larger than"),
    ({"anyOf": [{} for _ in range(6000)]}, "parts"),
    ({"properties": {f"p{number}": {} for number in range(500)}}, "optional properties"),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_held_is_refused_by_keyword_and_place(trial: Trial, schema: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        await check_constraint(trial, Constraint("schema", schema))
    assert caught.value.field == "format"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": [None]}, '"type" must be one of array, boolean, integer, null, number, object, string, not [null]'),
        ({"required": [1]}, '"required" must be a list of names, not [1]'),
        ({"properties": True}, '"properties" must be an object, not true'),
        ({"items": "x" * 60}, f'a schema must be an object or a boolean, not "{"x" * 39}…'),
        ({"enum": {}}, '"enum" must be a list that is not empty, not {}'),
        ({"maxLength": True}, '"maxLength" must be a whole number from 0 on, not true'),
        ({"minLength": 30_000}, '"minLength" is 30000: above 20000 it cannot be held'),
        ({"pattern": 5}, '"pattern" 5: it must be a regular expression'),
        ({"pattern": "a("}, '"pattern" "a(": a group is not closed'),
        ({"type": "number", "multipleOf": -0.5}, '"multipleOf" must be greater than 0, not -0.5'),
        ({"$ref": None, "anyOf": [{"$ref": 7}]}, '"$ref" must be a text, not 7'),
        (
            {"type": "integer", "exclusiveMinimum": 10**20},
            '"exclusiveMinimum" 100000000000000000000: numbers of more than 19 digits cannot be held (at #/excl',
        ),
    ],
)
def test_a_wrong_value_is_shown_as_it_was_written(schema: Any, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_schema(schema, "format")
    assert str(caught.value).startswith(f"invalid format: {why}")


KEYWORDS = (
    "type format pattern enum const required properties patternProperties additionalProperties items prefixItems anyOf "
    "oneOf allOf $ref $defs definitions minLength maxLength minItems maxItems minProperties maxProperties minimum "
    "maximum exclusiveMinimum exclusiveMaximum multipleOf uniqueItems not contains propertyNames title"
)


@pytest.mark.parametrize("keyword", KEYWORDS.split())
@pytest.mark.parametrize("value", [None, True, 7, 1.5, "x", "", [], [[]], [{}], [None], {}, {"x": []}], ids=repr)
async def test_a_keyword_with_any_value_is_taken_or_refused(trial: Trial, keyword: str, value: Any) -> None:
    try:
        await check_constraint(trial, Constraint("schema", {"type": "object", keyword: value}))
    except InvalidRequest as error:
        assert str(error).startswith("invalid format: ")  # noqa: PT017  both outcomes are right
        assert keyword in str(error)  # noqa: PT017


async def test_what_is_only_loosened_is_said(trial: Trial) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"oneOf": [{"type": "string"}, {"minLength": 1}]}}
    _, (notice,) = await check_constraint(trial, Constraint("schema", schema))
    assert notice.code == "schema_not_enforced"
    assert notice.facts["keywords"] == {"uniqueItems": ["#"], "oneOf": ["#/items"]}
    quiet = {"uniqueItems": False, "type": "string", "format": "uuid"}
    assert (await check_constraint(trial, Constraint("schema", quiet)))[1] == ()


async def test_alternatives_that_exclude_each_other_are_not_loose(trial: Trial) -> None:
    cat = {"properties": {"kind": {"const": "cat"}, "next": {"$ref": "#"}}, "required": ["kind"]}
    dog = {"properties": {"kind": {"const": "dog"}}, "required": ["kind"]}
    for schema in ({"oneOf": [cat, dog]}, {"oneOf": [{"type": "string"}, {"type": "null"}]}):
        assert (await check_constraint(trial, Constraint("schema", schema)))[1] == ()


async def test_a_schema_of_pydantic_passes_without_a_word(trial: Trial) -> None:
    schema = {
        "$defs": {"Color": {"enum": ["red", "green"], "title": "Color", "type": "string"}},
        "properties": {
            "color": {"$ref": "#/$defs/Color"},
            "when": {"anyOf": [{"format": "date-time", "type": "string"}, {"type": "null"}], "default": None},
            "tags": {"items": {"maxLength": 9, "pattern": "^[a-z]+$", "type": "string"}, "type": "array"},
            "scores": {"additionalProperties": {"type": "number"}, "propertyNames": {"$ref": "#/$defs/Color"}},
        },
        "required": ["color"],
        "title": "Thing",
        "type": "object",
    }
    assert (await check_constraint(trial, Constraint("schema", schema)))[1] == ()
    grammar = schema_grammar(schema)
    assert matches(grammar, '{"color": "red", "when": null, "tags": ["ab"], "scores": {"green": 1.5}}')
    assert not begins(grammar, '{"color": "red", "other')


@pytest.mark.parametrize("kind", ["number", "integer"])
def test_a_number_ends(kind: str) -> None:
    grammar = schema_grammar({"type": kind})
    for digit in "019":
        assert not begins(grammar, digit * 40)
        assert not begins(grammar, f"1.{digit * 40}")
        assert not begins(grammar, f"-1e{digit * 40}")
    inside = schema_grammar({"additionalProperties": True})
    assert not begins(inside, '{"a": [' + "1" * 40)
