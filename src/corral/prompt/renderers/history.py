"""Looks at a conversation that several renderers share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message


def split_system(messages: Sequence[Message], *roles: str) -> tuple[Message | None, Sequence[Message]]:
    """A leading message of one of the roles (`system` unless given), and the others."""
    if messages and messages[0].role in (roles or ("system",)):
        return messages[0], messages[1:]
    return None, messages


def last_index(messages: Sequence[Message], role: str) -> int:
    """Where the last message of a role stands; -1 when there is none."""
    return max((place for place, message in enumerate(messages) if message.role == role), default=-1)


def role_at(messages: Sequence[Message], place: int) -> str:
    """The role of the message at a place; "" before the first and behind the last."""
    return messages[place].role if 0 <= place < len(messages) else ""
