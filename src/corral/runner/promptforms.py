"""Prompts as they were sent, compared by what they begin with, so that the engine need not be asked.

A prompt is known in one form or more: as a chat (JSON), as text, as token ids. Slots are found by them (slots.py).
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from corral.runner.client import RunnerClient

MOST_BYTES = 2**20  # of a prompt that are compared
_STEP_BYTES = 4096
_SAMPLE = 2**15  # characters
_MEDIA = re.compile(r"<__media\w*__>")  # the engine's marks

Prompt = dict[str, bytes]  # a prompt's beginning in one or more forms: chat (JSON), text, ids (32 bits a token)


def beginning(body: Mapping[str, Any]) -> Prompt:
    """The form in which a body has its prompt."""
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping):
        prompt = _with_media(prompt)
    if isinstance(prompt, str):
        return {"text": prompt.encode()[:MOST_BYTES]}
    if isinstance(prompt, list):
        return {"ids": words(prompt)}
    text = bytearray(msgspec.json.encode(body.get("tools")))
    for message in body.get("messages", ()):
        if len(text) < MOST_BYTES:
            text += msgspec.json.encode(message)
    return {"chat": bytes(text[:MOST_BYTES])}


def _with_media(prompt: Mapping[str, Any]) -> str:
    """A prompt with what tells its pictures and sounds apart in their places, for two of them may have one text."""
    first, *rest = _MEDIA.split(prompt.get("prompt_string", ""))
    media = [*prompt.get("multimodal_data", ())][: len(rest)]
    names = [*map(_name_of, media), *[""] * (len(rest) - len(media))]
    return first + "".join(name + text for name, text in zip(names, rest, strict=True))


def _name_of(data: str) -> str:
    """Of its length, its beginning and its end: all of a large one would take the loop's time."""
    sample = f"{len(data)} {data[:_SAMPLE]} {data[-_SAMPLE:]}"
    return hashlib.blake2b(sample.encode(), digest_size=16).hexdigest()


async def ids(client: RunnerClient, body: Mapping[str, Any]) -> Prompt:
    """A body's prompt as token ids, where it is text only."""
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping) or any(isinstance(each["content"], list) for each in body.get("messages", ())):
        return {}
    if isinstance(prompt, list):
        return {"ids": words(prompt)}
    text = prompt if isinstance(prompt, str) else await client.apply_template(dict(body))
    return {"ids": words(await client.tokenize(text, add_special=True))}


def words(tokens: list[int]) -> bytes:
    """Token ids as 32-bit words."""
    return array("I", tokens[: MOST_BYTES // 4]).tobytes()


def size(prompt: Prompt) -> int:
    """About how many bytes of text a prompt has."""
    return max(map(len, prompt.values()), default=0)


def shared(held: Prompt, new: Prompt) -> int:
    """Bytes that two prompts begin with in common, in the form that shows most."""
    return max((_common(held[form], new[form]) for form in held.keys() & new.keys()), default=0)


def shared_share(held: Prompt, new: Prompt) -> float:
    """How much of the new prompt is held already."""
    return max(
        (_common(held[form], new[form]) / max(1, len(new[form])) for form in held.keys() & new.keys()), default=0
    )


def kept_share(held: Prompt, new: Prompt) -> float:
    """How much of what is held the new prompt goes on with."""
    return max(
        (_common(held[form], new[form]) / max(1, len(held[form])) for form in held.keys() & new.keys()), default=0
    )


def _common(one: bytes, other: bytes) -> int:
    """Length of the common beginning."""
    end = min(len(one), len(other))
    at = 0
    while at < end and one[at : at + _STEP_BYTES] == other[at : at + _STEP_BYTES]:
        at += _STEP_BYTES
    while at < end and one[at] == other[at]:
        at += 1
    return min(at, end)
