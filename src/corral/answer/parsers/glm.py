"""glm-4.7, glm-ocr: `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>…</tool_call>`, values by schema.

glm-4.7 begins inside the thinking unless that is off; otherwise, and in glm-ocr always, thinking is what stands in a
`<think>` at the very beginning. Tags that the model forgot are put in. Source: ollama model/parsers/glm46.go, glm47.go,
glmocr.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import Schemas
from corral.answer.parsers.elements import Root, Tag, read_inside, read_tags
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.answer.parsers.qwen3coder import CALL, CALL_END, CALLING, CONTENT
from corral.answer.parsers.qwen35 import THINK, THINK_END
from corral.core import Tool
from corral.goquote import quote

_THINKING = Mode(Kind.THINKING, Marks(THINK_END))
_ROOT = "tool_call"
_KEY, _VALUE = "arg_key", "arg_value"
_TAG = re.compile(f"<(?P<close>/?)(?P<tag>{_KEY}|{_VALUE})>")
_BLANK = re.compile(f"[{BLANKS}]")
_CYCLE = ((_KEY, False), (_KEY, True), (_VALUE, False), (_VALUE, True))  # tags in order: (tag, whether it closes)


class GLMParser(MarkedParser):
    """`thinks`: the answer begins inside the thinking."""

    def __init__(self, tools: Sequence[Tool], *, thinks: bool) -> None:
        super().__init__(_THINKING if thinks else CONTENT)
        if not thinks:
            self._await(THINK, _THINKING)
        self._schemas = Schemas(tools)
        self._required = {tool.name: _required(tool) for tool in reversed(tools)}

    def _meet(self, mark: str, text: str) -> None:
        if mark == CALL:
            self._enter(CALLING)
            return
        if mark == CALL_END:
            self._read_call(text, CALL_END)
        self._enter(CONTENT, skip_blanks=True)

    def _end(self, text: str, partial: str) -> None:
        """Only the closing tag may be missing: a call that was cut inside its arguments is none."""
        try:
            self._check_cut(text.strip(BLANKS) if partial else text.lstrip(BLANKS))
        except Unreadable as error:
            self._fail(CALL + text + partial, f"incomplete GLM tool call: {error}")
            return
        self._read_call(text, partial)

    def _read_call(self, text: str, end: str) -> None:
        try:
            root = _read(text.strip(BLANKS))
            _check(root)
        except Unreadable as error:
            self._fail(CALL + text + end, str(error))
            return
        name = root.text.strip(BLANKS)
        self._call(name, {key: self._schemas.value(name, key, value) for key, value in _pairs(root)})

    def _check_cut(self, text: str) -> None:
        root = read_inside(text, read_tags(_TAG, text), _ROOT)
        _check(root)
        name = root.text.strip(BLANKS)
        if name not in self._schemas:
            raise Unreadable(f"tool {quote(name)} is not declared")
        keys = [key for key, _ in _pairs(root)]
        if "" in keys:
            raise Unreadable("empty argument name")
        for required in self._required[name]:
            if required not in keys:
                raise Unreadable(f"required argument {quote(required)} is missing for tool {quote(name)}")


def _required(tool: Tool) -> list[str]:
    required = tool.parameters.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _read(text: str) -> Root:
    """The call's elements; where they do not nest, with the tags put in that are missing."""
    tags = read_tags(_TAG, text)
    try:
        return read_inside(text, tags, _ROOT)
    except Unreadable as error:
        whole = _completed(text, tags)
        try:
            return read_inside(whole, read_tags(_TAG, whole), _ROOT)
        except Unreadable:
            raise Unreadable(f"failed to parse XML: {error}") from None


def _check(root: Root) -> None:
    if not root.text.strip(BLANKS):
        raise Unreadable("empty function name")
    keys = sum(child.tag == _KEY for child in root.children)
    values = sum(child.tag == _VALUE for child in root.children)
    if keys != values:
        raise Unreadable(f"mismatched arg_key and arg_value counts: {keys} keys, {values} values")


def _pairs(root: Root) -> list[tuple[str, str]]:
    keys = [child.text.strip(BLANKS) for child in root.children if child.tag == _KEY]
    return list(zip(keys, (child.text for child in root.children if child.tag == _VALUE), strict=True))


def _completed(text: str, tags: list[Tag]) -> str:
    """The text with the missing tags of the cycle key, end of key, value, end of value put in where they must stand."""
    if not tags:
        return text
    name, at, place = text[: tags[0].start], tags[0].start, 0
    out = [name]
    behind_name = _BLANK.search(name)
    if _place(tags[0]) != 0 and behind_name:  # names have no blanks; what follows is a key that was not opened
        first, key = name[: behind_name.start()], name[behind_name.start() :].lstrip(BLANKS)
        out, place = [first, _written(0), key], 1
    for tag in tags:
        before, at, found = text[at : tag.start], tag.end, _place(tag)
        if place != found and place % 2 == 0 and before:
            out += [_written(place), before]
            before, place = "", place + 1
        while place != found:
            if place % 2 == 1 and (place + 1) % 4 == found:
                out.append(before)
                before = ""
            out.append(_written(place))
            place = (place + 1) % 4
        out += [before, _written(found)]
        place = (found + 1) % 4
    if text[at:] and place % 2 == 1:
        out += [text[at:], _written(place)]
        place = (place + 1) % 4
    return "".join([*out, *(_written(missing) for missing in range(place, 4) if place)])


def _place(tag: Tag) -> int:
    return _CYCLE.index((tag.name, tag.closes))


def _written(place: int) -> str:
    name, closes = _CYCLE[place]
    return f"</{name}>" if closes else f"<{name}>"
