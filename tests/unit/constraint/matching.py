"""Whether a text matches a grammar or a schema, by the engine's own compiler; and texts that do."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from corral.constraint.compiler import byte_tokenizer
from corral.constraint.finishing import finished
from corral.constraint.lark import Lark
from corral.constraint.schema import Schema, read_schema

QUOTE = ord('"')


@cache
def tokenizer() -> LLTokenizer:
    """One for all."""
    return byte_tokenizer()


def matcher_of(grammar: str) -> LLMatcher:
    """A matcher at the beginning of a text; fails when the grammar does not compile."""
    made = LLMatcher(tokenizer(), grammar, log_level=0)
    assert not made.is_error(), made.get_error()
    return made


def matches(grammar: str, text: str) -> bool:
    """Whether the whole text matches."""
    matcher, data = matcher_of(grammar), list(text.encode())
    return bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting())


def begins(grammar: str, text: str) -> bool:
    """Whether the text is the beginning of one that matches."""
    data = list(text.encode())
    return bool(matcher_of(grammar).try_consume_tokens(data) == len(data))


def ready(schema: Any, *, lenient: bool = False) -> Schema:
    """A schema, read and finished."""
    return finished(read_schema(schema, "format", lenient=lenient))


def schema_grammar(schema: Any, *, lenient: bool = False) -> str:
    """The grammar of a schema."""
    lark = Lark()
    return lark.text(lark.json(ready(schema, lenient=lenient)))


def sample(grammar: str, draw: random.Random, longest: int = 1500) -> str | None:
    """A text that matches, written byte by byte; None when it does not come to an end."""
    matcher = matcher_of(grammar)
    written = bytearray()
    for step in range(longest):
        mask = matcher.compute_bitmask()
        assert not matcher.is_error(), (grammar, bytes(written), matcher.get_error())
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if matcher.is_accepting() and (not allowed or draw.random() < 0.3):
            return written.decode()
        assert allowed, (grammar, bytes(written))
        byte = _chosen(allowed, draw, hurry=step / longest)
        assert matcher.consume_token(byte)
        written.append(byte)
    return None


def _chosen(allowed: list[int], draw: random.Random, *, hurry: float) -> int:
    """One of the bytes: what closes something more and more often, plain characters rather than odd ones."""
    closing = [byte for byte in allowed if byte in b'"]}']
    if closing and draw.random() < 0.2 + hurry:
        return draw.choice(closing)
    plain = [byte for byte in allowed if 32 <= byte < 127 and byte != 92]
    return draw.choice(plain if plain and draw.random() < 0.9 else allowed)
