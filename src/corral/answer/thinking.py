"""Splits a model's text into thinking and content at a pair of tags, and finds those tags in a Go template.

Whitespace before the opening tag, right behind it and right behind the closing tag is swallowed; without an opening tag
everything is content, whitespace intact. Source: ollama thinking/parser.go and thinking/template.go, 2026-08; what
Ollama loses when the text ends inside a tag, we return.

state     meaning                                        leaves to
OPENING   only blanks or a part of the opening tag       STARTED (tag seen), DONE (other text)
STARTED   opening tag seen, eating blanks                THINKING
THINKING  inside                                         ENDED
ENDED     closing tag seen, eating blanks                DONE
DONE      all is content for good
"""

from __future__ import annotations

from enum import Enum, auto

from corral.gotemplate.detection import infer_tags

__all__ = ["ThinkingParser", "infer_tags", "overlap", "starts_inside"]


class _State(Enum):
    OPENING = auto()
    STARTED = auto()
    THINKING = auto()
    ENDED = auto()
    DONE = auto()


class ThinkingParser:
    """Incremental splitter; `inside` starts it behind the opening tag."""

    def __init__(self, open_tag: str, close_tag: str, inside: bool = False) -> None:
        self.open_tag = open_tag
        self.close_tag = close_tag
        self._state = _State.STARTED if inside else _State.OPENING
        self._held = ""

    @property
    def thinking(self) -> bool:
        """Whether the text fed so far ends inside the thinking."""
        return self._state in (_State.STARTED, _State.THINKING)

    def feed(self, text: str) -> tuple[str, str]:
        """The (thinking, content) that this piece makes certain; a possible part of a tag is held back."""
        self._held += text
        thinking = ""
        if self._state is _State.OPENING:
            content = self._opening()
            if content is not None:
                return "", content
        if self._state is _State.STARTED:
            self._held = self._held.lstrip()
            if not self._held:
                return "", ""
            self._state = _State.THINKING
        if self._state is _State.THINKING:
            thinking = self._inside()
            if self._state is _State.THINKING:
                return thinking, ""
        if self._state is _State.ENDED:
            self._held = self._held.lstrip()
            if self._held:
                self._state = _State.DONE
        content, self._held = self._held, ""
        return thinking, content

    def finish(self) -> tuple[str, str]:
        """What was held back when the text ended: nothing is lost."""
        held, self._held = self._held, ""
        if self._state is _State.THINKING:
            return held, ""
        return "", held

    def _opening(self) -> str | None:
        """Content if the text does not begin with the tag, "" while that is open, None once it does."""
        start = self._held.lstrip()
        if start.startswith(self.open_tag):
            self._held = start.removeprefix(self.open_tag)
            self._state = _State.STARTED
            return None
        if self.open_tag.startswith(start):
            return ""
        self._state = _State.DONE
        content, self._held = self._held, ""
        return content

    def _inside(self) -> str:
        before, closed, after = self._held.partition(self.close_tag)
        if closed:
            self._held = after
            self._state = _State.ENDED
            return before
        keep = overlap(self._held, self.close_tag)
        split = len(self._held) - keep
        before, self._held = self._held[:split], self._held[split:]
        return before


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that begins `tag`."""
    for size in range(min(len(text), len(tag)), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0


def starts_inside(prompt: str, open_tag: str) -> bool:
    """Whether a rendered prompt already opened the thinking."""
    return prompt.rstrip().endswith(open_tag)
