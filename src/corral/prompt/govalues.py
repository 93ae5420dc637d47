"""JSON values and text as Go treats them: what it decodes, prints with %v, takes for white space. Pure.

Used by the renderers, whose prompts must be Ollama's to the byte.
"""

from __future__ import annotations

from typing import Any

from corral.gotemplate.values import format_value, to_plain

_EXACT = 2**53  # whole numbers up to here are exact as floats
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def as_floats(value: Any) -> Any:
    """JSON data as Go decodes it: every number is a float64. Whole numbers that would lose digits stay as they are."""
    match value:
        case bool():
            return value
        case int():
            return float(value) if abs(value) <= _EXACT else value
        case dict():
            return {key: as_floats(item) for key, item in value.items()}
        case list() | tuple():
            return [as_floats(item) for item in value]
        case _:
            return value


def printed(value: Any) -> str:
    """A decoded JSON value as fmt's %v prints it: 1e+06, <nil>, map[a:1]."""
    return format_value(as_floats(value))


def sorted_maps(value: Any) -> Any:
    """JSON data with the keys of every object in Go's order: that of their bytes."""
    return to_plain(value)


def trim_space(text: str) -> str:
    """strings.TrimSpace; Python's strip() takes four control characters more."""
    return text.strip(_SPACE)


def trim_right_space(text: str) -> str:
    """The same, at the end only."""
    return text.rstrip(_SPACE)


def is_space(char: str) -> bool:
    """unicode.IsSpace of one character."""
    return char in _SPACE


def upper(text: str) -> str:
    """strings.ToUpper, which maps each character to one: ß stays."""
    return "".join(large if len(large := char.upper()) == 1 else char for char in text)
