"""Go's fmt verbs for the template functions printf, print and println."""

from __future__ import annotations

import re
from typing import Any

from corral.gojson import encode
from corral.gotemplate.values import Struct, format_float, format_value, type_name

_VERB = re.compile(r"%([-+# 0]*)(\d+|\*)?(?:\.(\d+|\*)?)?(.)?", re.DOTALL)
_HAS_PRECISION = re.compile(r"%[-+# 0]*(?:\d+|\*)?\.")
MAX_WIDTH = 1_000_000  # Go's own bound


def sprintf(template: str, args: list[Any]) -> str:
    """`fmt.Sprintf`: wrong or missing arguments show as `%!verb(...)`, as in Go; nothing is raised."""
    pending = list(args)

    def number(text: str | None) -> int | None:
        if text != "*":
            return int(text) if text else None
        value = pending.pop(0) if pending else None
        return value if isinstance(value, int) else None

    def replace(match: re.Match[str]) -> str:
        flags, width_text, precision_text, verb = match.groups()
        if verb is None:
            return "%!(NOVERB)"
        width = number(width_text)
        precision = number(precision_text)
        if precision is None and _HAS_PRECISION.match(match.group()):
            precision = 0
        if verb == "%":
            return "%"
        bad = _out_of_bounds(width, precision)
        if bad or not pending:
            return bad or f"%!{verb}(MISSING)"
        return _pad(_format(verb, flags, precision, pending.pop(0)), flags, width, verb)

    text = _VERB.sub(replace, template)
    if pending:
        extra = ", ".join("<nil>" if v is None else f"{type_name(v)}={format_value(v)}" for v in pending)
        text += f"%!(EXTRA {extra})"
    return text


def _out_of_bounds(width: int | None, precision: int | None) -> str:
    if width is not None and abs(width) > MAX_WIDTH:
        return "%!(BADWIDTH)"
    return "" if precision is None or 0 <= precision <= MAX_WIDTH else "%!(BADPREC)"


def sprint(args: list[Any]) -> str:
    """`fmt.Sprint`: a blank between operands when neither is a string."""
    parts: list[str] = []
    for position, value in enumerate(args):
        if position and not isinstance(value, str) and not isinstance(args[position - 1], str):
            parts.append(" ")
        parts.append(format_value(value))
    return "".join(parts)


def _pad(text: str, flags: str, width: int | None, verb: str) -> str:
    if not width or len(text) >= abs(width):
        return text
    if "-" in flags or width < 0:
        return text.ljust(abs(width))
    if "0" in flags and verb in "dxXobeEfFgGsqvt":
        sign = text[0] if text[:1] in ("+", "-") and verb not in "sqvt" else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _format(verb: str, flags: str, precision: int | None, value: Any) -> str:
    if verb == "v":
        return _go_syntax(value) if "#" in flags else _signed(format_value(value), flags, value)
    if verb == "T":
        return "<nil>" if value is None else type_name(value)
    if isinstance(value, bool):
        return format_value(value) if verb == "t" else _bad(verb, value)
    if isinstance(value, int):
        return _integer(verb, flags, value)
    if isinstance(value, float):
        return _float(verb, flags, precision, value)
    return _text(verb, flags, precision, value)


def _signed(text: str, flags: str, value: Any) -> str:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or text.startswith(("-", "+")):
        return text
    return "+" + text if "+" in flags else " " + text if " " in flags else text


def _bad(verb: str, value: Any) -> str:
    return f"%!{verb}(<nil>)" if value is None else f"%!{verb}({type_name(value)}={format_value(value)})"


def _go_syntax(value: Any) -> str:
    if isinstance(value, str):
        return _quote(value)
    return format_value(value)


def _integer(verb: str, flags: str, value: int) -> str:
    sign = "-" if value < 0 else ""
    size = abs(value)
    prefix = "#" in flags
    match verb:
        case "d":
            text = str(size)
        case "x" | "X":
            text = ("0x" if prefix else "") + format(size, "x")
            text = text.upper() if verb == "X" else text
        case "o":
            text = ("0" if prefix else "") + format(size, "o")
        case "b":
            text = format(size, "b")
        case "c" | "q":
            char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
            return char if verb == "c" else f"'{char}'"
        case "U":
            return f"U+{size:04X}"
        case _:
            return _bad(verb, value)
    return _signed(sign + text, flags, value)


def _float(verb: str, flags: str, precision: int | None, value: float) -> str:
    if verb in "fF":
        text = f"{value:.{6 if precision is None else precision}f}"
    elif verb in "eE":
        text = f"{value:.{6 if precision is None else precision}{verb}}"
    elif verb in "gG":
        text = format_float(value) if precision is None else f"{value:.{precision}{verb}}"
    else:
        return _bad(verb, value)
    return _signed(text, flags, value)


def _text(verb: str, flags: str, precision: int | None, value: Any) -> str:
    if value is None:
        return _bad(verb, value)
    text = format_value(value)
    if verb in "sq" and isinstance(value, list | tuple) and type(value) in (list, tuple):
        return "[" + " ".join(_format(verb, flags, precision, item) for item in value) + "]"
    if verb in "sq":
        text = text if precision is None else text[:precision]
        return text if verb == "s" else _quote(text)
    if verb in "xX" and not isinstance(value, Struct):
        text = text.encode().hex()
        return text.upper() if verb == "X" else text
    return _bad(verb, value)


def _quote(text: str) -> str:
    return encode(text, html=False).replace("\\u2028", "\u2028").replace("\\u2029", "\u2029")
