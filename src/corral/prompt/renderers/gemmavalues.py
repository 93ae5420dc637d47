"""JSON values in Gemma's own spelling: bare keys, strings between a token. Shared by gemma4 and functiongemma."""

from __future__ import annotations

from typing import Any

from corral.prompt.govalues import printed

_MOST = 2.0**63  # whole floats below it are printed without exponent


def write_value(value: Any, quote: str, *, nil: str = "null", key_quote: str = "") -> str:
    """A value; `quote` stands on both sides of a string, `key_quote` of an object's key."""
    match value:
        case None:
            return nil
        case str():
            return quote + value + quote
        case float() if value.is_integer() and -_MOST <= value < _MOST:
            return str(int(value))
        case dict():
            pairs = (
                f"{key_quote}{key}{key_quote}:{write_value(item, quote, nil=nil, key_quote=key_quote)}"
                for key, item in sorted(value.items())
            )
            return "{" + ",".join(pairs) + "}"
        case list() | tuple():
            return "[" + ",".join(write_value(item, quote, nil=nil, key_quote=key_quote) for item in value) + "]"
        case bool() | float():
            return printed(value)
        case _:
            return str(value)
