"""What clients of /v1 and /v1/messages want an answer to look like. Their decoders call it.

Every form that these APIs and servers like ours know is read; any other is refused, since an answer that ignores it
looks as if it had been held to it.

| `type`      | schema in                                        | from                                       |
|-------------|--------------------------------------------------|--------------------------------------------|
| text        |                                                  | OpenAI                                     |
| json_object | `schema`, if there                               | OpenAI; the schema: llama-server, Together |
| json_schema | `json_schema.schema`, on Responses also `schema` | OpenAI, Anthropic                          |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from corral.api.bodies import text_at
from corral.core import Constraint
from corral.errors import InvalidRequest


def read_format(value: Mapping[str, Any] | None, where: str = "response_format") -> Constraint | None:
    """The constraint, None for plain text; raises InvalidRequest for a form that nobody knows. `where`: its field."""

    def fail(why: str) -> NoReturn:
        raise InvalidRequest(f"invalid {where}: {why}", field=where)

    if value is None:
        return None
    kind = text_at(value, "type", where).strip().lower()
    match kind:
        case "text":
            return None
        case "json_object":
            schema = value.get("schema")
            return Constraint("json") if schema is None else Constraint("schema", schema)
        case "json_schema":
            holder = value.get("json_schema", value)
            schema = holder.get("schema") if isinstance(holder, Mapping) else None
            if schema is None:
                place = "json_schema.schema" if "json_schema" in value or where == "response_format" else "schema"
                fail(f"the schema must stand in {where}.{place}")
            return Constraint("schema", schema)
    fail(f'type must be "text", "json_object" or "json_schema", not "{kind[:100]}"')
