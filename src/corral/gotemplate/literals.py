"""Go's constants as a template writes them: numbers, characters, quoted strings. `parser.py` calls it.

Source: Go text/template/parse node.go newNumber, strconv.Unquote, go1.26.
"""

from __future__ import annotations

import math
import re

from corral.goquote import quote

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_LONGEST = 200  # characters of a whole number; int64 in binary with underscores has fewer
_SIMPLE = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\"}
_WHOLE = re.compile(
    r"([+-]?)(0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)\Z"
)
_FLOAT = re.compile(r"[+-]?(?:[0-9]++(?:_[0-9]++)*+\.?(?:[0-9]++(?:_[0-9]++)*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?\Z")
_HEX_FLOAT = re.compile(r"[+-]?0[xX](?:_?[0-9a-fA-F])*+\.?[0-9a-fA-F]*+[pP][+-]?[0-9]++\Z")


def parse_number(text: str) -> int | float | complex:
    """A Go number: decimal, 0x, 0b, 0o or 0-octal, underscores, floats, complex; raises ValueError.

    A whole number over int64 is given as it is: it is an error only where it is used.
    """
    if text.endswith("i"):
        return _complex(text)
    whole = _WHOLE.match(text)
    if whole and len(text) > _LONGEST:
        raise ValueError(f"integer overflow: {quote(text)}")
    if whole:
        sign, digits = whole.groups()
        value = _integer(digits.replace("_", ""))
        value = -value if sign == "-" else value
        if -(2**63) <= value < 2**63 or (not sign and value < 2**64):
            return value
        raise ValueError(f"integer overflow: {quote(text)}")
    value_f = _float(text)
    if value_f is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    if not any(char in text for char in ".eEpP"):
        raise ValueError(f"integer overflow: {quote(text)}")
    return value_f


def _integer(digits: str) -> int:
    if re.fullmatch(r"0[0-7]+", digits):
        return int(digits, 8)
    return int(digits, 0) if digits[:2].lower() in ("0x", "0b", "0o") else int(digits)


def _float(text: str) -> float | None:
    if _HEX_FLOAT.match(text):
        value = float.fromhex(text.replace("_", ""))
    elif _FLOAT.match(text):
        if "_" in text:
            return None  # Go allows underscores only where the base has a prefix
        value = float(text)
    else:
        return None
    return value if math.isfinite(value) else None


def _complex(text: str) -> complex:
    try:
        return complex(text.replace("_", "").removesuffix("i") + "j" if text[-2:-1] not in "+-" else "")
    except ValueError:
        raise ValueError(f"illegal number syntax: {quote(text)}") from None


def unquote(text: str) -> str:
    """The value of a string or character constant with its quotes; raises ValueError on a bad escape."""
    mark = text[0].encode()
    inner = text[1:-1]
    if mark == b"`":
        return inner.replace("\r", "")

    def value(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code == mark:
            return code
        if len(code) == 1:
            raise ValueError("invalid syntax")
        number = int(code, 8) if code[:1].isdigit() else int(code[1:], 16)
        if code[:1] in b"x01234567":
            if number > 0xFF:
                raise ValueError("invalid syntax")
            return bytes([number]) if mark == b'"' else chr(number).encode()
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ValueError("invalid syntax")
        return chr(number).encode()

    return _ESCAPE.sub(value, inner.encode("utf-8", "replace")).decode("utf-8", "replace")


def parse_char(text: str) -> int:
    """The code point of a character constant; raises ValueError unless it holds exactly one character."""
    value = unquote(text)
    if not value:
        raise ValueError("invalid syntax")
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {text}")
    return ord(value)
