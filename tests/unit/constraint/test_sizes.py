"""Schemas that are long: refused before they are written, whatever their text is."""

from __future__ import annotations

import pytest

from corral.constraint.compiling import MAX_CHARACTERS, compile_format
from corral.constraint.trial import Trial
from corral.errors import InvalidRequest


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["x" * MAX_CHARACTERS]},
        {"properties": {"x" * MAX_CHARACTERS: {}}},
        {"anyOf": [{"const": "x" * MAX_CHARACTERS}]},
    ],
)
async def test_a_schema_of_too_many_characters_is_refused(schema: object) -> None:
    with pytest.raises(InvalidRequest, match="more than 1048576 characters"):
        await compile_format(Trial(), schema)
