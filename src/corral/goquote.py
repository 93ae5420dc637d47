"""Go's %q: texts between quotes, as Ollama's error texts and Go's templates show them. Source: Go strconv.Quote."""

from __future__ import annotations

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """The text between two marks, escaped; with `ascii_only` whatever is not ASCII is escaped too."""
    return mark + "".join(_escape(char, mark, ascii_only=ascii_only) for char in text) + mark


def _escape(char: str, mark: str, *, ascii_only: bool) -> str:
    if char == mark:
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if 0xD800 <= code < 0xE000:
        return "\\ufffd" if ascii_only else "\ufffd"  # half a character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
