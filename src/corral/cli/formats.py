"""Numbers, sizes and times as the tables show them. Pure. Source: ollama format/, 2026-08."""

from __future__ import annotations

import math
from datetime import datetime

_BYTE_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_NEVER_YEARS = 20  # an expiry further ahead than this is shown as Forever


def human_bytes(size: int) -> str:
    """Decimal units: `999 B`, `1.0 KB`, `4.7 GB`, `13 GB`; whole values without a decimal."""
    for unit, name in _BYTE_UNITS:
        if size >= unit:
            value = size / unit
            return f"{value:.1f} {name}" if value < 10 and not value.is_integer() else f"{int(value)} {name}"
    return f"{size} B"


def human_number(count: int) -> str:
    """Counts of parameters: `7B`, `6.7B`, `133.70M`, `12K`, `999`."""
    for unit, name, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count // unit}{name}" if count % unit == 0 else f"{count / unit:.{digits}f}{name}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


def human_duration(seconds: float) -> str:
    """A length of time in one rough unit: `4 minutes`, `About an hour`, `2 days`."""
    whole = int(seconds)
    if whole < 60:
        return "Less than a second" if whole < 1 else "1 second" if whole == 1 else f"{whole} seconds"
    if whole < 3600:
        return "About a minute" if whole < 120 else f"{whole // 60} minutes"
    hours = math.floor(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, size, unit in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months")):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def human_time(moment: datetime | None, now: datetime) -> str:
    """`2 days ago`, `4 minutes from now`, `Forever`; None and the year 1 (Go's zero time) are `Never`."""
    if moment is None or moment.year <= 1:
        return "Never"
    ago_s = (now - moment).total_seconds()
    if int(-ago_s / 3600) // 24 // 365 > _NEVER_YEARS:
        return "Forever"
    return f"{human_duration(-ago_s)} from now" if ago_s < 0 else f"{human_duration(ago_s)} ago"


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API, nanoseconds cut off; None for nothing or nonsense."""
    if not text:
        return None
    head, dot, tail = text.partition(".")
    if dot:
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        text = f"{head}.{digits[:6]}{tail[len(digits) :]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.astimezone()


def format_g(value: float) -> str:
    """A number as Go's %g prints it: shortest digits, an exponent below 1e-4 and from 1e6 on: `1e+06`, `131072`."""
    number = float(value)
    if number == 0:
        return f"{number:g}"
    exponent = int(f"{number:e}".partition("e")[2])
    if -4 <= exponent < 6:
        return repr(number).removesuffix(".0")
    digits = repr(number).lstrip("-").partition("e")[0].replace(".", "").strip("0")
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' if number < 0 else ''}{digits[0]}{fraction}e{exponent:+03d}"
