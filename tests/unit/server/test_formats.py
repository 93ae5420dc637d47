"""What clients want an answer to look like: every form that is known is read, any other refused."""

from __future__ import annotations

from typing import Any

import pytest

from corral.api.anthropic import MessagesRequest, OutputConfig
from corral.core import Constraint
from corral.errors import InvalidRequest
from corral.server.anthropic.messages import read_output_format
from corral.server.formats import read_format

SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("form", "read"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": " JSON_object "}, Constraint("json")),
        ({"type": "json_object", "schema": SCHEMA}, Constraint("schema", SCHEMA)),
        ({"type": "json_object", "schema": None}, Constraint("json")),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
            Constraint("schema", SCHEMA),
        ),
        ({"type": "json_schema", "name": "x", "schema": SCHEMA}, Constraint("schema", SCHEMA)),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, Constraint("schema", {})),
    ],
    ids=str,
)
def test_known_forms_are_read(form: Any, read: Constraint | None) -> None:
    assert read_format(form) == read


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({}, 'type must be "text", "json_object" or "json_schema", not ""'),
        ({"type": "json"}, 'not "json"'),
        ({"type": "grammar", "grammar": 'root ::= "a"'}, 'not "grammar"'),
        ({"type": "regex", "regex": "a"}, 'not "regex"'),
        ({"type": "json_schema"}, r"must stand in response_format\.json_schema\.schema"),
        ({"type": "json_schema", "json_schema": SCHEMA}, r"must stand in response_format\.json_schema\.schema"),
        ({"type": "json_schema", "json_schema": {"schema": None}}, "must stand in"),
        ({"type": "json_schema", "json_schema": "x"}, "must stand in"),
    ],
    ids=str,
)
def test_a_form_that_nobody_knows_is_refused(form: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        read_format(form)
    assert caught.value.field == "response_format"


def test_a_type_of_another_type_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"response_format\.type"):
        read_format({"type": 5})


def test_the_field_is_named_as_the_api_names_it() -> None:
    with pytest.raises(InvalidRequest, match=r"must stand in text\.format\.schema"):
        read_format({"type": "json_schema"}, "text.format")
    body = MessagesRequest(output_config=OutputConfig(format={"type": "xml"}))
    with pytest.raises(InvalidRequest, match=r"invalid output_config\.format"):
        read_output_format(body)


def test_the_older_name_of_anthropics_field_is_read() -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    assert read_output_format(MessagesRequest(output_format=form)) == Constraint("schema", SCHEMA)
    newer = MessagesRequest(output_config=OutputConfig(format={**form, "schema": {}}), output_format=form)
    assert read_output_format(newer) == Constraint("schema", {})
    assert read_output_format(MessagesRequest(output_config=OutputConfig(effort="low"))) is None
