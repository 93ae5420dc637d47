"""JSON exactly as Go's encoder writes it, so that blobs made here have Ollama's digests.

Compact, `<` `>` `&` and U+2028/9 escaped, other non-ASCII raw, whole floats without a fraction, exponents only below
1e-6 and from 1e21 on. Map keys are sorted when `sort_keys`; dataclass-like records keep the order given.
Source: Go encoding/json; vectors in tests/unit/test_gojson.py.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character; Go's decoder made it U+FFFD
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(value: Any, *, sort_keys: bool = False, html: bool = True, spaced: bool = False, indent: int = 0) -> str:
    """JSON text of plain data; `spaced` puts a blank after commas and colons (Go templates of tools need it not).

    `indent`: blanks a level, a line an item, as json.MarshalIndent.
    """
    colon = ": " if spaced or indent else ":"

    def write(node: Any, level: int) -> str:
        if isinstance(node, str):
            return _string(node, html=html)
        if node is None or isinstance(node, bool):
            return {None: "null", True: "true", False: "false"}[node]
        if isinstance(node, int):
            return str(node)
        if isinstance(node, float):
            return format_float(node)
        if isinstance(node, dict):
            pairs = sorted(node.items()) if sort_keys else node.items()
            items = [_string(str(key), html=html) + colon + write(child, level + 1) for key, child in pairs]
            return "{" + join(items, level) + "}"
        return "[" + join([write(child, level + 1) for child in node], level) + "]"

    def join(items: list[str], level: int) -> str:
        if not indent or not items:
            return (", " if spaced else ",").join(items)
        margin = "\n" + " " * indent * (level + 1)
        return margin + ("," + margin).join(items) + "\n" + " " * indent * level

    return write(value, 0)


def encode_blob(value: Any, *, sort_keys: bool = False) -> bytes:
    """What Go's json.Encoder writes to a file: the text and one newline."""
    return (encode(value, sort_keys=sort_keys) + "\n").encode()


def format_float(value: float) -> str:
    """A float64 as Go's JSON encoder prints it; raises ValueError for NaN and infinities."""
    if not math.isfinite(value):
        raise ValueError(f"json: unsupported value: {value}")
    size = abs(value)
    if size != 0 and (size < 1e-6 or size >= 1e21):
        mantissa, exponent = repr(value).split("e")
        return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _string(text: str, *, html: bool) -> str:
    quoted = json.dumps(_SURROGATE.sub("\ufffd", text), ensure_ascii=False)
    for char, escape in _ESCAPES.items():
        if html or char in "\u2028\u2029":
            quoted = quoted.replace(char, escape)
    return quoted
