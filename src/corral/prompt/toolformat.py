"""How a model writes tool calls, learnt by rendering sample calls with its own template. `inference/` calls it.

start NAME middle ARGUMENTS (between NAME middle ARGUMENTS)* end

Where arguments are not one JSON object, they end with `arguments_end`; such forms are known, not learnt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from corral.core import Message, ToolCall

_NAMES = ("corral_first_call", "corral_second_call")
_KEYS = ("corral_first_argument", "corral_second_argument")
_BRACKETS = re.compile(r"[\s}\]]*")
_OPENED = re.compile(r"([<\[])([^<>\[\]\s]+)([>\]])")


@dataclass(frozen=True, slots=True)
class ArgumentForm:
    """How arguments are written that are not one JSON object: opening ARGUMENT (separator ARGUMENT)* ending.

    An argument is key VALUE close, `{key}` in `key` its name and `{name}` in `opening` the function's. quote: what
    stands around strings; "" = nothing, `"` = they are JSON.
    """

    key: str
    close: str
    ending: str
    separator: str = ""
    quote: str = ""
    opening: str = ""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The fixed text around names and arguments; `tag` is how a call begins, `{` or `[` if by nothing special."""

    tag: str
    start: str
    middle: str
    between: str
    end: str
    arguments_end: str = ""
    arguments: ArgumentForm | None = None


GENERIC_FORMAT = ToolFormat(
    tag="<tool_call>",
    start='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    end="}\n</tool_call>",
)


def sample_messages(count: int) -> list[Message]:
    """A conversation whose last turn makes one or two calls, to be rendered for `learn_format`."""
    calls = tuple(
        ToolCall(name, {key: "x"}, f"call_{i}", i)
        for i, (name, key) in enumerate(zip(_NAMES[:count], _KEYS, strict=False))
    )
    return [Message("user", "?"), Message("assistant", tool_calls=calls)]


def learn_format(tag: str, one: str, two: str) -> ToolFormat | None:
    """The format, from the rendered `sample_messages(1)` and `(2)`; None if the template does not show it plainly."""
    name = one.find(_NAMES[0])
    begin = one.rfind(tag, 0, name)
    arguments = _arguments(one, 0)
    first, second = _arguments(two, 0), _arguments(two, 1)
    next_name = two.find(_NAMES[1])
    if min(name, begin, next_name) < 0 or None in (arguments, first, second):
        return None
    assert arguments is not None
    assert first is not None
    start, middle = one[begin:name], one[name + len(_NAMES[0]) : arguments[0]]
    between = two[first[1] : next_name]
    if arguments[0] < name or not between:
        return None
    if between.endswith(start):
        end = between.removesuffix(start).rstrip()
    else:  # calls share one opening, as in a list: what closes the object, then whatever closes the list
        end = _closing(tag, one[arguments[1] :])
        if between[-1] != start[-1]:
            return None
    return ToolFormat(tag, start, middle, between, end)


def _closing(tag: str, text: str) -> str:
    """The brackets behind the arguments and the tag's own closing form; what ends the turn is not part of a call."""
    brackets = _BRACKETS.match(text)
    end = brackets.group() if brackets else ""
    for opening, name, closing in _OPENED.findall(tag):
        closed = f"{opening}/{name}{closing}"
        if text.startswith(closed, len(end)):
            return end + closed
    return end.rstrip()


def _arguments(text: str, index: int) -> tuple[int, int] | None:
    """Where the arguments of a sample call stand in a rendered text."""
    found = re.search(r'\{\s*"' + _KEYS[index] + r'"\s*:\s*"x"\s*\}', text)
    return (found.start(), found.end()) if found else None
