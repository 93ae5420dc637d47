"""Bodies of calls, written as JSON without stopping the loop. Used by client.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from corral.aio import run_blocking

INLINE_WEIGHT = 64 * 1024  # a body of so many characters is written in well under a millisecond
_encode = msgspec.json.Encoder().encode


async def encoded(body: Any) -> bytes:
    """The body to send; one that takes long to write is written on the executor."""
    if _weight(body) < INLINE_WEIGHT:
        return _encode(body)
    return await run_blocking(_encode, body)


def _weight(value: Any) -> int:
    """About how many characters a value's JSON has; long lists are not looked into."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_weight, value.values()))
    if isinstance(value, list | tuple):
        return len(value) * 8 + (sum(map(_weight, value)) if len(value) < INLINE_WEIGHT // 8 else 0)
    return 4
