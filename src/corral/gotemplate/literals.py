"""Go's constants as a template writes them: numbers, characters, quoted strings. `parser.py` calls it."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def parse_number(text: str) -> int | float:
    """A Go number: decimal, 0x, 0b, 0o or 0-octal, underscores, floats; raises ValueError."""
    plain = text.replace("_", "")
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    if re.fullmatch(r"0[xXbBoO][0-9a-fA-F]+", digits):
        return sign * int(digits, 0)
    if digits.isascii() and digits.isdigit():
        value = sign * int(digits) if len(digits) <= 20 else 2**64
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"integer overflow: {text}")
        return value
    return float(plain)


def unquote(text: str) -> str:
    """The value of a string or character constant with its quotes; raises ValueError on a bad escape."""
    quote = text[0]
    inner = text[1:-1]
    if quote == "`":
        return inner.replace("\r", "")

    def value(match: re.Match[str]) -> str:
        code = match.group(1)
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code == quote:
            return code
        if len(code) == 1:
            raise ValueError("invalid syntax")
        number = int(code, 8) if code[0].isdigit() else int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ValueError("invalid syntax")
        return chr(number)

    return _ESCAPE.sub(value, inner)


def parse_char(text: str) -> int:
    """The code point of a character constant; raises ValueError unless it holds exactly one character."""
    value = unquote(text)
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {text}")
    return ord(value)
