"""Names of what a request's prompt begins with, so that of several runners the one that has read it gets it.

A conversation comes back with all its turns and one more. So each of its turns by a user gives a name to all that
stands before and in it; the system's text and the tools, which many conversations share, give the last. The names are
digests: nothing of the text is kept. Called by chat.py and generate.py; used by sched/affinity.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from corral.core import Message, Tool

_MOST_TURNS = 4  # the last ones; earlier ones were the last ones of earlier requests
_BYTES = 16
_MOST_TEXT = 65536  # characters of a text that count


def of_chat(messages: Sequence[Message], tools: Sequence[Tool], owner: str) -> tuple[str, ...]:
    """The names, the longest beginning first. owner: whose conversation it is; nobody else's has its names."""
    digest = hashlib.blake2b(owner.encode(), digest_size=_BYTES)
    for tool in tools:
        digest.update(tool.name.encode())
    names: list[str] = []
    for message in messages:
        digest.update(f"\0{message.role}\0{len(message.content)}\0{len(message.images)}\0".encode())
        digest.update(message.content[:_MOST_TEXT].encode(errors="replace"))
        if message.role in {"system", "user"}:
            names.append(digest.copy().hexdigest())
    first, turns = names[:1], names[1:][-_MOST_TURNS:]
    return (*reversed(turns), *first)


def of_text(prompt: str, owner: str) -> tuple[str, ...]:
    """The same of a plain prompt: its first thousand characters, if it has as many."""
    if len(prompt) < _HEAD:
        return ()
    return (hashlib.blake2b(f"{owner}\0{prompt[:_HEAD]}".encode(errors="replace"), digest_size=_BYTES).hexdigest(),)


_HEAD = 1000
