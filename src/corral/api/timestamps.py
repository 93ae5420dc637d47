"""RFC 3339 times as Go prints them: up to nine fraction digits, trailing zeros cut."""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache


def utc_now() -> str:
    """The current time, UTC with `Z`."""
    return format_utc(time.time_ns())


def format_utc(unix_ns: int) -> str:
    """Nanoseconds since 1970 as UTC with `Z`."""
    seconds, fraction = divmod(unix_ns, 1_000_000_000)
    if not fraction:
        return f"{_second(seconds)}Z"
    return f"{_second(seconds)}.{fraction:09d}".rstrip("0") + "Z"


def format_local(moment: datetime, extra_ns: int = 0) -> str:
    """An aware datetime with the server's own offset (`Z` when that is UTC); `extra_ns` below its microsecond."""
    local = moment.astimezone()
    offset = local.strftime("%z")
    zone = "Z" if offset in {"+0000", "-0000"} else f"{offset[:3]}:{offset[3:5]}"
    return f"{local.strftime('%Y-%m-%dT%H:%M:%S')}{_fraction(local.microsecond * 1000 + extra_ns)}{zone}"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
