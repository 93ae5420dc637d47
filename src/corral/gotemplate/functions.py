"""The functions a template can call: text/template's builtins and Ollama's four. `evaluator.py` calls them.

`and` and `or` stop at the first operand that decides, so the evaluator handles them; here are only their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

from corral.gotemplate.printf import sprint, sprintf
from corral.gotemplate.values import Struct, TypeNames, equal, format_value, is_true, less, to_json, type_name

SHORT_CIRCUIT = frozenset(("and", "or"))
_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _text_of(args: list[Any]) -> str:
    return sprint(["<no value>" if arg is None else arg for arg in args])


def _html(*args: Any) -> str:
    return "".join(_HTML.get(char, char) for char in _text_of(list(args)))


def _js(*args: Any) -> str:
    return "".join(
        _JS.get(char, char) if char >= " " and char.isprintable() else f"\\u{ord(char):04X}"
        for char in _text_of(list(args))
    )


def _urlquery(*args: Any) -> str:
    return quote_plus(_text_of(list(args)), safe="")


def _printf(template: str, *args: Any) -> str:
    return sprintf(template, list(args))


def _print(*args: Any) -> str:
    return sprint(list(args))


def _println(*args: Any) -> str:
    return " ".join(format_value(arg) for arg in args) + "\n"


def _len(value: Any) -> int:
    if value is None:
        raise ValueError("reflect: call of reflect.Value.Type on zero Value")
    if isinstance(value, str):
        return len(value.encode())  # Go counts bytes
    if isinstance(value, Struct) or not hasattr(value, "__len__"):
        raise ValueError(f"len of type {type_name(value)}")
    return len(value)


def _position(index: Any, limit: int) -> int:
    if index is None:
        raise ValueError("cannot index slice/array with nil")
    if isinstance(index, bool) or not isinstance(index, int):
        raise ValueError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= limit:
        raise ValueError(f"index out of range: {index}")
    return index


def _index(value: Any, *indexes: Any) -> Any:
    if value is None:
        raise ValueError("index of untyped nil")
    for index in indexes:
        match value:
            case None:
                raise ValueError("index of nil pointer")
            case Mapping():
                if index is None:
                    raise ValueError("value is nil; should be of type string")
                if not isinstance(index, str):
                    raise ValueError(f"value has type {type_name(index)}; should be string")
                value = value.get(index)
            case str():
                raw = value.encode()
                value = raw[_position(index, len(raw) - 1)]
            case list() | tuple() | bytes():
                value = value[_position(index, len(value) - 1)]
            case _:
                raise ValueError(f"can't index item of type {type_name(value).removeprefix('*')}")
    return value


def _slice(value: Any, *indexes: Any) -> Any:
    if value is None:
        raise ValueError("slice of untyped nil")
    if len(indexes) > 3:
        raise ValueError(f"too many slice indexes: {len(indexes)}")
    if len(indexes) == 3 and isinstance(value, str):
        raise ValueError("cannot 3-index slice a string")
    if not isinstance(value, str | list | tuple | bytes):
        raise ValueError(f"can't slice item of type {type_name(value).removeprefix('*')}")
    data = value.encode() if isinstance(value, str) else value
    bounds = [_position(index, len(data)) for index in indexes[:2]]
    start, end = (bounds + [0, len(data)][len(bounds) :])[:2]
    if start > end:
        raise ValueError(f"invalid slice index: {start} > {end}")
    cut = data[start:end]
    return cut.decode(errors="replace") if isinstance(value, str) and isinstance(cut, bytes) else cut


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(equal(first, other) for other in others)


def _ne(left: Any, right: Any) -> bool:
    return not equal(left, right)


def _lt(left: Any, right: Any) -> bool:
    return less(left, right)


def _le(left: Any, right: Any) -> bool:
    return less(left, right) or equal(left, right)


def _gt(left: Any, right: Any) -> bool:
    return not _le(left, right)


def _ge(left: Any, right: Any) -> bool:
    return not less(left, right)


def _not(value: Any) -> bool:
    return not is_true(value)


def _call(*_: Any) -> Any:
    raise ValueError("call of nil")  # the evaluator refuses everything else: there are no functions among the values


def _current_date(*_: Any) -> str:
    return datetime.now().astimezone().date().isoformat()


def _yesterday_date(*_: Any) -> str:
    return (datetime.now().astimezone().date() - timedelta(days=1)).isoformat()


def _typescript(value: Any) -> str:
    """The TypeScript type of a schema property. Source: ollama api.ToolProperty.ToTypeScriptType, 2026-08."""
    if not isinstance(value, Struct):
        return "any"
    any_of = value.fields.get("AnyOf")
    if any_of:
        return " | ".join(_typescript(item) for item in any_of)
    names = value.fields.get("Type")
    if not isinstance(names, TypeNames) or not names:
        return "any"
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in names)


def _json(value: Any) -> str:
    return to_json(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": _not,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "eq": _eq,
    "ne": _ne,
    "lt": _lt,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
    "call": _call,
    "html": _html,
    "js": _js,
    "urlquery": _urlquery,
    "json": _json,
    "currentDate": _current_date,
    "yesterdayDate": _yesterday_date,
    "toTypeScriptType": _typescript,
}
FUNCTION_NAMES = frozenset(FUNCTIONS) | SHORT_CIRCUIT
_FIXED = {"not": 1, "len": 1, "ne": 2, "lt": 2, "le": 2, "gt": 2, "ge": 2, "json": 1, "toTypeScriptType": 1}
_AT_LEAST = {"index": 1, "slice": 1, "printf": 1, "eq": 1, "call": 1, "and": 1, "or": 1}


def call(name: str, args: list[Any]) -> Any:
    """Calls a function of FUNCTIONS, its arguments counted before; raises ValueError with Go's words."""
    return FUNCTIONS[name](*args)


def takes_text(name: str, position: int) -> bool:
    """Whether a parameter is a string in Go; the others take anything."""
    return name in ("currentDate", "yesterdayDate") or (name == "printf" and position == 0)


def check_count(name: str, count: int, *, piped: bool) -> None:
    """Raises ValueError unless a function may have that many arguments, and one more from the pipe."""
    given = count + piped
    if name in _FIXED and given != _FIXED[name]:
        raise ValueError(f"wrong number of args for {name}: want {_FIXED[name]} got {given}")
    if given < _AT_LEAST.get(name, 0):
        raise ValueError(f"wrong number of args for {name}: want at least {_AT_LEAST[name]} got {count}")
