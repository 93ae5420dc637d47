"""Go's fmt for the template functions printf, print and println. Source: Go fmt print.go and format.go, go1.26."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.goquote import quote
from corral.gotemplate.values import (
    Struct,
    format_float,
    format_value,
    prints_itself,
    type_name,
)

MAX_WIDTH = 1_000_000  # Go's own bound
_FLAGS = re.compile(r"[-+# 0]*")
_INDEX = re.compile(r"\[([^\]]*)(\])?")
_DIGITS = re.compile(r"\d+")
_BACKQUOTED = re.compile(r"[^`\x00-\x08\x0a-\x1f\x7f\ufeff]*\Z")


@dataclass(slots=True)
class _Verb:
    """One directive: its flags, width and precision."""

    flags: str
    width: int | None = None
    precision: int | None = None
    go_syntax: bool = False
    named: bool = False

    @property
    def left(self) -> bool:
        return "-" in self.flags or (self.width or 0) < 0

    @property
    def zero(self) -> bool:
        return "0" in self.flags and not self.left


class _Directives:
    """One run over a format."""

    def __init__(self, text: str, args: list[Any]) -> None:
        self._text = text
        self._args = args
        self._position = 0
        self._next = 0
        self._reordered = False
        self._good_index = True
        self._after_index = False

    def run(self) -> str:
        out: list[str] = []
        while True:
            start = self._text.find("%", self._position)
            if start < 0:
                out.append(self._text[self._position :])
                break
            out.append(self._text[self._position : start])
            self._position = start + 1
            out.append(self._directive())
        if not self._reordered and self._next < len(self._args):
            extra = ", ".join(
                "<nil>" if arg is None else f"{type_name(arg)}={format_value(arg)}" for arg in self._args[self._next :]
            )
            out.append(f"%!(EXTRA {extra})")
        return "".join(out)

    def _directive(self) -> str:
        self._good_index, self._after_index = True, False
        flags = self._take(_FLAGS)
        verb = _Verb(flags)
        self._index()
        bad = self._width(verb)
        bad += self._precision(verb)
        if not self._after_index:
            self._index()
        if self._position >= len(self._text):
            return bad + "%!(NOVERB)"
        char = self._text[self._position]
        self._position += 1
        if char == "%":
            return bad + "%"
        if not self._good_index:
            return bad + f"%!{char}(BADINDEX)"
        if self._next >= len(self._args):
            return bad + f"%!{char}(MISSING)"
        value = self._args[self._next]
        self._next += 1
        if char == "v":
            verb.go_syntax, verb.named = "#" in flags, "+" in flags
            verb.flags = flags.replace("#", "").replace("+", "")
        return bad + _format(char, verb, value)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            return ""
        self._position = match.end()
        return match.group()

    def _index(self) -> None:
        """`[n]` chooses the argument that comes next."""
        match = _INDEX.match(self._text, self._position)
        if match is None:
            return
        self._reordered = True
        self._after_index = match.group(2) is not None
        self._position = match.end() if self._after_index else self._position + 1
        number = match.group(1)
        if self._after_index and number.isascii() and number.isdigit() and 1 <= int(number) <= len(self._args):
            self._next = int(number) - 1
        else:
            self._good_index = False

    def _star(self) -> int | None:
        """The argument of a `*`; None when it is no usable number."""
        if not self._text.startswith("*", self._position):
            return None
        self._position += 1
        value = self._args[self._next] if self._next < len(self._args) else None
        self._next += self._next < len(self._args)
        self._after_index = False
        usable = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WIDTH
        return value if usable else None

    def _width(self, verb: _Verb) -> str:
        if self._text.startswith("*", self._position):
            verb.width = self._star()
            return "%!(BADWIDTH)" if verb.width is None else ""
        digits = self._take(_DIGITS)
        if not digits:
            return ""
        if self._after_index:
            self._good_index = False
        verb.width = self._number(digits)
        return ""

    def _precision(self, verb: _Verb) -> str:
        if not self._text.startswith(".", self._position):
            return ""
        self._position += 1
        if self._after_index:
            self._good_index = False
        self._index()
        if self._text.startswith("*", self._position):
            verb.precision = self._star()
            if verb.precision is None or verb.precision < 0:
                verb.precision = None
                return "%!(BADPREC)"
            return ""
        verb.precision = self._number(self._take(_DIGITS) or "0") or 0
        return ""

    def _number(self, digits: str) -> int | None:
        """None for one over the bound, with which Go gives up on the rest of the format."""
        if len(digits) <= len(str(MAX_WIDTH)) and int(digits) <= MAX_WIDTH:
            return int(digits)
        self._position = len(self._text)
        return None


def sprintf(template: str, args: list[Any]) -> str:
    """`fmt.Sprintf`: wrong or missing arguments show as `%!verb(...)`, as in Go; nothing is raised."""
    return _Directives(template, args).run()


def sprint(args: list[Any]) -> str:
    """`fmt.Sprint`: a blank between operands when neither is a string."""
    parts: list[str] = []
    for position, value in enumerate(args):
        if position and not isinstance(value, str) and not isinstance(args[position - 1], str):
            parts.append(" ")
        parts.append(format_value(value))
    return "".join(parts)


def _pad(text: str, verb: _Verb) -> str:
    width = abs(verb.width or 0)
    if len(text) >= width:
        return text
    return text.ljust(width) if verb.left else text.rjust(width, "0" if verb.zero else " ")


def _format(char: str, verb: _Verb, value: Any) -> str:
    """An argument of the format."""
    if value is None:
        return _pad("<nil>", verb) if char in "Tv" else f"%!{char}(<nil>)"
    if char == "T":
        return _pad(type_name(value), verb)
    pointer = isinstance(value, Struct) and value.type_name.startswith("*")
    return ("&" if pointer else "") + _value(char, verb, value)


def _value(char: str, verb: _Verb, value: Any) -> str:
    """A value, also one inside another: lists and records hand the verb on to what they hold."""
    if prints_itself(value) and char in "vsxXq" and not verb.go_syntax:
        return _string(char, verb, format_value(value))
    match value:
        case None:
            return "<nil>"
        case bool():
            return _pad(format_value(value), verb) if char in "tv" else _bad(char, verb, value)
        case int():
            return _integer(char, verb, value)
        case float():
            return _float(char, verb, value)
        case str():
            return _string(char, verb, value)
        case _:
            return _composite(char, verb, value)


def _composite(char: str, verb: _Verb, value: Any) -> str:
    match value:
        case bytes() if char in "sqxX":
            return _string(char, verb, value.decode("utf-8", "replace"))
        case Struct(fields=fields):
            return "{" + " ".join(_named(char, verb, name, item) for name, item in fields.items()) + "}"
        case Mapping():
            pairs = [f"{_value(char, verb, key)}:{_value(char, verb, value[key])}" for key in sorted(value, key=str)]
            if verb.go_syntax:
                return f"{type_name(value)}{{{', '.join(pairs)}}}"
            return "map[" + " ".join(pairs) + "]"
        case _:
            items = [_value(char, verb, item) for item in value]
            return f"{type_name(value)}{{{', '.join(items)}}}" if verb.go_syntax else "[" + " ".join(items) + "]"


def _named(char: str, verb: _Verb, name: str, value: Any) -> str:
    text = _value(char, verb, value)
    return f"{name}:{text}" if verb.named or verb.go_syntax else text


def _bad(char: str, verb: _Verb, value: Any) -> str:
    return f"%!{char}({type_name(value)}={_value('v', verb, value)})"


def _integer(char: str, verb: _Verb, value: int) -> str:
    match char:
        case "v" | "d":
            return _digits(verb, value, "d")
        case "b" | "o" | "O" | "x" | "X":
            return _digits(verb, value, char)
        case "c" | "q":
            shown = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
            return _pad(shown if char == "c" else quote(shown, "'", ascii_only="+" in verb.flags), verb)
        case "U":
            return _unicode(verb, value)
        case _:
            return _bad(char, verb, value)


def _digits(verb: _Verb, value: int, char: str) -> str:
    sign = "-" if value < 0 else "+" if "+" in verb.flags else " " if " " in verb.flags else ""
    digits = format(abs(value), char.lower() if char in "Oo" else char)
    fill = 0
    if verb.precision is not None:
        if verb.precision == 0 and value == 0:
            return " " * abs(verb.width or 0)
        fill = verb.precision
    elif verb.zero and verb.width is not None:
        fill = verb.width - len(sign)
    digits = digits.rjust(fill, "0")
    prefix = {"O": "0o"}.get(char, "")
    if "#" in verb.flags:
        octal = "" if digits.startswith("0") else "0"
        prefix = {"b": "0b", "o": octal, "x": "0x", "X": "0X"}.get(char, prefix)
    return _pad(sign + prefix + digits, _Verb(verb.flags.replace("0", ""), verb.width))


def _unicode(verb: _Verb, value: int) -> str:
    text = f"U+{value & (2**64 - 1):0{max(4, verb.precision or 0)}X}"
    if "#" in verb.flags and 0 <= value <= 0x10FFFF and chr(value).isprintable():
        text += f" '{chr(value)}'"
    return _pad(text, _Verb(verb.flags.replace("0", ""), verb.width))


def _float(char: str, verb: _Verb, value: float) -> str:
    precision = verb.precision
    if char in "fFeE":
        text = f"{value:.{6 if precision is None else precision}{char.lower() if char in 'fF' else char}}"
    elif char in "gGv":
        text = format_float(value) if precision is None else f"{value:.{precision}g}"
        text = text.upper() if char == "G" else text
    elif char in "xX":
        text = _hexadecimal(value)
        text = text.upper() if char == "X" else text
    else:
        return _bad(char, verb, value)
    finite = value - value == 0
    if not finite:
        text = format_float(value)
        verb = _Verb(verb.flags.replace("0", ""), verb.width)
    if text[0] not in "+-" and finite | ("N" not in text):
        text = ("+" if "+" in verb.flags else " " if " " in verb.flags else "") + text
    elif text[0] == "+" and "+" not in verb.flags and char != "v" and " " in verb.flags:
        text = " " + text[1:]
    if verb.zero and text[0] in "+- ":
        return text[0] + _pad(text[1:], _Verb(verb.flags, max(0, abs(verb.width or 0) - 1)))
    return _pad(text, verb)


def _hexadecimal(value: float) -> str:
    """As strconv prints with verb x: the shortest mantissa, an exponent of two digits at least."""
    mantissa, _, exponent = value.hex().partition("p")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}p{exponent[0]}{int(exponent[1:]):02d}"


def _string(char: str, verb: _Verb, text: str) -> str:
    match char:
        case "v" | "s" | "q":
            text = text if verb.precision is None else text[: verb.precision]
            if char == "v" and verb.go_syntax:
                return _pad(quote(text), verb)
            if char != "q":
                return _pad(text, verb)
            if "#" in verb.flags and _BACKQUOTED.match(text):
                return _pad(f"`{text}`", verb)
            return _pad(quote(text, ascii_only="+" in verb.flags), verb)
        case "x" | "X":
            data = text.encode("utf-8", "replace")[: verb.precision]
            prefix = "0" + char if "#" in verb.flags and data else ""
            pairs = [f"{byte:02{char}}" for byte in data]
            shown = f" {prefix}".join(pairs) if " " in verb.flags else "".join(pairs)
            return _pad(prefix + shown, verb)
        case _:
            return _bad(char, verb, text)
